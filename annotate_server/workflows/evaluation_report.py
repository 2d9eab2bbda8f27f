"""An evaluation as the object that `annotate evaluate --json` prints."""

from collections.abc import Mapping
from dataclasses import asdict, fields

from annotate_server.imaging.json_numbers import finite_number
from annotate_server.workflows.bootstrap_interval import Interval
from annotate_server.workflows.effort import EffortConstants, Work
from annotate_server.workflows.evaluation import CaseFigures, EffortSummary, Evaluation, RobotSummary, SegmentSummary


def evaluation_as_json(evaluation: Evaluation) -> Mapping[str, object]:
    """Return the object; what is not finite (a distance to nothing, a mean of nothing) becomes None.

    `cases`, `mean_dice` and `segments` are always there, the robot's figures (`dice_at` and what follows it) and
    `effort` where they were asked for. `effort.scratch_s` and `effort.draft_s` are the means of a case.
    """
    report: dict[str, object] = {
        "cases": len(evaluation.cases),
        "mean_dice": finite_number(evaluation.mean_dice.mean),
        "mean_dice_interval": _interval(evaluation.mean_dice),
        "segments": {name: _segment(summary) for name, summary in evaluation.segments.items()},
        "not_in_truth": list(evaluation.not_in_truth),
        "ignored": list(evaluation.ignored),
        "failed": [{"case": failure.name, "problem": asdict(failure.problem)} for failure in evaluation.failures],
        "per_case": [_case(case) for case in evaluation.cases],
    }
    if evaluation.robot is not None:
        report |= _robot(evaluation.robot)
    if evaluation.effort is not None:
        report["effort"] = _effort(evaluation.effort)
    return report


def _segment(summary: SegmentSummary) -> Mapping[str, object]:
    counts = {"cases": summary.cases, "missed": summary.missed, "spurious": summary.spurious}
    return {**{measure: _interval(interval) for measure, interval in summary.measures.items()}, **counts}


def _case(case: CaseFigures) -> Mapping[str, object]:
    dice = {name: finite_number(structure.agreement.dice) for name, structure in case.structures.items()}
    return {"case": case.name, "dice": dice, "draft_s": case.draft_s}


def _robot(robot: RobotSummary) -> Mapping[str, object]:
    return {
        "dice_at": list(robot.dice_at),
        "final_dice": _interval(robot.final_dice),
        "noc85": robot.noc85,
        "nof85": robot.nof85,
        "nauc": robot.nauc,
        "ms_p50": finite_number(robot.ms_p50),
        "ms_p95": finite_number(robot.ms_p95),
        "worst_drop": robot.worst_drop,
        "structures": robot.structures,
        "left_out": robot.left_out,
    }


def _effort(effort: EffortSummary) -> Mapping[str, object]:
    return {
        "scratch_s": effort.scratch.seconds / effort.cases,
        "draft_s": effort.draft.seconds / effort.cases,
        "ratio": finite_number(effort.ratio.mean),
        "ratio_interval": _interval(effort.ratio),
        "scratch": _work(effort.scratch, effort.cases),
        "draft": _work(effort.draft, effort.cases),
        "constants": {
            field.name: {"value": getattr(effort.constants, field.name), "source": field.metadata["source"]}
            for field in fields(EffortConstants)
        },
    }


def _work(work: Work, cases: int) -> Mapping[str, object]:
    return {"path_mm": work.path_mm / cases, "slices_touched": work.slices_touched / cases}


def _interval(interval: Interval) -> Mapping[str, object]:
    return {
        "mean": finite_number(interval.mean),
        "low": finite_number(interval.low),
        "high": finite_number(interval.high),
    }
