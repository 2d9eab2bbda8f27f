"""Curate: the approved labels of a project as a training set: a frozen list with the part of each patient.

**Which labels.** The newest approved one of every case; where a project asks for no review, a submitted one counts as
approved. A label that was returned later takes nothing back from an approved one before it. **Which segments.** Those
that the model answers already, in the order of its channels, then those of the project that it lacks: a network keeps
its outputs and gets new ones behind them. **What is new.** A label that no version of the model was trained on, whether
that version was promoted or not.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.case import PatientKey
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import StateError
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.learning import LearnedModel
from annotate_server.domain.learning_ports import ModelStore, PartStore
from annotate_server.domain.ports import ModelRegistry
from annotate_server.domain.project import Project, ReviewPolicy
from annotate_server.domain.store_ports import Blobs
from annotate_server.domain.stored import KnownCase
from annotate_server.domain.training import Part, TrainingEntry, TrainingSet
from annotate_server.workflows.label_contents import held_segments, listed_segments
from annotate_server.workflows.merging import matched
from annotate_server.workflows.parts import Parts, patient_of
from annotate_server.workflows.records import Records
from annotate_server.workflows.training_examples import corresponding
from annotate_server.workflows.training_refusal import FEWEST_FOR_NEW
from annotate_server.workflows.training_set_json import read_training_set


@dataclass(frozen=True)
class Curated:
    """A training set, and what a person should know of it."""

    training_set: TrainingSet
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Approved:
    """An approved label with its case; `held` are its segments that have a voxel."""

    label: Label
    case: KnownCase
    held: tuple[Segment, ...]

    @property
    def patient(self) -> str:
        """Return the pseudonym of its patient."""
        return patient_of(self.case)


@dataclass(frozen=True)
class Curating:
    """Makes training sets of what was approved."""

    records: Records
    models: ModelStore
    parts: PartStore
    registry: ModelRegistry
    clock: Clock = now

    def curate(self, model: LearnedModel) -> Curated:
        """Return what a model may learn from now; the parts of patients are drawn with it.

        Raises StateError, with the reason, where nothing can be learned: no approved label, a single patient, too few
        examples of a segment that the model lacks, or none of a segment of the project.
        """
        project = self.records.projects.get(model.project_id)
        approved = self.approved(project)
        if not approved:
            raise StateError(
                f"no label of the project {project.id} is approved, so that there is nothing to learn from",
                remedy="Submit labels, and have them approved where the project asks for a review.",
            )
        learned = self.answered_by(model)
        segments, left_out = _segments(project, learned, approved)
        _check_enough(learned, segments, approved)
        entries = tuple(self._entries(model, segments, approved))
        to_learn_from = frozenset(entry.label_id for entry in entries if entry.part is Part.TRAIN)
        _check_examples(project, segments, [each for each in approved if each.label.id in to_learn_from])
        _check_patients(entries)
        notes = (*left_out, *_notes(segments, approved, entries))
        return Curated(TrainingSet(project.id, segments, entries), notes)

    def waiting(self, model: LearnedModel) -> int:
        """Return how many approved labels a training set would have now that none of the model's has, in any part.

        Nothing is drawn or stored.
        """
        listed = self._labels_of_sets(model, tuple(Part))
        project = self.records.projects.get(model.project_id)
        wanted = (*self.answered_by(model), *project.segments)
        return sum(
            each.label.id not in listed and (not wanted or bool(corresponding(wanted, listed_segments(each.label))))
            for each in self.approved(project)
        )

    def answered_by(self, model: LearnedModel) -> tuple[Segment, ...]:
        """Return what the model answers already, in the order of its channels; nothing where it has no version yet.

        Of a fork that is not made yet this is what its app answers.
        """
        answering = model.origin if self.models.champion(model.name) is None else model.name
        return () if answering is None else self.registry.app(answering).card.segments

    def approved(self, project: Project) -> tuple[Approved, ...]:
        """Return the newest approved label of every case of a project, those first that were approved first."""
        found = (
            Approved(label, self.records.cases.get(label.case_id), held_segments(self.records.blobs, label))
            for label in approved_labels(project, self.records)
        )
        return tuple(each for each in found if not each.case.is_missing)

    def _labels_of_sets(self, model: LearnedModel, parts: tuple[Part, ...]) -> frozenset[str]:
        """Return the labels of these parts in the training sets of all versions of a model."""
        found: set[str] = set()
        for version in self.models.versions(model.name):
            if version.training_set is not None:
                training_set = read_training_set(self.records.blobs.read(version.training_set))
                found.update(entry.label_id for part in parts for entry in training_set.of(part))
        return frozenset(found)

    def _entries(
        self, model: LearnedModel, segments: tuple[Segment, ...], approved: tuple[Approved, ...]
    ) -> Iterator[TrainingEntry]:
        usable = [each for each in approved if corresponding(segments, listed_segments(each.label))]
        parts = Parts(self.parts, self.clock).drawn(model.project_id, [each.patient for each in usable])
        learned = self._labels_of_sets(model, (Part.TRAIN,))
        for each in usable:
            yield TrainingEntry(
                case_id=each.case.id,
                label_id=each.label.id,
                patient=each.patient,
                part=parts[each.patient],
                segments=_spoken_of(segments, each.label),
                site=site_of(each.case),
                is_new=each.label.id not in learned,
                is_partial=each.label.is_partial,
            )


def keep_training_set(blobs: Blobs, training_set: TrainingSet) -> str:
    """Keep a training set and return its SHA-256, which is its digest."""
    return blobs.add_bytes(training_set.content)


def approved_labels(project: Project, records: Records) -> tuple[Label, ...]:
    """Return the newest label of every case that counts as approved, those first that were approved first."""
    counts = {LabelState.APPROVED}
    if project.review is ReviewPolicy.NONE:
        counts.add(LabelState.SUBMITTED)
    found = []
    for state in LabelState:
        for newest in records.labels.of_state(project.id, state):
            if newest.state in counts:
                found.append(newest)
            else:
                earlier = records.labels.of_case(project.id, newest.case_id)
                found.extend([label for label in earlier if label.state in counts][-1:])
    return tuple(sorted(found, key=_approved_at))


def site_of(case: KnownCase) -> str:
    """Return what the headers tell of where a volume is from: modality, and who issued the patient's number, if said.

    The issuer stands as a digest. Empty where the files say neither; nothing is guessed from the voxels.
    """
    issuer = case.case.patient.issuer if case.case.patient.known and case.case.reference.series_uid else ""
    words = [str(case.modality)] if case.modality else []
    if issuer:
        words.append(PatientKey(issuer, "").pseudonym()[:8])
    return "-".join(words)


def _approved_at(label: Label) -> tuple[str, str]:
    at = label.reviewed_at or label.made_at
    return (at.isoformat() if at else "", label.id)


def _segments(
    project: Project, learned: tuple[Segment, ...], approved: tuple[Approved, ...]
) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
    """Return the segments in the order of channels, and what was left out.

    A project without a list of segments means those that its labels hold often enough.
    """
    if project.segments:
        return matched(learned, project.segments)[1], ()
    everything = learned
    for each in approved:
        everything = matched(everything, each.held)[1]
    counts = _held_counts(everything, approved)
    known = {segment.index for segment in learned}
    chosen = tuple(s for s in everything if s.index in known or counts[s.index] >= FEWEST_FOR_NEW)
    few = [s for s in everything if s not in chosen]
    if not chosen:
        raise StateError(_too_few(few, counts), remedy="Approve more labels.")
    return chosen, (_too_few(few, counts),) if few else ()


def _check_enough(learned: tuple[Segment, ...], segments: tuple[Segment, ...], approved: tuple[Approved, ...]) -> None:
    """Refuse a segment that the model lacks and of which too few labels are there."""
    counts = _held_counts(segments, approved)
    known = {segment.index for segment in learned}
    few = [s for s in segments if s.index not in known and counts[s.index] < FEWEST_FOR_NEW]
    if few:
        raise StateError(_too_few(few, counts), remedy="Approve more labels, or take it out of the project's segments.")


def _check_examples(project: Project, segments: tuple[Segment, ...], to_learn_from: list[Approved]) -> None:
    """Refuse a segment of the project of which there is nothing to learn from."""
    counts = _held_counts(segments, to_learn_from)
    wanted = set(corresponding(segments, project.segments).values())
    none = [s.name for s in segments if s.index in wanted and counts[s.index] == 0]
    if none:
        raise StateError(
            f"no approved label that may be learned from holds {_listing(none)}: the model would forget it",
            remedy="Approve a label that does, or take it out of the project's segments.",
        )


def _check_patients(entries: tuple[TrainingEntry, ...]) -> None:
    patients = {entry.patient for entry in entries if entry.part is Part.TRAIN}
    if len(patients) < 2:
        raise StateError(
            "the approved labels that may be learned from are all of one patient: nothing would tell whether what was"
            " learned holds for another",
            remedy="Approve a label of a second patient.",
        )


def _notes(
    segments: tuple[Segment, ...], approved: tuple[Approved, ...], entries: tuple[TrainingEntry, ...]
) -> Iterator[str]:
    unknown = sum(not each.case.case.patient.known for each in approved)
    if unknown:
        yield (
            f"The files of {unknown} cases do not say whose they are: each is taken for a patient of its own. Where two"
            " are of one patient, the gate sees a patient who was learned from; name patients in patients.csv."
        )
    if len(entries) < len(approved):
        yield f"{len(approved) - len(entries)} approved labels list none of the model's segments and are left out."
    counts = _held_counts(segments, approved)
    silent = [segment.name for segment in segments if counts[segment.index] == 0]
    if silent:
        yield f"No approved label holds {_listing(silent)}: nothing is learned about it, and the gate cannot judge it."


def _held_counts(segments: tuple[Segment, ...], approved: Iterable[Approved]) -> Mapping[int, int]:
    """Return how many labels hold each segment, by its index."""
    counts = {segment.index: 0 for segment in segments}
    for each in approved:
        for index in set(corresponding(segments, each.held).values()):
            counts[index] += 1
    return counts


def _spoken_of(segments: tuple[Segment, ...], label: Label) -> tuple[Segment, ...]:
    """Return the segments of the training set that a label speaks about."""
    indices: set[int] = set()
    for layer in label.layers:
        indices.update(corresponding(segments, layer.segments).values())
    return tuple(segment for segment in segments if segment.index in indices)


def _too_few(few: list[Segment], counts: Mapping[int, int]) -> str:
    each = ", ".join(f"{segment.name} has {counts[segment.index]}" for segment in few)
    missing = max((FEWEST_FOR_NEW - counts[segment.index] for segment in few), default=FEWEST_FOR_NEW)
    return f"what is new to a model is learned from {FEWEST_FOR_NEW} approved labels: {each}, {missing} are missing"


def _listing(names: Iterable[str]) -> str:
    return ", ".join(names)
