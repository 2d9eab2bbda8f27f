"""What an evaluation is made of: the figures of each case, and their summary over cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import Problem
from annotate_server.imaging.overlap import Agreement
from annotate_server.workflows.bootstrap_interval import Bootstrap, Interval
from annotate_server.workflows.effort import Effort, EffortConstants, Work
from annotate_server.workflows.robots import Trace

MEASURES = tuple(field.name for field in fields(Agreement))
ENOUGH_DICE = 0.85
"""The Dice that NoC@85 and NoF@85 ask for."""


@dataclass(frozen=True)
class StructureFigures:
    """One segment in one case: how well draft and truth agree, whether either is empty, and the work if asked for."""

    agreement: Agreement
    in_truth: bool
    in_draft: bool
    effort: Effort | None = None


@dataclass(frozen=True)
class CaseFigures:
    """One case. `structures` and `traces` are by the name of the segment; `ignored` the model does not know.

    `small_or_cut` are structures that the robot was not sent to; `draft_s` is how long the draft took.
    """

    name: str
    patient: str
    structures: Mapping[str, StructureFigures]
    ignored: tuple[str, ...] = ()
    traces: Mapping[str, Trace] | None = None
    small_or_cut: tuple[str, ...] = ()
    draft_s: float | None = None


@dataclass(frozen=True)
class CaseFailure:
    """A case that could not be evaluated, and why."""

    name: str
    problem: Problem


@dataclass(frozen=True)
class SegmentSummary:
    """One segment over all cases that speak about it.

    `measures` are by the field names of Agreement. A Hausdorff distance is infinite as soon as one case has truth
    without draft or the reverse: `missed` and `spurious` count these.
    """

    cases: int
    missed: int
    spurious: int
    measures: Mapping[str, Interval]


@dataclass(frozen=True)
class RobotSummary:
    """How a promptable model answered a robot, over all structures of all cases.

    `dice_at` is the mean Dice after each interaction. `noc85` is the mean number of interactions until the Dice is
    0.85, the plan's length where it never is, `nof85` the share where it never is. `nauc` is the mean area under the
    Dice by interaction, trapezoids from the first to the last, divided by their number less one: 0 to 1. `worst_drop`
    is the largest fall of Dice from one interaction to the next. `final_dice` has its interval by patient.
    """

    structures: int
    left_out: int
    dice_at: tuple[float, ...]
    final_dice: Interval
    noc85: float
    nof85: float
    nauc: float
    ms_p50: float
    ms_p95: float
    worst_drop: float


@dataclass(frozen=True)
class EffortSummary:
    """The work on all cases from nothing and from their drafts; `ratio` is that of the seconds."""

    scratch: Work
    draft: Work
    ratio: Interval
    cases: int
    constants: EffortConstants


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth on labelled cases.

    `mean_dice` is the mean over segments of the mean over cases. `not_in_truth` are the model's segments that no case's
    truth has a voxel of: they are left out. `ignored` are the truth's segments that the model does not have.
    """

    mean_dice: Interval
    segments: Mapping[str, SegmentSummary]
    not_in_truth: tuple[str, ...]
    ignored: tuple[str, ...]
    cases: tuple[CaseFigures, ...]
    failures: tuple[CaseFailure, ...] = ()
    robot: RobotSummary | None = None
    effort: EffortSummary | None = None


def summarised(
    cases: Sequence[CaseFigures], failures: Sequence[CaseFailure], constants: EffortConstants | None
) -> Evaluation:
    """Return the summary of at least one case; intervals are by patient."""
    bootstrap = Bootstrap([case.patient for case in cases])
    everything = list(dict.fromkeys(name for case in cases for name in case.structures))
    names = [name for name in everything if any(_in_truth(case, name) for case in cases)]
    tables = {measure: _table(cases, names, measure) for measure in MEASURES}
    return Evaluation(
        mean_dice=bootstrap.mean_of_means(tables["dice"]),
        segments={name: _segment(cases, name, column, tables, bootstrap) for column, name in enumerate(names)},
        not_in_truth=tuple(name for name in everything if name not in names),
        ignored=tuple(dict.fromkeys(name for case in cases for name in case.ignored)),
        cases=tuple(cases),
        failures=tuple(failures),
        robot=_robot(cases),
        effort=_effort(cases, names, constants, bootstrap) if constants is not None else None,
    )


def _in_truth(case: CaseFigures, name: str) -> bool:
    return name in case.structures and case.structures[name].in_truth


def _table(cases: Sequence[CaseFigures], names: Sequence[str], measure: str) -> NDArray[np.float64]:
    """Return a measure by case and segment; NaN where the case does not speak about the segment."""
    table = np.full((len(cases), len(names)), np.nan)
    for row, case in enumerate(cases):
        for column, name in enumerate(names):
            if name in case.structures:
                table[row, column] = getattr(case.structures[name].agreement, measure)
    return table


def _segment(
    cases: Sequence[CaseFigures],
    name: str,
    column: int,
    tables: Mapping[str, NDArray[np.float64]],
    bootstrap: Bootstrap,
) -> SegmentSummary:
    scored = [case.structures[name] for case in cases if name in case.structures]
    return SegmentSummary(
        cases=len(scored),
        missed=sum(structure.in_truth and not structure.in_draft for structure in scored),
        spurious=sum(structure.in_draft and not structure.in_truth for structure in scored),
        measures={measure: bootstrap.mean(table[:, column]) for measure, table in tables.items()},
    )


def _robot(cases: Sequence[CaseFigures]) -> RobotSummary | None:
    """Return the summary of all traces; None where no robot was sent to anything."""
    traces = [(case.patient, trace) for case in cases for trace in (case.traces or {}).values()]
    if not traces:
        return None
    dice = np.array([trace.dice for _, trace in traces])
    length = dice.shape[1]
    reached = dice >= ENOUGH_DICE
    ever = reached.any(axis=1)
    area = np.trapezoid(dice, axis=1) / (length - 1) if length > 1 else dice[:, 0]
    spent_ms = np.array([ms for _, trace in traces for ms in trace.milliseconds])
    return RobotSummary(
        structures=len(traces),
        left_out=sum(len(case.small_or_cut) for case in cases),
        dice_at=tuple(float(value) for value in dice.mean(axis=0)),
        final_dice=Bootstrap([patient for patient, _ in traces]).mean(dice[:, -1]),
        noc85=float(np.where(ever, reached.argmax(axis=1) + 1, length).mean()),
        nof85=float(1.0 - ever.mean()),
        nauc=float(area.mean()),
        ms_p50=float(np.percentile(spent_ms, 50)),
        ms_p95=float(np.percentile(spent_ms, 95)),
        worst_drop=max(trace.worst_drop for _, trace in traces),
    )


def _effort(
    cases: Sequence[CaseFigures], names: Sequence[str], constants: EffortConstants, bootstrap: Bootstrap
) -> EffortSummary:
    """Return the sums over cases and over the segments that are evaluated."""
    efforts = [
        sum((case.structures[name].effort or Effort() for name in names if name in case.structures), Effort())
        for case in cases
    ]
    total = sum(efforts, Effort())
    draft_s = np.array([effort.draft.seconds for effort in efforts])
    scratch_s = np.array([effort.scratch.seconds for effort in efforts])
    return EffortSummary(total.scratch, total.draft, bootstrap.ratio(draft_s, scratch_s), len(cases), constants)
