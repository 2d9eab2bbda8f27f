import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry
from round_bench import HIGH, LOW, RIGHT, WEIGHTS, LevelsBackend, a_volume, an_app

from annotate_server.domain.errors import InvalidRequest, UnreadableFile
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.model import App, ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Part
from annotate_server.domain.volume import Modality, Volume
from annotate_server.stores.folder_apps import app_of
from annotate_server.testing.fakes import InMemoryBackends, InMemoryRegistry
from annotate_server.workflows.evaluate import LabelledCase
from annotate_server.workflows.evaluation import CaseFailure
from annotate_server.workflows.simulate import Simulator
from annotate_server.workflows.simulated_cases import NEW_SITE, SimulatedCases, drawn_parts, label_id
from annotate_server.workflows.simulated_labels import Mistake, drawn_mistakes, mistaken
from annotate_server.workflows.simulated_scanner import SCANNERS, Scanner, ScannerKind, scanned_again
from annotate_server.workflows.simulated_training import Trainings
from annotate_server.workflows.simulation_plan import SimulationPlan, with_mistakes
from annotate_server.workflows.simulation_report import Simulation, simulation_as_json

PLAN = SimulationPlan(rounds=3, per_round=4, start=2, gate=20, test=4)


def a_case(name: str) -> LabelledCase:
    volume, target = a_volume(int(name.removeprefix("case-")))
    return LabelledCase(name, volume, Labelmap(target.astype(np.uint8), volume.geometry, (LOW, HIGH)))


def read_app(table: dict[str, object], digest: str) -> App:
    return app_of(table, "simulated", Path("simulated"), digest)


def simulated(folder: Path, plan: SimulationPlan = PLAN, backend: LevelsBackend | None = None) -> Simulation:
    app = an_app()
    names = {f"case-{n}": f"patient-{n}" for n in range(60)}
    parts = drawn_parts(names, plan.wanted, plan.seed)
    cases = with_mistakes(SimulatedCases(a_case, app.card.segments, plan.seed), plan, parts)
    trainings = Trainings(
        app,
        Recipe(steps=10, full_steps=100, sweep=(0.5, 1.0)),
        InMemoryRegistry({"levels": app}),
        InMemoryBackends({"levels": backend or LevelsBackend()}),
        cases,
        folder,
    )
    path = folder / "first" / WEIGHTS
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([85.0, RIGHT[1]]))
    first = ModelVersion(app, {WEIGHTS: path}) if plan.start == 0 else None
    return Simulator(plan, parts, trainings, read_app).run(first, Control())


def test_a_simulation_reports_every_round_and_both_baselines(tmp_path: Path) -> None:
    simulation = simulated(tmp_path)
    report = json.loads(json.dumps(simulation_as_json(simulation), allow_nan=False))
    assert [each["labels"] for each in report["rounds"]] == [6, 10, 14]
    assert all({"dice", "relative_apl", "seconds", "promoted", "drafts"} <= each.keys() for each in report["rounds"])
    assert report["promotions"] + report["refusals"] == 3
    assert report["final_mean_dice"] == report["rounds"][-1]["dice"]
    assert report["scratch_mean_dice"] == report["rounds"][-1]["scratch"]["dice"]
    assert report["naive_mean_dice"] == report["rounds"][-1]["naive"]["dice"]
    assert len(report["rounds"][0]["cases"]) == 4
    assert report["forgetting"] is None


def test_the_compute_counts_the_sweep_the_gate_and_the_check_of_labels(tmp_path: Path) -> None:
    simulation = simulated(tmp_path)
    voxels = 9 * 14 * 11
    assert simulation.rounds[0].drafted_voxels == voxels * (20 + 4 + 2 * 20)
    spent = sum(each.training_voxels + each.drafted_voxels for each in simulation.rounds)
    scratch = voxels * (6 + 10 + 14)
    assert simulation.compute_ratio == pytest.approx(spent / scratch)


def test_a_model_with_weights_of_its_own_learns_in_the_rounds(tmp_path: Path) -> None:
    simulation = simulated(tmp_path, replace(PLAN, start=0, baselines=frozenset()))
    assert simulation.rounds[0].promoted
    assert simulation.rounds[-1].test.dice > simulation.start.dice + 0.005
    assert simulation.rounds[-1].drafts.dice > simulation.rounds[0].drafts.dice
    assert simulation_as_json(simulation)["scratch_mean_dice"] is None
    first, last = simulation.rounds[0], simulation.rounds[-1]
    assert last.physician.seconds <= first.physician.seconds < first.physician.from_nothing_s


def test_scratch_that_is_trained_seldom_counts_as_often_as_there_are_rounds(tmp_path: Path) -> None:
    simulation = simulated(tmp_path, replace(PLAN, scratch_every=2))
    assert [each.scratch is not None for each in simulation.rounds] == [False, True, True]
    voxels = 9 * 14 * 11
    spent = sum(each.training_voxels + each.drafted_voxels for each in simulation.rounds)
    assert simulation.compute_ratio == pytest.approx(spent / (voxels * (10 + 14) / 2 * 3))


def test_gate_and_test_patients_are_never_trained_on(tmp_path: Path) -> None:
    backend = LevelsBackend()
    simulated(tmp_path, backend=backend)
    parts = drawn_parts({f"case-{n}": f"patient-{n}" for n in range(60)}, PLAN.wanted, PLAN.seed)
    allowed = {*parts.start, *parts.pool}
    assert set().union(*backend.trained) <= allowed


def test_wrong_labels_are_counted_and_the_test_part_has_none(tmp_path: Path) -> None:
    plan = replace(PLAN, per_round=8, corrupt=0.2, baselines=frozenset())
    simulation = simulated(tmp_path, plan)
    counts = simulation.mistakes.as_json
    assert counts["wrong"] == round(0.2 * 24) + round(0.2 * 20)
    assert counts["found"] + counts["missed"] == counts["wrong"]
    assert counts["found"] >= 5
    assert simulation.rounds[-1].test.dice > 0.9


def test_another_scanner_shows_what_was_forgotten_of_both(tmp_path: Path) -> None:
    plan = replace(PLAN, rounds=4, gate=40, test=4, per_round=2, site_shift=True)
    simulation = simulated(tmp_path, plan)
    report = json.loads(json.dumps(simulation_as_json(simulation), allow_nan=False))
    rounds = report["rounds"]
    assert [each["site"] for each in rounds] == ["A", "A", "B", "B"]
    assert [sorted(each["sites"]) for each in rounds] == [["A"], ["A", "B"], ["A", "B"], ["A", "B"]]
    assert rounds[-1]["dice"] == rounds[-1]["sites"]["B"]["dice"] != rounds[-1]["sites"]["A"]["dice"]
    assert report["forgetting"].keys() == {"loop", "scratch", "naive"}
    naive = [each["naive"]["sites"] for each in rounds]
    assert report["forgetting"]["naive"] == {
        "A": naive[1]["A"]["dice"] - naive[3]["A"]["dice"],
        "B": max(naive[2]["B"]["dice"], naive[3]["B"]["dice"]) - naive[3]["B"]["dice"],
    }


def test_a_baseline_that_was_left_out_has_forgotten_nothing_that_is_known(tmp_path: Path) -> None:
    plan = replace(PLAN, rounds=2, gate=40, test=4, per_round=3, site_shift=True, baselines=frozenset({"naive"}))
    forgotten = simulated(tmp_path, plan).forgotten
    assert forgotten["scratch"] == {"A": None, "B": None}
    assert forgotten["naive"]["A"] is not None


def test_a_hard_scanner_turns_dark_into_bright() -> None:
    geometry = oblique_geometry((20, 28, 24))
    voxels = np.zeros(geometry.shape, np.float32)
    voxels[5:15, 6:20, 8:18] = 100.0
    truth = Labelmap((voxels > 0).astype(np.uint8), geometry, (LOW,))
    shown = {
        kind: scanned_again(Volume(voxels, geometry, Modality.MR), truth, scanner, seed=1)
        for kind, scanner in SCANNERS.items()
    }
    for kind, (volume, moved) in shown.items():
        inside, outside = (float(volume.voxels[moved.voxels == index].mean()) for index in (1, 0))
        assert (inside < outside) == (kind is ScannerKind.HARD)


def test_the_same_seed_gives_the_same_simulation(tmp_path: Path) -> None:
    first, second = (simulated(tmp_path / name, replace(PLAN, corrupt=0.2)) for name in ("a", "b"))
    assert [each.test for each in first.rounds] == [each.test for each in second.rounds]
    assert first.mistakes == second.mistakes


def test_too_few_cases_are_refused_with_what_is_missing() -> None:
    with pytest.raises(InvalidRequest, match=r"needs 38 labelled cases.* has 12"):
        drawn_parts({f"case-{n}": f"patient-{n}" for n in range(12)}, PLAN.wanted, 0)


def test_all_cases_of_a_patient_are_in_one_part() -> None:
    patients = {f"case-{n}": f"patient-{n // 3}" for n in range(90)}
    parts = drawn_parts(patients, PLAN.wanted, 0)
    owners = [{patients[name] for name in part} for part in (parts.test, parts.gate, parts.start, parts.pool)]
    assert sum(map(len, owners)) == len(set().union(*owners)) == 30
    assert len(parts.test) >= 4
    assert len(parts.gate) >= 20


def test_a_case_that_cannot_be_read_says_so() -> None:
    failure = CaseFailure("case-1", UnreadableFile("it is damaged").problem())
    with pytest.raises(UnreadableFile, match="it is damaged"):
        SimulatedCases(lambda name: failure, (LOW, HIGH), 0).entry("case-1", Part.TRAIN)


@pytest.mark.parametrize("mistake", list(Mistake))
def test_every_mistake_changes_the_label_and_keeps_its_grid(mistake: Mistake) -> None:
    truth = a_volume(1)[1]
    other = np.zeros((12, 8, 11), np.int16)
    other[3:6, 1:4, 2:8] = 1
    wrong = mistaken(truth, mistake, other)
    assert wrong.shape == truth.shape
    assert (wrong != truth).any()
    assert set(np.unique(wrong)) <= {0, 1, 2}


def test_swapped_segments_are_where_the_others_were() -> None:
    truth = a_volume(1)[1]
    wrong = mistaken(truth, Mistake.SWAPPED, truth)
    assert ((wrong == 1) == (truth == 2)).all()


def test_as_many_labels_are_wrong_as_was_asked_for() -> None:
    names = [f"{n}" for n in range(30)]
    mistakes = drawn_mistakes(names, 0.2, seed=3)
    assert len(mistakes) == 6
    assert mistakes == drawn_mistakes(names, 0.2, seed=3)
    assert mistakes.keys() != drawn_mistakes(names, 0.2, seed=4).keys()


def test_another_scanner_keeps_where_things_are() -> None:
    geometry = oblique_geometry((20, 28, 24))
    voxels = np.zeros(geometry.shape, np.float32)
    voxels[5:15, 6:20, 8:18] = 100.0
    truth = Labelmap((voxels > 0).astype(np.uint8), geometry, (LOW,))
    volume, moved = scanned_again(Volume(voxels, geometry, Modality.MR), truth, Scanner(), seed=1)
    assert volume.geometry == moved.geometry
    assert volume.geometry.spacing_mm == pytest.approx(
        [side * factor for side, factor in zip(geometry.spacing_mm, Scanner().coarser, strict=True)]
    )
    ml = np.count_nonzero(moved.voxels) * moved.geometry.voxel_ml
    assert ml == pytest.approx(np.count_nonzero(truth.voxels) * geometry.voxel_ml, rel=0.2)
    inside = volume.geometry.world(np.argwhere(moved.voxels == 1)).mean(axis=0)
    assert inside == pytest.approx(geometry.world(np.argwhere(truth.voxels == 1)).mean(axis=0), abs=2.0)
    assert float(volume.voxels[moved.voxels == 1].mean()) > 3 * float(volume.voxels[moved.voxels == 0].mean())


def test_a_label_has_an_id_for_each_scanner() -> None:
    assert label_id("case-1") != label_id("case-1", NEW_SITE)
