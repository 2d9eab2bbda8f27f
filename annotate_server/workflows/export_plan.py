"""What an export holds: approved labels under pseudonyms, with the numbers that their segments get."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from annotate_server.domain.annotation import Label
from annotate_server.domain.errors import InvalidRequest, StateError
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.learning_ports import PartStore
from annotate_server.domain.project import Project
from annotate_server.domain.stored import KnownCase
from annotate_server.domain.training import Part, TrainingEntry, TrainingSet
from annotate_server.domain.volume import Modality
from annotate_server.workflows.curate import approved_labels
from annotate_server.workflows.label_contents import held_segments, listed_segments
from annotate_server.workflows.merging import matched
from annotate_server.workflows.parts import patient_of
from annotate_server.workflows.records import Records
from annotate_server.workflows.training_examples import corresponding

_DIGITS = 10
_RESERVED = frozenset({"background", "ignore"})


class ExportFormat(StrEnum):
    """The layouts that others train from."""

    NNUNET = "nnunet"
    MSD = "msd"
    BIDS = "bids"


@dataclass(frozen=True)
class ExportOrder:
    """What shall be exported: a project, of one modality where it has several.

    `number` is the dataset's number for the formats that have one, `suffix` what BIDS calls the volumes (`T1w`), where
    their description does not tell.
    """

    project_id: str
    format: ExportFormat
    modality: Modality | None = None
    number: int = 500
    suffix: str | None = None


@dataclass(frozen=True)
class ExportCase:
    """One label under its pseudonyms.

    `patient` and `scan` name patient and case, `speaks_fully` says that the label lists every segment and all slices.
    """

    case: KnownCase
    label: Label
    patient: str
    scan: str
    part: Part
    speaks_fully: bool

    @property
    def is_held_back(self) -> bool:
        """Say whether the label may not be learned from."""
        return self.part is not Part.TRAIN


@dataclass(frozen=True)
class ExportPlan:
    """Everything that is exported; `segments` are numbered from 1 without gaps, `notes` are sentences for a person."""

    project: Project
    order: ExportOrder
    modality: Modality | None
    segments: tuple[Segment, ...]
    cases: tuple[ExportCase, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_silence(self) -> bool:
        """Say whether some label says nothing about some voxels."""
        return not all(case.speaks_fully for case in self.cases)

    @property
    def silent_value(self) -> int:
        """Return what stands where a label says nothing: the highest number, as nnU-Net asks for."""
        return len(self.segments) + 1

    @property
    def name(self) -> str:
        """Return the project's id as a word of letters and digits."""
        words = re.split(r"[^A-Za-z0-9]+", self.project.id)
        return "".join(word[:1].upper() + word[1:] for word in words) or "Project"

    @property
    def fingerprint(self) -> str:
        """Return what the numbers in the files mean, as a digest: files of another meaning are written anew."""
        meaning = [(s.index, s.name, s.kind.value if s.kind else "") for s in self.segments]
        return hashlib.sha256(repr((meaning, self.has_silence, self.order.format.value)).encode()).hexdigest()[:16]

    def entry(self, case: ExportCase) -> TrainingEntry:
        """Return a case as one of a training set with the plan's segments."""
        known = corresponding(self.segments, listed_segments(case.label)).values()
        return TrainingEntry(
            case_id=case.case.id,
            label_id=case.label.id,
            patient=case.patient,
            part=case.part,
            segments=tuple(segment for segment in self.segments if segment.index in set(known)),
            is_partial=case.label.is_partial,
        )

    @property
    def training_set(self) -> TrainingSet:
        """Return the set whose indices the files hold."""
        return TrainingSet(self.project.id, self.segments, ())


def planned(order: ExportOrder, records: Records, parts: PartStore) -> ExportPlan:
    """Return what an export holds; raises StateError where nothing is approved, InvalidRequest where it is ambiguous.

    Patients who were drawn for the gate or the test are exported apart; who was not drawn yet trains.
    """
    project = records.projects.get(order.project_id)
    found = [(label, records.cases.get(label.case_id)) for label in approved_labels(project, records)]
    here = [(label, case) for label, case in found if not case.is_missing]
    modality = _modality(order, [case for _, case in here])
    chosen = [(label, case) for label, case in here if case.modality is modality]
    segments = _numbered(project, [segment for label, _ in chosen for segment in held_segments(records.blobs, label)])
    drawn, key = parts.parts(project.id), parts.key(project.id)
    cases, notes = [], list(_gone(len(found) - len(here)))
    for label, case in chosen:
        known = set(corresponding(segments, listed_segments(label)).values())
        if not known:
            notes.append(f"Label {label.id} lists none of the project's segments and is left out.")
            continue
        patient = patient_of(case)
        part = drawn[patient].part if patient in drawn else Part.TRAIN
        speaks = len(known) == len(segments) and not label.is_partial
        cases.append(ExportCase(case, label, _pseudonym(key, patient), _pseudonym(key, case.id), part, speaks))
    if not cases:
        raise StateError(f"no label of the project {project.id} is approved", remedy="Approve labels first.")
    return ExportPlan(project, order, modality, segments, tuple(cases), tuple(notes))


def _pseudonym(key: bytes, name: str) -> str:
    """Return a name that stands for another one in every export of a project, and that nobody without the key finds."""
    return hmac.digest(key, f"export\0{name}".encode(), hashlib.sha256).hex()[:_DIGITS]


def _gone(number: int) -> Iterable[str]:
    return (f"The files of {number} approved cases are not there: they are left out.",) if number else ()


def _modality(order: ExportOrder, cases: Sequence[KnownCase]) -> Modality | None:
    """Return the one modality of an export."""
    present = {case.modality for case in cases}
    if order.modality is not None:
        return order.modality
    if len(present) > 1:
        listing = ", ".join(sorted(str(each) if each else "unknown" for each in present))
        raise InvalidRequest(
            f"the project has labels on volumes of several modalities ({listing})",
            remedy="Export them one at a time: --modality CT.",
        )
    return next(iter(present), None)


def _numbered(project: Project, held: Iterable[Segment]) -> tuple[Segment, ...]:
    """Return the project's segments, or else those that its labels hold, numbered from 1 without gaps."""
    segments = project.segments
    if not segments:
        for segment in held:
            segments = matched(segments, (segment,))[1]
    reserved = [segment.name for segment in segments if segment.name.strip().lower() in _RESERVED]
    if reserved:
        raise InvalidRequest(
            f"a segment is called {reserved[0]!r}, which means something else in an export", remedy="Rename it."
        )
    return tuple(replace(segment, index=number) for number, segment in enumerate(segments, 1))
