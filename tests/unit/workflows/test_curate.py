"""Curating: which labels train, who is kept away from training, and what is refused with which reason."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from annotation_bench import ANN, BOB, LIVER, PROJECT, SPLEEN, Bench
from conftest import oblique_geometry

from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.case import Case, Format, PatientKey, StoredVolume
from annotate_server.domain.errors import StateError
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.learning import LearnedModel, VersionRecord
from annotate_server.domain.project import Project, ReviewPolicy
from annotate_server.domain.training import Part, TrainingSet
from annotate_server.domain.volume import Modality
from annotate_server.testing.fakes import InMemoryRegistry, threshold_app
from annotate_server.testing.memory_learning import InMemoryModels, InMemoryParts
from annotate_server.workflows.curate import Curating, keep_training_set
from annotate_server.workflows.layers import keep_layer
from annotate_server.workflows.parts import FIRST_PATIENTS, SHARES, Parts, part_by_key

GRID = oblique_geometry((4, 6, 5))
MODEL = LearnedModel("organs-1", "organs", origin=None)
TUMOUR = Segment(7, "Tumour", (1, 2, 3))


@dataclass
class Desk:
    """Labels that are accepted at a word, and a curator over them."""

    bench: Bench
    models: InMemoryModels = field(default_factory=InMemoryModels)
    parts: InMemoryParts = field(default_factory=InMemoryParts)
    registry: InMemoryRegistry = field(default_factory=lambda: InMemoryRegistry({}))
    count: int = 0

    @property
    def curating(self) -> Curating:
        return Curating(self.bench.records, self.models, self.parts, self.registry, self.bench.clock)

    def case(self, name: str, patient: PatientKey | None = None, modality: Modality | None = Modality.CT) -> str:
        key = patient or PatientKey("", name)
        uid = f"1.2.{int.from_bytes(name.encode())}" if key.issuer else None
        stored = StoredVolume(f"{name}.nii", Format.NIFTI, (Path(name),), key, modality, series_uid=uid)
        self.bench.records.cases.put([Case(name, key, {"CT": stored})])
        return name

    def label(
        self,
        case: str,
        held: tuple[Segment, ...] = (LIVER, SPLEEN),
        listed: tuple[Segment, ...] = (LIVER, SPLEEN),
        state: LabelState = LabelState.APPROVED,
        *,
        is_partial: bool = False,
    ) -> str:
        voxels = np.zeros(GRID.shape, np.uint8)
        for number, segment in enumerate(held):
            voxels[number, 2, 2] = segment.index
        layer = keep_layer(self.bench.records.blobs, Labelmap(voxels, GRID, listed))
        self.count += 1
        self.bench.clock.forward(1)
        made = Label(f"l{self.count}", "organs", case, "ann", (layer,), made_at=self.bench.clock(), state=state)
        self.bench.records.labels.accept(replace(made, is_partial=is_partial), None, ANN)
        return made.id

    def labels(self, number: int, **words: tuple[Segment, ...]) -> list[str]:
        first = self.count
        return [self.label(self.case(f"c{first + n}"), **words) for n in range(number)]

    def project(self, **words: object) -> None:
        self.bench.records.projects.change(replace(PROJECT, **words), BOB)

    def champion(self, segments: tuple[Segment, ...], learned: TrainingSet | None = None) -> None:
        """Let the model have a version that answers these segments."""
        self.registry = InMemoryRegistry({MODEL.name: threshold_app(MODEL.name, segments=segments)})
        blob = keep_training_set(self.bench.records.blobs, learned) if learned else None
        self.models.add(MODEL, VersionRecord("v1", MODEL.name, "d", (), training_set=blob), BOB)

    def set(self) -> TrainingSet:
        return self.curating.curate(MODEL).training_set


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    bench = Bench(tmp_path, GRID)
    bench.records.projects.add(PROJECT, BOB)
    yield Desk(bench)
    bench.close()


def test_nothing_approved_is_refused(desk: Desk) -> None:
    desk.project(review=ReviewPolicy.OTHER_PERSON)
    desk.labels(6, state=LabelState.SUBMITTED)
    with pytest.raises(StateError, match="no label of the project organs is approved"):
        desk.set()


def test_without_a_review_submitted_labels_are_approved(desk: Desk) -> None:
    desk.labels(6, state=LabelState.SUBMITTED)
    assert len(desk.set().entries) == 6


def test_a_new_model_says_how_many_labels_are_missing(desk: Desk) -> None:
    desk.labels(3)
    with pytest.raises(StateError, match=r"Liver has 3, Spleen has 3, 2 are missing"):
        desk.set()


def test_a_segment_that_is_listed_and_never_drawn_is_no_example(desk: Desk) -> None:
    desk.labels(6, held=(LIVER,))
    with pytest.raises(StateError, match=r"learned from 5 approved labels: Spleen has 0, 5 are missing"):
        desk.set()


def test_one_patient_is_refused(desk: Desk) -> None:
    for number in range(6):
        desk.label(desk.case(f"c{number}", PatientKey("hospital", "77")))
    with pytest.raises(StateError, match="one patient"):
        desk.set()


def test_the_newest_approved_label_of_a_case_counts_and_a_returned_one_takes_nothing_back(desk: Desk) -> None:
    desk.project(review=ReviewPolicy.OTHER_PERSON)
    first = desk.labels(6)
    newer = desk.label("c0")
    desk.label("c1", state=LabelState.RETURNED)
    assert [e.label_id for e in desk.set().entries] == [*first[1:], newer]


def test_a_set_is_the_same_when_it_is_made_again(desk: Desk) -> None:
    desk.labels(6)
    assert desk.set().digest == desk.set().digest
    before = desk.set().digest
    desk.labels(1)
    assert desk.set().digest != before


def test_segments_keep_the_order_of_the_models_channels_and_new_ones_come_last(desk: Desk) -> None:
    spleen, liver = replace(SPLEEN, index=1), replace(LIVER, index=2)
    desk.champion((spleen, liver))
    desk.project(segments=(TUMOUR, LIVER, SPLEEN))
    desk.labels(5, held=(TUMOUR, LIVER, SPLEEN), listed=(LIVER, SPLEEN, TUMOUR))
    old = desk.labels(2)
    made = desk.set()
    assert [(s.index, s.name) for s in made.segments] == [(1, "Spleen"), (2, "Liver"), (7, "Tumour")]
    by_label = {entry.label_id: entry for entry in made.entries}
    assert [s.name for s in by_label[old[0]].segments] == ["Spleen", "Liver"]


def test_a_new_segment_of_a_trained_model_needs_five_labels(desk: Desk) -> None:
    desk.champion((LIVER, SPLEEN))
    desk.project(segments=(LIVER, SPLEEN, TUMOUR))
    desk.labels(5)
    desk.labels(2, held=(TUMOUR,), listed=(LIVER, SPLEEN, TUMOUR))
    with pytest.raises(StateError, match=r"Tumour has 2, 3 are missing"):
        desk.set()


def test_a_segment_of_the_project_without_an_example_is_refused_by_name(desk: Desk) -> None:
    desk.champion((LIVER, SPLEEN))
    desk.labels(5, held=(LIVER,))
    with pytest.raises(StateError, match="holds Spleen: the model would forget it"):
        desk.set()


def test_a_project_without_segments_means_those_that_labels_hold_often_enough(desk: Desk) -> None:
    desk.project(segments=())
    desk.labels(5, held=(LIVER,))
    desk.labels(1, held=(TUMOUR,), listed=(TUMOUR,))
    made = desk.curating.curate(MODEL)
    assert [s.name for s in made.training_set.segments] == ["Liver"]
    assert any("Tumour has 1" in note for note in made.notes)


def test_what_some_version_learned_from_is_not_new(desk: Desk) -> None:
    desk.labels(6)
    learned = desk.set()
    desk.champion((LIVER, SPLEEN), learned)
    fresh = desk.labels(2)
    assert [e.label_id for e in desk.set().new] == fresh
    assert desk.curating.waiting(MODEL) == 2


def test_partial_labels_say_so_and_headers_tell_the_site(desk: Desk) -> None:
    desk.labels(5)
    from_a = desk.label(desk.case("a", PatientKey("hospital A", "1")), is_partial=True)
    from_b = desk.label(desk.case("b", PatientKey("hospital B", "1")))
    made = {entry.label_id: entry for entry in desk.set().entries}
    assert made[from_a].is_partial
    assert not made[from_b].is_partial
    sites = {made[label].site for label in (from_a, from_b, "l1")}
    assert len(sites) == 3
    assert "CT" in sites
    assert not any("hospital" in site for site in sites)


def test_patients_that_files_do_not_name_are_patients_of_their_own_with_a_warning(desk: Desk) -> None:
    desk.labels(4)
    desk.label(desk.case("x", PatientKey("", "x.nii", known=False)))
    made = desk.curating.curate(MODEL)
    assert any("1 cases do not say whose they are" in note for note in made.notes)
    assert len({entry.patient for entry in made.training_set.entries}) == 5


def test_those_labelled_first_stay_in_training_and_parts_are_never_drawn_again(desk: Desk) -> None:
    desk.labels(FIRST_PATIENTS)
    assert {entry.part for entry in desk.set().entries} == {Part.TRAIN}
    desk.labels(60)
    before = {entry.patient: entry.part for entry in desk.set().entries}
    assert list(before.values())[:FIRST_PATIENTS] == [Part.TRAIN] * FIRST_PATIENTS
    assert set(before.values()) == set(Part)
    desk.labels(5)
    after = {entry.patient: entry.part for entry in desk.set().entries}
    assert all(after[patient] is part for patient, part in before.items())


def test_all_labels_of_a_patient_are_in_one_part(desk: Desk) -> None:
    desk.labels(FIRST_PATIENTS)
    for number in range(30):
        for scan in range(2):
            desk.label(desk.case(f"p{number}-{scan}", PatientKey("h", str(number))))
    parts: dict[str, set[Part]] = {}
    for entry in desk.set().entries:
        parts.setdefault(entry.patient, set()).add(entry.part)
    assert all(len(each) == 1 for each in parts.values())
    assert len(parts) == FIRST_PATIENTS + 30


def test_the_draw_keeps_to_its_shares_and_depends_on_the_key() -> None:
    patients = [f"patient {number}" for number in range(4000)]
    drawn = [part_by_key(b"one key", patient) for patient in patients]
    for part, share in SHARES.items():
        assert abs(drawn.count(part) / len(patients) - share) < 0.03
    assert drawn == [part_by_key(b"one key", patient) for patient in patients]
    assert drawn != [part_by_key(b"another key", patient) for patient in patients]


def test_what_another_process_drew_meanwhile_counts() -> None:
    store = InMemoryParts()
    parts = Parts(store)
    assert parts.drawn("p", ["a"])["a"] is Part.TRAIN
    gate = replace(store.parts("p")["a"], patient="b", part=Part.GATE)
    store.draw([gate])
    assert parts.drawn("p", ["b", "a"]) == {"b": Part.GATE, "a": Part.TRAIN}


def test_a_project_of_another_name_does_not_matter(desk: Desk) -> None:
    desk.bench.records.projects.add(Project("other", "Other", (LIVER,)), BOB)
    desk.labels(5)
    assert desk.set().project_id == "organs"
