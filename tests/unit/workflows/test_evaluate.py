import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from conftest import oblique_geometry
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.errors import Cancelled, NotMadeFor, UnsupportedInput
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume
from annotate_server.imaging.overlap import agreement, structure_pairs
from annotate_server.workflows.effort import EffortConstants, finish
from annotate_server.workflows.evaluate import EvaluationOptions, Examinee, LabelledCase, evaluate
from annotate_server.workflows.evaluation_report import evaluation_as_json
from annotate_server.workflows.robots import Trace

HEAD, TAIL, WING = (Segment(n, name, (n, n, n)) for n, name in ((1, "Head"), (2, "Tail"), (3, "Wing")))
MODEL = (HEAD, TAIL, WING)
GEOMETRY = oblique_geometry((11, 23, 19))
PLAIN = EvaluationOptions(min_voxels=1, skip_border=False)


def labels(seed: int) -> NDArray[np.uint8]:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=GEOMETRY.shape), 2.0)
    return ((1 + (noise > 0)) * (np.abs(noise) > 0.7 * noise.std())).astype(np.uint8)


def case(seed: int, patient: str | None = None, voxels: NDArray[np.uint8] | None = None) -> LabelledCase:
    """A case whose volume shows its truth, so that a fake model can answer from it."""
    truth = labels(seed) if voxels is None else voxels
    segments = tuple(Segment(int(n), f"Segment {n}", (1, 1, 1)) for n in np.unique(truth) if n)
    volume = Volume(truth.astype(np.int16) + 1000 * seed, GEOMETRY)
    return LabelledCase(f"case {seed}", volume, Labelmap(truth, GEOMETRY, segments), patient)


def shifted(volume: Volume) -> Labelmap:
    """A draft that is off by a row."""
    return Labelmap(np.roll((volume.voxels % 1000).astype(np.uint8), 1, axis=1), volume.geometry, MODEL)


def test_a_segment_s_figures_are_the_means_over_cases() -> None:
    cases = [case(1), case(2), case(3)]
    evaluation = evaluate(iter(cases), Examinee(MODEL, shifted), PLAIN, Control())
    for segment in (HEAD, TAIL):
        expected = [agreement(next(structure_pairs(c.truth, shifted(c.volume), [(segment.index,) * 2]))) for c in cases]
        measures = evaluation.segments[segment.name].measures
        for name in ("dice", "surface_dice_1mm", "surface_dice_2mm", "hd95_mm", "apl_mm", "relative_apl"):
            values = [getattr(figures, name) for figures in expected]
            assert measures[name].mean == pytest.approx(np.mean(values))
            assert min(values) - 1e-9 <= measures[name].low <= measures[name].mean <= measures[name].high
            assert measures[name].high <= max(values) + 1e-9
    dice = [evaluation.segments[name].measures["dice"].mean for name in ("Head", "Tail")]
    assert evaluation.mean_dice.mean == pytest.approx(np.mean(dice))


def test_a_segment_that_no_truth_has_is_left_out_and_named() -> None:
    def with_wing(volume: Volume) -> Labelmap:
        voxels = shifted(volume).voxels.copy()
        voxels[0] = WING.index
        return Labelmap(voxels, volume.geometry, MODEL)

    options = replace(PLAIN, effort=EffortConstants())
    evaluation = evaluate([case(1), case(2)], Examinee(MODEL, with_wing), options, Control())
    assert set(evaluation.segments) == {"Head", "Tail"}
    assert evaluation.not_in_truth == ("Wing",)
    assert evaluation.effort is not None
    # To take the wing away is no part of the work: nobody knows whether it is right.
    work = [finish(pair, EffortConstants()) for c in (case(1), case(2)) for pair in pairs_of(c, with_wing(c.volume))]
    assert evaluation.effort.draft.seconds == pytest.approx(sum(w.seconds for w in work))


def pairs_of(labelled: LabelledCase, draft: Labelmap) -> Iterator:
    return structure_pairs(labelled.truth, draft, [(1, 1), (2, 2)])


def test_a_segment_that_the_model_lacks_is_named_as_ignored() -> None:
    evaluation = evaluate([case(1)], Examinee((HEAD,), only_head), PLAIN, Control())
    assert set(evaluation.segments) == {"Head"}
    assert evaluation.ignored == ("Segment 2",)


def only_head(volume: Volume) -> Labelmap:
    voxels = (volume.voxels % 1000 == 1).astype(np.uint8)
    return Labelmap(voxels, volume.geometry, (HEAD,))


def test_what_is_missed_and_what_is_spurious_is_counted_and_the_distance_is_null() -> None:
    def tail_in_the_wrong_case(volume: Volume) -> Labelmap:
        voxels = (volume.voxels % 1000).astype(np.uint8)
        swapped = np.where(voxels == 2, 0, voxels) if volume.voxels.max() < 2000 else np.where(voxels == 0, 2, voxels)
        return Labelmap(swapped.astype(np.uint8), volume.geometry, MODEL)

    without_tail = np.where(labels(2) == 2, 0, labels(2)).astype(np.uint8)
    cases = [case(1), case(2, voxels=without_tail)]
    evaluation = evaluate(cases, Examinee(MODEL, tail_in_the_wrong_case), PLAIN, Control())
    tail = evaluation.segments["Tail"]
    assert (tail.cases, tail.missed, tail.spurious) == (2, 1, 1)
    report = json.loads(json.dumps(evaluation_as_json(evaluation), allow_nan=False))
    assert report["segments"]["Tail"]["hd95_mm"]["mean"] is None
    assert report["segments"]["Tail"]["dice"]["mean"] == 0.0
    assert report["segments"]["Head"]["hd95_mm"]["mean"] == 0.0


def test_a_named_label_says_nothing_about_segments_that_it_does_not_list() -> None:
    truth = Labelmap((labels(1) == 1).astype(np.uint8), GEOMETRY, (Segment(1, "Tail", (1, 1, 1)),))
    first = LabelledCase("named", case(1).volume, truth)
    evaluation = evaluate([first, case(2)], Examinee(MODEL, shifted), PLAIN, Control())
    assert evaluation.segments["Head"].cases == 1
    assert evaluation.segments["Tail"].cases == 2


def test_one_case_that_fails_does_not_stop_the_rest() -> None:
    def refuses_the_second(volume: Volume) -> Labelmap:
        if volume.voxels.max() >= 2000:
            raise NotMadeFor("it is too long", source="case 2")
        return shifted(volume)

    evaluation = evaluate([case(1), case(2)], Examinee(MODEL, refuses_the_second), PLAIN, Control())
    assert [c.name for c in evaluation.cases] == ["case 1"]
    assert [(f.name, f.problem.type) for f in evaluation.failures] == [("case 2", "not-made-for")]
    with pytest.raises(UnsupportedInput, match="too long"):
        evaluate([case(2)], Examinee(MODEL, refuses_the_second), PLAIN, Control())


def test_a_label_on_another_grid_fails_its_case() -> None:
    moved = Geometry(GEOMETRY.shape, GEOMETRY.spacing_mm, GEOMETRY.direction, (0.0, 0.0, 0.0))
    stray = replace(case(2), truth=Labelmap(labels(2), moved, (HEAD, TAIL)))
    evaluation = evaluate([case(1), stray], Examinee(MODEL, shifted), PLAIN, Control())
    assert [f.problem.type for f in evaluation.failures] == ["invalid-labelmap"]


def test_nothing_to_evaluate_is_said() -> None:
    with pytest.raises(UnsupportedInput, match="no case"):
        evaluate([], Examinee(MODEL, shifted), PLAIN, Control())


def test_cancelling_stops_between_cases() -> None:
    asked: list[str] = []

    def drafter(volume: Volume) -> Labelmap:
        asked.append("once")
        return shifted(volume)

    with pytest.raises(Cancelled):
        evaluate([case(1), case(2)], Examinee(MODEL, drafter), PLAIN, Control(is_cancelled=lambda: bool(asked)))
    assert asked == ["once"]


def test_patients_widen_the_interval() -> None:
    def sometimes_right(volume: Volume) -> Labelmap:
        right = volume.voxels.max() // 1000 <= 4
        return (
            shifted(volume) if not right else Labelmap((volume.voxels % 1000).astype(np.uint8), volume.geometry, MODEL)
        )

    apart = evaluate([case(n) for n in range(1, 9)], Examinee(MODEL, sometimes_right), PLAIN, Control())
    together = evaluate(
        [case(n, patient=str(n > 4)) for n in range(1, 9)], Examinee(MODEL, sometimes_right), PLAIN, Control()
    )
    assert together.mean_dice.mean == apart.mean_dice.mean
    assert together.mean_dice.high - together.mean_dice.low > apart.mean_dice.high - apart.mean_dice.low


def test_effort_is_the_sum_of_the_structures_and_its_ratio_that_of_the_seconds() -> None:
    constants = EffortConstants()
    cases = [case(1), case(2)]
    options = replace(PLAIN, effort=constants)
    evaluation = evaluate(cases, Examinee(MODEL, shifted), options, Control())
    effort = evaluation_as_json(evaluation)["effort"]
    drafts = [finish(pair, constants) for c in cases for pair in pairs_of(c, shifted(c.volume))]
    nothing = Labelmap(np.zeros(GEOMETRY.shape, np.uint8), GEOMETRY, MODEL)
    scratch = [finish(pair, constants) for c in cases for pair in pairs_of(c, nothing)]
    assert effort["draft_s"] == pytest.approx(sum(w.seconds for w in drafts) / 2)
    assert effort["scratch_s"] == pytest.approx(sum(w.seconds for w in scratch) / 2)
    assert effort["ratio"] == pytest.approx(effort["draft_s"] / effort["scratch_s"])
    assert effort["draft"]["path_mm"] == pytest.approx(sum(w.path_mm for w in drafts) / 2)
    assert effort["constants"]["draw_mm_per_s"]["value"] == constants.draw_mm_per_s


def test_a_model_that_can_answer_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="robot"):
        Examinee(MODEL)


TRACES = {
    "Segment 1": Trace((0.2, 0.9, 0.8, 0.9), (10.0, 20.0, 30.0, 40.0)),
    "Segment 2": Trace((0.4, 0.5, 0.6, 0.7), (50.0, 60.0, 70.0, 80.0)),
}


def drive(volume: Volume, truth: NDArray[np.bool_], segment: Segment) -> Trace:
    assert truth.shape == volume.geometry.shape
    assert truth.any()
    return TRACES[segment.name]


def test_the_robot_s_figures_are_those_of_the_definitions() -> None:
    report = evaluation_as_json(evaluate([case(1)], Examinee((), drive=drive), PLAIN, Control()))
    assert report["dice_at"] == pytest.approx([0.3, 0.7, 0.7, 0.8])
    assert report["noc85"] == (2 + 4) / 2
    assert report["nof85"] == 0.5
    areas = [((0.2 + 0.9) / 2 + (0.9 + 0.8) / 2 + (0.8 + 0.9) / 2) / 3, (0.45 + 0.55 + 0.65) / 3]
    assert report["nauc"] == pytest.approx(np.mean(areas))
    assert report["worst_drop"] == pytest.approx(0.1)
    assert report["ms_p50"] == pytest.approx(45.0)
    assert report["ms_p95"] == pytest.approx(np.percentile(np.arange(10, 90, 10), 95))
    assert report["structures"] == 2
    assert report["mean_dice"] == pytest.approx(0.8)
    assert report["segments"]["Segment 1"]["dice"]["mean"] == pytest.approx(0.9)
    assert report["segments"]["Segment 1"]["apl_mm"]["mean"] is None


def test_the_robot_keeps_off_structures_that_are_small_or_cut_off() -> None:
    voxels = np.zeros(GEOMETRY.shape, np.uint8)
    voxels[2:8, 2:14, 2:12] = 1
    voxels[0:8, 16:22, 2:16] = 2
    voxels[4, 4, 14] = 3
    sent: list[str] = []

    def listing(volume: Volume, truth: NDArray[np.bool_], segment: Segment) -> Trace:
        sent.append(segment.name)
        return Trace((0.5, 0.6), (1.0, 1.0))

    evaluation = evaluate([case(1, voxels=voxels)], Examinee((), drive=listing), EvaluationOptions(), Control())
    assert sent == ["Segment 1"]
    assert evaluation.robot is not None
    assert evaluation.robot.left_out == 2
    with pytest.raises(UnsupportedInput, match="at least 5000 voxels"):
        evaluate([case(1, voxels=voxels)], Examinee((), drive=listing), EvaluationOptions(min_voxels=5000), Control())


def test_draft_and_robot_are_reported_side_by_side() -> None:
    traces = Trace((0.1, 0.2), (1.0, 2.0))
    examinee = Examinee(MODEL, shifted, lambda volume, truth, segment: traces)
    report = evaluation_as_json(evaluate([case(1)], examinee, PLAIN, Control()))
    assert report["dice_at"] == pytest.approx([0.1, 0.2])
    assert report["mean_dice"] > 0.2
