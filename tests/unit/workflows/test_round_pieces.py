from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from round_bench import HIGH, LOW, WEIGHTS, Bench, Phantoms, a_set, a_volume, an_app, an_entry

from annotate_server.domain.errors import StateError, StorageFailed
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.learning import SegmentWork
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.training import IGNORED, Checkpoint, Example, TrainingPoint
from annotate_server.domain.volume import Modality
from annotate_server.testing.fakes import InMemoryBackends, InMemoryRegistry
from annotate_server.workflows.cross_fitting import assigned, folds
from annotate_server.workflows.gate_evidence import read_evidence
from annotate_server.workflows.label_doubts import doubts_about
from annotate_server.workflows.predict import Predictor
from annotate_server.workflows.round_folder import RoundFolder
from annotate_server.workflows.round_scoring import Scoring, ServingOnly, translated, works_of
from annotate_server.workflows.round_tools import LearnedFrom, part_of


def an_example(known: frozenset[int] = frozenset({1, 2})) -> Example:
    volume, target = a_volume(3)
    return Example(an_entry(3), volume, target, known)


def test_a_draft_that_equals_the_label_has_nothing_left_to_do() -> None:
    example = an_example()
    works = works_of(example, example.target.astype(np.uint8), (LOW, HIGH))
    assert works == {name: SegmentWork(1.0, 1.0, 0.0, 0.0) for name in ("Low", "High")}


def test_only_segments_that_the_label_speaks_about_are_scored() -> None:
    example = an_example(frozenset({2}))
    assert works_of(example, example.target.astype(np.uint8), (LOW, HIGH)).keys() == {"High"}


def test_what_a_label_ignores_counts_for_nobody() -> None:
    example = an_example()
    drafted = example.target.astype(np.uint8)
    drafted[7:] = 1
    target = example.target.copy()
    target[7:] = IGNORED
    assert works_of(replace(example, target=target), drafted, (LOW, HIGH))["Low"].dice == 1.0
    assert works_of(example, drafted, (LOW, HIGH))["Low"].dice < 1.0


def test_a_draft_is_translated_by_the_names_of_its_segments() -> None:
    geometry = a_volume(1)[0].geometry
    voxels = np.zeros(geometry.shape, np.uint8)
    voxels[0], voxels[1] = 4, 9
    theirs = (Segment(4, "High", (1, 2, 3)), Segment(9, "Something else", (1, 2, 3)))
    ours = translated(Labelmap(voxels, geometry, theirs), (LOW, HIGH))
    assert [int(ours[k].max()) for k in range(3)] == [HIGH.index, 0, 0]


@pytest.fixture
def scoring(tmp_path: Path) -> Scoring:
    bench = Bench(tmp_path)
    version = bench.version()
    predictor = Predictor(
        ServingOnly(version, InMemoryRegistry({})), InMemoryBackends({"levels": bench.backend}), "cpu"
    )
    return Scoring(version, a_set(3), bench.examples, predictor, tmp_path / "drafts")


def test_damaged_scores_and_drafts_are_made_again(scoring: Scoring, tmp_path: Path) -> None:
    entries = a_set(3).entries
    expected = scoring.scores(entries, Control())
    draft = scoring.draft(entries[0])
    for path in (tmp_path / "drafts").iterdir():
        path.write_bytes(path.read_bytes()[:7])
    assert (scoring.draft(entries[0]) == draft).all()
    again = Scoring(scoring._version, a_set(3), scoring._examples, scoring._predictor, tmp_path / "drafts")
    assert again.scores(entries, Control()) == expected
    assert again.voxels == sum(score.voxels for score in expected.values())


def test_a_volume_that_the_model_is_not_made_for_counts_as_not_drafted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    version = bench.version()

    class OfAnotherModality(Phantoms):
        def open(self, entry: object, training_set: object) -> Example:
            example = an_example()
            return replace(example, volume=replace(example.volume, modality=Modality.CT))

    predictor = Predictor(ServingOnly(version, InMemoryRegistry({})), InMemoryBackends({"levels": bench.backend}))
    scores = Scoring(version, a_set(1), OfAnotherModality(), predictor, tmp_path / "d").scores(
        a_set(1).entries, Control()
    )
    assert [work.dice for score in scores.values() for work in score.works.values()] == [0.0, 0.0]


def test_a_task_shows_and_opens_only_what_may_be_learned_from() -> None:
    training_set = a_set(new=2, gate=2)
    task = LearnedFrom(training_set, Phantoms())
    assert len(task.training_set.entries) == 2
    for entry in (*training_set.entries[2:], an_entry(77)):
        with pytest.raises(StateError, match="may learn from"):
            task.open(entry)


def test_a_part_of_the_work_fills_its_share_of_the_progress() -> None:
    seen: list[float] = []
    part = part_of(Control(report=lambda fraction, message: seen.append(fraction)), 0.2, 0.5)
    part.report(0.0, "a")
    part.report(1.0, "b")
    assert seen == pytest.approx([0.2, 0.7])


def a_checkpoint(folder: Path) -> Checkpoint:
    path = folder / "training" / WEIGHTS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[1, 2]")
    return Checkpoint({WEIGHTS: path}, {"network": {"widths": [1, 2]}}, (LOW, HIGH), 5, 100, 1.5, ("a note",))


def test_a_finished_training_is_known_again(tmp_path: Path) -> None:
    folder, checkpoint = RoundFolder(tmp_path), a_checkpoint(tmp_path)
    assert folder.finished("training") is None
    folder.finish("training", checkpoint)
    assert RoundFolder(tmp_path).finished("training") == checkpoint


def test_a_training_whose_weights_have_changed_is_not_finished(tmp_path: Path) -> None:
    folder, checkpoint = RoundFolder(tmp_path), a_checkpoint(tmp_path)
    folder.finish("training", checkpoint)
    checkpoint.files[WEIGHTS].write_text("[1, ")
    assert folder.finished("training") is None


def test_damaged_state_of_a_round_is_named(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(StorageFailed, match="state of a training"):
        RoundFolder(tmp_path).finished("training")


def test_the_points_of_a_curve_are_remembered(tmp_path: Path) -> None:
    points = (TrainingPoint(10, 20, 0.5, 1e-3, 3.0), TrainingPoint(20, 20, 0.4, 0.0, 6.0))
    RoundFolder(tmp_path).keep_curve(points)
    assert RoundFolder(tmp_path).curve() == points


def test_a_patient_keeps_its_fold_and_new_ones_fill_the_smallest() -> None:
    first = assigned([f"p{n}" for n in range(5)], {})
    second = assigned([f"p{n}" for n in range(9)], first)
    assert {patient: second[patient] for patient in first} == first
    assert sorted(list(second.values()).count(fold) for fold in range(3)) == [3, 3, 3]


def test_all_labels_of_a_patient_are_held_out_together() -> None:
    entries = tuple(replace(an_entry(n), patient=f"p{n // 2}") for n in range(8))
    training_set = replace(a_set(0), entries=entries)
    for fold in folds(training_set, assigned([entry.patient for entry in entries], {})):
        kept = {entry.patient for entry in fold.training_set.entries}
        assert kept.isdisjoint({entry.patient for entry in fold.held_out})
        assert len(fold.training_set.entries) + len(fold.held_out) == 8


def test_one_patient_alone_makes_no_fold() -> None:
    training_set = replace(a_set(0), entries=(an_entry(1),))
    assert folds(training_set, assigned(["patient-1"], {})) == ()


def a_work(dice: float) -> SegmentWork:
    return SegmentWork(dice, dice, 0.0, 0.0)


def test_a_label_far_below_the_others_is_doubted_with_its_worst_segment() -> None:
    labels = {f"{n}": {"Low": a_work(0.85 + 0.005 * (n % 5)), "High": a_work(0.9)} for n in range(12)}
    labels["wrong"] = {"Low": a_work(0.3), "High": a_work(0.1)}
    (doubt,) = doubts_about(labels)
    assert (doubt.label_id, doubt.segment, doubt.dice) == ("wrong", "High", 0.1)
    assert "0.10" in doubt.sentence


def test_labels_that_differ_by_themselves_are_not_doubted() -> None:
    labels = {f"{n}": {"Low": a_work(0.55 + 0.03 * n)} for n in range(12)}
    assert doubts_about(labels) == ()


def test_a_model_that_knows_nothing_doubts_nobody() -> None:
    labels = {f"{n}": {"Low": a_work(0.2)} for n in range(12)} | {"empty": {"Low": a_work(0.0)}}
    assert doubts_about(labels) == ()


def test_four_labels_are_too_few_to_doubt_one() -> None:
    labels = {f"{n}": {"Low": a_work(0.9)} for n in range(3)} | {"empty": {"Low": a_work(0.0)}}
    assert doubts_about(labels) == ()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": "something/9"}', b"[1]"])
def test_what_is_no_evidence_is_refused(content: bytes) -> None:
    with pytest.raises(StorageFailed, match="evidence"):
        read_evidence(content)


def test_one_version_serves_and_all_other_models_are_the_registrys() -> None:
    app = an_app()
    version = ModelVersion(app)
    registry = ServingOnly(version, InMemoryRegistry({"other": replace(app, name="other")}))
    assert registry.champion("levels") is version
    assert registry.version("levels", version.id) is version
    assert registry.champion("other").model == "other"
    assert registry.names() == ("levels", "other")
    assert registry.missing(app) == ()
