"""Labels that look wrong: those that a model contradicts far more than it contradicts the others.

A good model on a wrong label (empty, of another patient, shifted, segments swapped) agrees much less than it does with
right labels. What is far below the rest is named for a reviewer: never changed, never deleted. A model that agrees
badly with everything, as on a new kind of scanner, doubts nothing: it is then the model that is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from annotate_server.domain.learning import SegmentWork

DEVIATIONS = 4.0
"""How many robust standard deviations below the median look wrong; 4 leaves one right label in 30 000 if normal."""
LEAST_GAP = 0.15
"""What is not this far below the median is never doubted, however alike the others are."""
LEAST_MEDIAN = 0.5
"""A segment on which half of the labels agree less than this is not known well enough to doubt anybody."""
LEAST_LABELS = 5
"""Fewer labels say nothing about what is usual."""
ALIKE = 0.7
"""Two versions contradict a label in the same way where they agree with each other at least this much (Dice)."""
_MAD_TO_DEVIATION = 1.4826


@dataclass(frozen=True)
class Doubt:
    """A label that looks wrong: of which segment, how well the model agrees with it, and with half of the labels."""

    label_id: str
    segment: str
    dice: float
    usual_dice: float

    @property
    def sentence(self) -> str:
        """Return it for a person."""
        return f"{self.segment} agrees with the model by {self.dice:.2f} Dice, usual are {self.usual_dice:.2f}."


def doubts_about(
    labels: Mapping[str, Mapping[str, SegmentWork]], rivals: Mapping[str, Mapping[str, float]] | None = None
) -> tuple[Doubt, ...]:
    """Return the labels that look wrong, the worst segment of each, worst first.

    `labels` are figures by label and segment, of drafts by a version that has not learned from them. Where `rivals` say
    how alike two versions are, a label on which they do not agree with each other is hard rather than wrong.
    """
    worst: dict[str, Doubt] = {}
    for name in sorted({name for works in labels.values() for name in works}):
        scores = {label: works[name].dice for label, works in labels.items() if name in works}
        limit, usual = _limit(list(scores.values()))
        for label, dice in scores.items():
            alike = rivals is None or rivals.get(label, {}).get(name, 1.0) >= ALIKE
            if dice < limit and alike and (label not in worst or dice < worst[label].dice):
                worst[label] = Doubt(label, name, dice, usual)
    return tuple(sorted(worst.values(), key=lambda doubt: (doubt.dice, doubt.label_id)))


def _limit(scores: list[float]) -> tuple[float, float]:
    """Return the Dice below which a label looks wrong, and the usual one; below 0 where nothing can be said."""
    if len(scores) < LEAST_LABELS:
        return -1.0, float("nan")
    usual = float(np.median(scores))
    deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(np.array(scores) - usual)))
    return (usual - max(DEVIATIONS * deviation, LEAST_GAP) if usual >= LEAST_MEDIAN else -1.0), usual
