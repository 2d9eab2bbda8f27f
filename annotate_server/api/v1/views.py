"""What answers say: plain values of the nouns, never a patient's identifier and never a path of the server."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict

from annotate_server.domain.annotation import Label, Session
from annotate_server.domain.dicom_uids import series_uid, study_uid
from annotate_server.domain.errors import Problem
from annotate_server.domain.job import Job
from annotate_server.domain.labelmap import CodedConcept, Segment, labelmap_dtype
from annotate_server.domain.project import Project, WorkItem
from annotate_server.domain.store_ports import User
from annotate_server.domain.stored import KnownCase, StoredPrediction
from annotate_server.workflows.dicom_serving import ShownSlice


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
        )


class GeometryView(View):
    """The grid: everything (k, j, i); `direction` are unit vectors of the three axes in LPS, `digest` names it."""

    digest: str
    shape: list[int]
    spacing_mm: list[float]
    direction: list[list[float]]
    origin_mm: list[float]


class SliceView(View):
    """Slice k of a case: a frame, counted from 1, of an instance that DICOMweb serves."""

    sop_instance_uid: str
    frame: int
    k: int


class CaseView(View):
    """A case; `geometry`, `unit` and `warnings` are there once its voxels were read.

    `name` is what people know it by; `patient` is a pseudonym. `study_uid` and `series_uid` are what DICOMweb serves it
    as, also where it came in another format. `instances`, where one case is asked for, are its slices in the order of
    k; none where the case's grid is not that of its images (a tilted gantry) or its files are not there.
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


class LabelView(View):
    """A label: who drew it, from what, and what a second person said."""

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
    state: str
    reviewer: str | None
    comment: str
    reviewed_at: datetime | None

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
            state=label.state,
            reviewer=label.reviewer,
            comment=label.comment,
            reviewed_at=label.reviewed_at,
        )


class WorkItemView(View):
    """Where a case stands in a project."""

    case: str
    status: str
    person: str | None
    session: str | None
    label: str | None
    reason: str
    predicted_by: str | None
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
