import json
from dataclasses import replace
from pathlib import Path

import pytest
from round_bench import RIGHT, WEIGHTS, Bench, LevelsBackend, OneModel, Phantoms, a_set, an_app, an_entry

from annotate_server.domain.errors import Cancelled, StateError
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Part, Trained, TrainingPoint, TrainingSet, Verdict
from annotate_server.stores.folder_apps import app_of
from annotate_server.workflows.gate_evidence import evidence_bytes, read_evidence
from annotate_server.workflows.simulated_store import KeptFolder, kept_version
from annotate_server.workflows.train import run_round


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_better_challenger_is_promoted_and_can_be_loaded_from_what_was_kept(bench: Bench) -> None:
    training_set = a_set(new=5, old=4, gate=20)
    trained = run_round(bench.order(training_set), training_set, bench.tools(), Control())
    assert trained.verdict is Verdict.PROMOTE
    kept = KeptFolder(bench.folder / "kept")
    version = kept_version(trained, "levels", kept, lambda table, digest: app_of(table, "x", Path("x"), digest))
    assert version.id == trained.version
    low, high = json.loads(version.files[WEIGHTS].read_text())
    assert low < bench.levels[0] - 10
    assert high == pytest.approx(RIGHT[1], abs=10)
    assert [figure for figure in version.app.card.figures if "20 patients" in figure]


def test_the_champions_file_is_not_touched(bench: Bench) -> None:
    training_set = a_set(new=5, gate=20)
    before = bench.version().files[WEIGHTS].read_bytes()
    run_round(bench.order(training_set), training_set, bench.tools(), Control())
    assert (bench.folder / "champion" / WEIGHTS).read_bytes() == before


def test_a_challenger_that_is_worse_is_kept_out_with_the_reason(bench: Bench) -> None:
    bench.levels, bench.backend.towards = (62.0, 150.0), (70.0, 0.0)
    training_set = a_set(new=5, gate=20)
    trained = run_round(bench.order(training_set), training_set, bench.tools(), Control())
    assert trained.verdict is Verdict.KEEP
    assert "worse" in trained.reason


def test_no_label_of_the_gate_or_the_test_reaches_a_training(bench: Bench) -> None:
    forbidden = [an_entry(200, Part.GATE), an_entry(300, Part.TEST), replace(an_entry(200), part=Part.TRAIN)]
    bench.backend.forbidden = forbidden
    training_set = a_set(new=5, gate=20)
    training_set = replace(training_set, entries=(*training_set.entries, forbidden[1]))
    run_round(bench.order(training_set), training_set, bench.tools(), Control())
    assert bench.backend.refused == [entry.label_id for entry in forbidden]
    assert bench.backend.trained == [{f"patient-{number}" for number in range(5)}]


def test_the_evidence_is_a_record_that_can_be_read_back(bench: Bench) -> None:
    points: list[TrainingPoint] = []
    training_set = a_set(new=5, gate=20)
    tools = bench.tools(on_point=points.append, evaluations=3)
    trained = run_round(bench.order(training_set), training_set, tools, Control())
    content = (bench.folder / "kept" / trained.evidence).read_bytes()
    evidence = read_evidence(content)
    assert evidence_bytes(evidence) == content
    assert (evidence.challenger, evidence.champion) == (trained.version, bench.version().id)
    assert evidence.training.curve == tuple(points)
    assert len(points) == 1
    assert evidence.decision.evaluations == 3
    assert set(evidence.shares) == {0.0, 0.5, 1.0}
    assert {case.patient for case in evidence.cases} == {f"patient-{200 + number}" for number in range(20)}
    assert len(evidence.new_drafts) == 5
    drafted = evidence.training.drafted_voxels
    assert trained.voxels == evidence.training.training_voxels + drafted
    assert drafted == (25 + 2 * 20) * 9 * 14 * 11


class _Stop:
    """Cancels once the progress has come so far."""

    def __init__(self, after: float) -> None:
        self.after, self.seen = after, 0.0

    def control(self) -> Control:
        return Control(report=self._report, is_cancelled=lambda: self.seen >= self.after)

    def _report(self, fraction: float, message: str) -> None:
        assert 0.0 <= fraction <= 1.0
        assert message
        self.seen = max(self.seen, fraction)


@pytest.mark.parametrize("after", [0.0, 0.05, 0.55, 0.8])
def test_an_interrupted_round_goes_on_where_it_was_and_ends_as_another(tmp_path: Path, after: float) -> None:
    training_set = a_set(new=5, gate=20)
    whole = Bench(tmp_path / "whole")
    expected = run_round(whole.order(training_set), training_set, whole.tools(), Control())
    bench = Bench(tmp_path / "cut")
    with pytest.raises(Cancelled):
        run_round(bench.order(training_set), training_set, bench.tools(), _Stop(after).control())
    trained = run_round(bench.order(training_set), training_set, bench.tools(), Control())
    assert len(bench.backend.trained) == 1
    assert bench.examples.opened == whole.examples.opened
    assert _without_time(trained) == _without_time(expected)


def _without_time(trained: Trained) -> Trained:
    return replace(trained, seconds=0.0, evidence="")


def test_another_round_is_refused_the_folder_of_one_that_has_begun(bench: Bench) -> None:
    training_set = a_set(new=5, gate=20)
    run_round(bench.order(training_set), training_set, bench.tools(), Control())
    other = a_set(new=6, gate=20)
    with pytest.raises(StateError, match="another training has begun"):
        run_round(bench.order(other), other, bench.tools(), Control())


def test_with_few_patients_each_judges_a_training_that_did_not_see_it(bench: Bench) -> None:
    training_set = a_set(new=8)
    trained = run_round(bench.order(training_set), training_set, bench.tools(), Control())
    assert trained.verdict is Verdict.PROMOTE_PROVISIONALLY
    everybody = {f"patient-{number}" for number in range(8)}
    whole, *folds = bench.backend.trained
    assert whole == everybody
    assert len(folds) == 3
    assert sorted(patient for fold in folds for patient in everybody - fold) == sorted(everybody)
    evidence = read_evidence((bench.folder / "kept" / trained.evidence).read_bytes())
    assert evidence.fold_works.keys() == {entry.label_id for entry in training_set.entries}
    for label, fold in ((entry.label_id, evidence.fold_of[entry.patient]) for entry in training_set.entries):
        assert an_entry(int(label, 16)).patient not in folds[fold]


def test_the_next_round_compares_on_old_patients_with_the_folds_of_the_champions_round(bench: Bench) -> None:
    first_set = a_set(new=6)
    first = run_round(bench.order(first_set), first_set, bench.tools(), Control())
    evidence = read_evidence((bench.folder / "kept" / first.evidence).read_bytes())
    kept = KeptFolder(bench.folder / "kept")
    champion = kept_version(first, "levels", kept, lambda table, digest: app_of(table, "x", Path("x"), digest))
    old = tuple(replace(entry, is_new=False) for entry in first_set.entries)
    second_set = replace(first_set, entries=(*old, an_entry(50), an_entry(51)))
    order = bench.order(second_set, champion=champion.id, folder=bench.folder / "round-2")
    tools = bench.tools(registry=OneModel(bench.version(), champion), champion_evidence=evidence)
    bench.backend.trained.clear()
    second = run_round(order, second_set, tools, Control())
    again = read_evidence((bench.folder / "kept" / second.evidence).read_bytes())
    assert len(again.cases) == 8
    assert {p: f for p, f in again.fold_of.items() if p in evidence.fold_of} == evidence.fold_of
    old_pair = next(case for case in again.cases if case.label_id == old[0].label_id)
    assert old_pair.champion == evidence.fold_works[old[0].label_id]


def test_old_patients_of_a_champion_whose_folds_are_unknown_do_not_count(bench: Bench) -> None:
    training_set = a_set(new=3, old=6)
    trained = run_round(bench.order(training_set), training_set, bench.tools(), Control())
    evidence = read_evidence((bench.folder / "kept" / trained.evidence).read_bytes())
    assert {case.patient for case in evidence.cases} == {"patient-0", "patient-1", "patient-2"}
    assert trained.verdict is Verdict.ASK


def test_below_five_patients_a_person_is_asked(bench: Bench) -> None:
    training_set = a_set(new=4)
    trained = run_round(bench.order(training_set), training_set, bench.tools(), Control())
    assert trained.verdict is Verdict.ASK
    assert "4 patients are too few" in trained.reason


def test_a_new_model_is_planned_and_judged_against_drawing_by_hand(bench: Bench) -> None:
    training_set = a_set(new=6)
    nothing = ModelVersion(an_app())
    tools = bench.tools(registry=OneModel(nothing, nothing))
    trained = run_round(bench.order(training_set, champion=None), training_set, tools, Control())
    assert bench.backend.planned_for == 6
    assert trained.verdict is Verdict.PROMOTE_PROVISIONALLY
    evidence = read_evidence((bench.folder / "kept" / trained.evidence).read_bytes())
    assert {work.relative_apl for case in evidence.cases for work in case.champion.values()} == {1.0}
    assert trained.steps == 4 * bench.order(training_set).recipe.full_steps


def test_a_new_model_learns_with_the_patch_and_the_mirroring_that_were_planned(bench: Bench) -> None:
    bench.backend.plan = Recipe(steps=7, patch=(8, 12, 10), mirror_axes=(2,))
    training_set = a_set(new=6)
    run_round(bench.order(training_set, champion=None), training_set, bench.tools(), Control())
    assert {(each.patch, each.mirror_axes) for each in bench.backend.recipes} == {((8, 12, 10), (2,))}
    assert {each.steps for each in bench.backend.recipes} == {Recipe().full_steps}


def test_labels_that_look_wrong_are_named_and_not_learned_from(tmp_path: Path) -> None:
    bench = Bench(tmp_path, levels=(55.0, 150.0), examples=Phantoms(wrong=frozenset({1, 203})))
    training_set = a_set(new=6, gate=20)
    trained = run_round(bench.order(training_set), training_set, bench.tools(), Control())
    evidence = read_evidence((tmp_path / "kept" / trained.evidence).read_bytes())
    assert evidence.left_out == {an_entry(1).label_id}
    assert [doubt.label_id for doubt in evidence.decision.doubts] == [an_entry(203).label_id]
    assert bench.backend.trained == [{f"patient-{number}" for number in (0, 2, 3, 4, 5)}]


def test_a_label_that_was_left_out_is_looked_at_again_by_the_next_round(tmp_path: Path) -> None:
    bench = Bench(tmp_path, levels=(55.0, 150.0), examples=Phantoms(wrong=frozenset({1})))
    training_set = a_set(new=6, gate=20)
    trained = run_round(bench.order(training_set), training_set, bench.tools(), Control())
    evidence = read_evidence((tmp_path / "kept" / trained.evidence).read_bytes())
    old = tuple(
        replace(entry, is_new=entry.part is Part.TRAIN and entry.label_id == "none") for entry in training_set.entries
    )
    second_set = replace(training_set, entries=(*old, an_entry(60), an_entry(61)))
    bench.examples.wrong = frozenset()
    order = bench.order(second_set, folder=tmp_path / "second")
    bench.backend.trained.clear()
    run_round(order, second_set, bench.tools(champion_evidence=evidence), Control())
    assert "patient-1" in bench.backend.trained[0]


def test_where_most_new_labels_look_wrong_it_is_the_model_that_does_not_know_them(tmp_path: Path) -> None:
    bench = Bench(tmp_path, levels=(55.0, 150.0), examples=Phantoms(wrong=frozenset(range(4))))
    training_set = a_set(new=6, gate=20)
    trained = run_round(bench.order(training_set), training_set, bench.tools(), Control())
    assert read_evidence((tmp_path / "kept" / trained.evidence).read_bytes()).left_out == frozenset()


def test_a_few_labels_of_a_site_that_the_model_does_not_know_are_learned_from(tmp_path: Path) -> None:
    bench = Bench(tmp_path, levels=(55.0, 150.0), examples=Phantoms(wrong=frozenset({0, 1, 2})))
    training_set = a_set(new=12, gate=20)
    entries = tuple(
        replace(entry, site="other" if entry.part is Part.TRAIN and number < 3 else "")
        for number, entry in enumerate(training_set.entries)
    )
    training_set = replace(training_set, entries=entries)
    trained = run_round(bench.order(training_set), training_set, bench.tools(), Control())
    assert read_evidence((tmp_path / "kept" / trained.evidence).read_bytes()).left_out == frozenset()


def test_a_full_training_begins_from_the_original_with_the_steps_of_one(bench: Bench) -> None:
    training_set = a_set(new=5, gate=20)
    order = bench.order(training_set, is_full=True)
    trained = run_round(order, training_set, bench.tools(), Control())
    assert trained.steps == order.recipe.full_steps
    assert trained.verdict is Verdict.PROMOTE


def test_a_backend_that_cannot_learn_is_refused(bench: Bench) -> None:
    class Fixed:
        name = "levels"
        load = LevelsBackend.load

    training_set = a_set(new=5, gate=20)
    bench.backend = Fixed()
    with pytest.raises(StateError, match="cannot be trained"):
        run_round(bench.order(training_set), training_set, bench.tools(), Control())


def test_a_set_that_nothing_can_be_learned_from_is_refused_before_anything_is_computed(bench: Bench) -> None:
    training_set = TrainingSet("project", a_set(1).segments, ())
    with pytest.raises(StateError, match="No label is approved"):
        run_round(bench.order(training_set), training_set, bench.tools(), Control())
    assert bench.examples.opened == 0
