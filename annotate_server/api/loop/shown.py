"""What the pages of the loop show: plots and rows out of reports, evidence and curves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from annotate_server.api.loop.plots import Dot, Mark, Plot
from annotate_server.domain.training import Part, TrainingPoint, TrainingSet
from annotate_server.workflows.gate_evidence import GateEvidence
from annotate_server.workflows.learning_report import CurvePoint

SMOOTHED_OVER = 10
"""Labels that the running mean of the learning curve is over."""


@dataclass(frozen=True)
class SetCounts:
    """How many labels of how many patients a training set has in each part, and how many were new."""

    rows: tuple[tuple[str, int, int], ...]
    new: int


def learning_plot(curve: Sequence[CurvePoint]) -> str | None:
    """Return the learning curve: the share of each label's contour that had to be redrawn, in the order of labels."""
    points = [(n, point) for n, point in enumerate(curve, 1) if point.relative_apl is not None]
    if len(points) < 2:
        return None
    dots = [
        Dot(
            n,
            point.relative_apl or 0.0,
            f"label {n}, {point.version}: {100 * (point.relative_apl or 0):.0f} %",
            not point.is_shown,
        )
        for n, point in points
    ]
    values = [point.relative_apl or 0.0 for _, point in points]
    mean = [(points[i][0], _mean(values[max(0, i - SMOOTHED_OVER + 1) : i + 1])) for i in range(len(points))]
    changes = [
        Mark(n, point.version[:7])
        for (n, point), (_, before) in zip(points[1:], points, strict=False)
        if point.version != before.version
    ]
    about = (
        f"Share of the contour that had to be redrawn, {len(points)} labels: at first {100 * mean[0][1]:.0f} %,"
        f" in the end {100 * mean[-1][1]:.0f} % (mean of the last {min(SMOOTHED_OVER, len(points))})."
    )
    return Plot(about, "labels, in order", "redrawn", dots, [mean], changes, least_y=0.2).svg()


def training_plot(points: Sequence[TrainingPoint]) -> str | None:
    """Return the curve of a training."""
    if len(points) < 2:
        return None
    line = [(float(point.step), point.loss) for point in points]
    about = (
        f"Loss of the training: {line[0][1]:.3f} at step {points[0].step}, {line[-1][1]:.3f} at step {points[-1].step}."
    )
    return Plot(about, "steps", "loss", lines=[line]).svg()


def gate_plot(evidence: GateEvidence) -> str | None:
    """Return the gate's cases: each segment of each label by the champion's Dice and the challenger's."""
    dots = [
        Dot(case.champion[name].dice, work.dice, f"{name}: {case.champion[name].dice:.3f} to {work.dice:.3f}")
        for case in evidence.cases
        for name, work in sorted(case.challenger.items())
        if name in case.champion
    ]
    if not dots:
        return None
    better = sum(dot.y > dot.x for dot in dots)
    start = min(0.9, math.floor(10 * min(min(dot.x, dot.y) for dot in dots)) / 10)
    about = f"Dice of {len(dots)} structures by champion and challenger: the challenger is better on {better}."
    return Plot(about, "champion (Dice)", "challenger", dots, has_diagonal=True, start=start).svg()


def set_counts(training_set: TrainingSet) -> SetCounts:
    """Return what a training set is made of."""
    rows = []
    for part in Part:
        entries = training_set.of(part)
        rows.append((str(part), len(entries), len({entry.patient for entry in entries})))
    return SetCounts(tuple(rows), len(training_set.new))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
