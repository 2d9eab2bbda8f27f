"""What answers say: plain values of the nouns, never a patient's identifier and never a path of the server."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict

from annotate_server.domain.annotation import Label, SendingState, Session
from annotate_server.domain.dicom_uids import segmentation_uids, series_uid, study_uid
from annotate_server.domain.errors import Problem
from annotate_server.domain.job import Job
from annotate_server.domain.labelmap import CodedConcept, Segment, labelmap_dtype
from annotate_server.domain.project import Project, WorkItem
from annotate_server.domain.store_ports import User
from annotate_server.domain.stored import KnownCase, StoredPrediction
from annotate_server.workflows.dicom_serving import ShownSlice
from annotate_server.workflows.drafted import Drafted
from annotate_server.workflows.ingest import Refused


class View(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True)


class ProblemView(View):
    """What was wrong, as it is stored."""

    type: str
    title: str
    detail: str

    @classmethod
    def of(cls, problem: Problem | None) -> Self | None:
        """Return the view of a problem, if there is one."""
        return None if problem is None else cls(type=problem.type, title=problem.title, detail=problem.detail)


class SegmentView(View):
    """A segment; codes are [value, scheme, meaning]."""

    index: int
    name: str
    colour: list[int]
    kind: list[str] | None
    category: list[str] | None
    laterality: list[str] | None

    @classmethod
    def of(cls, segment: Segment) -> Self:
        """Return the view of a segment."""
        return cls(
            index=segment.index,
            name=segment.name,
            colour=list(segment.colour),
            kind=_code(segment.kind),
            category=_code(segment.category),
            laterality=_code(segment.laterality),
        )


class ProjectView(View):
    """A project."""

    id: str
    title: str
    segments: list[SegmentView]
    apps: list[str]
    modalities: list[str]
    review: str
    send_labels_back: bool
    strategy: str

    @classmethod
    def of(cls, project: Project) -> Self:
        """Return the view of a project."""
        return cls(
            id=project.id,
            title=project.title,
            segments=[SegmentView.of(segment) for segment in project.segments],
            apps=list(project.apps),
            modalities=[str(each) for each in project.modalities],
            review=str(project.review),
            send_labels_back=project.send_labels_back,
            strategy=project.strategy,
        )


class GeometryView(View):
    """The grid: everything (k, j, i); `direction` are unit vectors of the three axes in LPS, `digest` names it."""

    digest: str
    shape: list[int]
    spacing_mm: list[float]
    direction: list[list[float]]
    origin_mm: list[float]


class SliceView(View):
    """Slice k of a case: a frame, counted from 1, of an instance that DICOMweb serves.

    `shift_ji` says how far, in voxels along j and i, its first voxel lies from the case's grid's: 0 nearly always.
    For a tilted gantry the grid is upright, and voxel (row, column) of the image is voxel (k, row + shift, column +
    shift) of the case, each shift rounded to the nearest whole number (a half to the even one).
    """

    sop_instance_uid: str
    frame: int
    k: int
    shift_ji: list[float] = [0.0, 0.0]


class CaseView(View):
    """A case; `geometry`, `unit` and `warnings` are there once its voxels were read.

    `name` is what people know it by; `patient` is a pseudonym. `study_uid` and `series_uid` are what DICOMweb serves it
    as, also where it came in another format. `instances`, where one case is asked for, are its slices in the order of
    k; none where its files are not there.
    """

    id: str
    name: str
    patient: str
    modality: str | None
    declared_modality: str | None
    format: str
    description: str
    roles: list[str]
    files: int
    study_uid: str
    series_uid: str
    frame_of_reference: str | None
    geometry: GeometryView | None
    unit: str | None
    warnings: list[str]
    problem: ProblemView | None
    is_uploaded: bool
    is_missing: bool
    added_at: datetime
    instances: list[SliceView] = []

    @classmethod
    def of(cls, known: KnownCase, slices: Sequence[ShownSlice] = ()) -> Self:
        """Return the view of a case."""
        reference, facts = known.case.reference, known.facts
        return cls(
            id=known.id,
            name=known.name,
            patient=known.case.patient.pseudonym(),
            modality=known.modality,
            declared_modality=known.declared,
            format=reference.format,
            description=reference.description,
            roles=list(known.case.volumes),
            files=len(reference.files),
            study_uid=study_uid(known.case),
            series_uid=series_uid(known.case),
            frame_of_reference=reference.frame_of_reference,
            geometry=_geometry(known),
            unit=None if facts is None else facts.unit,
            warnings=[] if facts is None else list(facts.warnings),
            problem=ProblemView.of(reference.problem),
            is_uploaded=known.is_uploaded,
            is_missing=known.is_missing,
            added_at=known.added_at,
            instances=[SliceView(**vars(each)) for each in slices],
        )


class RefusedView(View):
    """Something among the studies that can be no case: `kind` is the type of the problem, `reason` says what to do."""

    name: str
    format: str
    series_uid: str | None
    kind: str
    reason: str

    @classmethod
    def of(cls, refused: Refused) -> Self:
        """Return the view of what cannot be used."""
        return cls(
            name=refused.name,
            format=refused.stored.format,
            series_uid=refused.stored.series_uid,
            kind=refused.kind,
            reason=refused.reason,
        )


class CasesView(View):
    """A page of cases; `total` counts all that the filter lets through."""

    cases: list[CaseView]
    total: int


class SessionView(View):
    """A session; `dtype` is that of its draft's voxels, `geometry` the digest of its grid."""

    id: str
    project: str
    case: str
    person: str
    state: str
    revision: int
    can_undo: bool
    can_redo: bool
    segments: list[SegmentView]
    locked: list[int]
    geometry: str
    shape: list[int]
    dtype: str
    parent: str | None
    model_version: str | None
    opened_at: datetime | None
    lease_until: datetime | None
    active_s: float

    @classmethod
    def of(cls, session: Session) -> Self:
        """Return the view of a session."""
        return cls(
            id=session.id,
            project=session.project_id,
            case=session.case_id,
            person=session.person,
            state=session.state,
            revision=session.revision,
            can_undo=session.can_undo,
            can_redo=session.can_redo,
            segments=[SegmentView.of(segment) for segment in session.segments],
            locked=sorted(session.locked),
            geometry=session.geometry.digest(),
            shape=list(session.geometry.shape),
            dtype=labelmap_dtype(session.segments).name,
            parent=session.parent,
            model_version=session.model_version,
            opened_at=session.opened_at,
            lease_until=session.lease_until,
            active_s=session.active_s,
        )


class SendingView(View):
    """A label's way to the archive: pending, sent, or impossible; `reason` says why it is not there yet, or never."""

    state: str
    attempts: int
    reason: str
    next_at: datetime | None
    sent_at: datetime | None
    sop_instance_uid: str

    @classmethod
    def of(cls, label: Label) -> Self | None:
        """Return the view of a label's sending; None for one that stays here."""
        sending = label.sending
        if sending is None:
            return None
        return cls(
            state=sending.state,
            attempts=sending.attempts,
            reason=sending.reason,
            next_at=sending.next_at if sending.state is SendingState.PENDING else None,
            sent_at=sending.sent_at,
            sop_instance_uid=segmentation_uids(label.id)[1],
        )


class LabelView(View):
    """A label: who drew it, from what, what a second person said, and whether it goes back to the archive.

    A partial one speaks only about the slices in which it holds something.
    """

    id: str
    project: str
    case: str
    author: str
    is_author_verified: bool
    layers: list[list[SegmentView]]
    parent: str | None
    model_version: str | None
    session: str | None
    events: int
    active_s: float
    made_at: datetime | None
    is_partial: bool
    state: str
    reviewer: str | None
    comment: str
    reviewed_at: datetime | None
    sending: SendingView | None

    @classmethod
    def of(cls, label: Label) -> Self:
        """Return the view of a label."""
        return cls(
            id=label.id,
            project=label.project_id,
            case=label.case_id,
            author=label.author,
            is_author_verified=label.is_author_verified,
            layers=[[SegmentView.of(segment) for segment in layer.segments] for layer in label.layers],
            parent=label.parent,
            model_version=label.model_version,
            session=label.session_id,
            events=label.events,
            active_s=label.active_s,
            made_at=label.made_at,
            is_partial=label.is_partial,
            state=label.state,
            reviewer=label.reviewer,
            comment=label.comment,
            reviewed_at=label.reviewed_at,
            sending=SendingView.of(label),
        )


class WorkItemView(View):
    """Where a case stands in a project; `difficulty` is how unsure the model was of its draft, 0 to 1."""

    case: str
    status: str
    person: str | None
    session: str | None
    label: str | None
    reason: str
    predicted_by: str | None
    difficulty: float | None
    changed_at: datetime | None

    @classmethod
    def of(cls, item: WorkItem) -> Self:
        """Return the view of an item."""
        return cls(
            case=item.case_id,
            status=item.status,
            person=item.person,
            session=item.session_id,
            label=item.label_id,
            reason=item.reason,
            predicted_by=item.predicted_by,
            difficulty=item.difficulty,
            changed_at=item.changed_at,
        )


class PredictionView(View):
    """A stored whole draft."""

    id: str
    case: str
    model: str
    version: str
    segments: list[SegmentView]
    notes: list[str]
    made_at: datetime

    @classmethod
    def of(cls, stored: StoredPrediction) -> Self:
        """Return the view of a prediction."""
        return cls(
            id=stored.id,
            case=stored.case_id,
            model=stored.model,
            version=stored.version,
            segments=[SegmentView.of(segment) for segment in stored.layer.segments],
            notes=list(stored.notes),
            made_at=stored.made_at,
        )


class DraftedView(View):
    """What a model made of a session's case, before it was corrected.

    `segments` have the indices of the session. `unsure` is how unsure the model was in each slice k, 0 to 1; empty
    where it does not say.
    """

    prediction: str
    model: str
    version: str
    segments: list[SegmentView]
    notes: list[str]
    unsure: list[float]
    made_at: datetime

    @classmethod
    def of(cls, found: Drafted) -> Self:
        """Return the view of a draft."""
        stored = found.prediction
        return cls(
            prediction=stored.id,
            model=stored.model,
            version=stored.version,
            segments=[SegmentView.of(segment) for segment in found.segments],
            notes=list(stored.notes),
            unsure=list(found.unsure),
            made_at=stored.made_at,
        )


class JobView(View):
    """A job; `order` and `result` are words of its kind."""

    id: str
    kind: str
    order: dict[str, str]
    priority: str
    person: str
    state: str
    progress: float
    message: str
    attempts: int
    result: dict[str, str]
    problem: ProblemView | None
    has_ended: bool
    made_at: datetime | None
    begun_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return the view of a job."""
        return cls(
            id=job.id,
            kind=job.kind,
            order=dict(job.order),
            priority=job.priority.name.lower(),
            person=job.person,
            state=job.state,
            progress=job.progress,
            message=job.message,
            attempts=job.attempts,
            result=dict(job.result),
            problem=ProblemView.of(job.problem),
            has_ended=job.has_ended,
            made_at=job.made_at,
            begun_at=job.begun_at,
            ended_at=job.ended_at,
        )


class UserView(View):
    """Somebody who may sign in."""

    name: str
    role: str
    made_at: datetime

    @classmethod
    def of(cls, user: User) -> Self:
        """Return the view of a user."""
        return cls(name=user.name, role=user.role, made_at=user.made_at)


def _code(concept: CodedConcept | None) -> list[str] | None:
    return None if concept is None else [concept.value, concept.scheme, concept.meaning]


def _geometry(known: KnownCase) -> GeometryView | None:
    if known.facts is None:
        return None
    grid = known.facts.geometry
    return GeometryView(
        digest=grid.digest(),
        shape=list(grid.shape),
        spacing_mm=list(grid.spacing_mm),
        direction=[list(axis) for axis in grid.direction],
        origin_mm=list(grid.origin_mm),
    )
