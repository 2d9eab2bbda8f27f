"""Which of a sweep's candidates becomes the challenger, without letting the choice flatter the figures that judge it.

The best of several candidates on some patients looks better on these patients than it is. Each label is therefore
judged by the candidate that the *other* groups of patients would have chosen; what is promoted is the one that all of
them choose. The figures of the gate are then those of the whole procedure, the choice included.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from annotate_server.domain.learning import SegmentWork

Works = Mapping[str, SegmentWork]
GROUPS = 5


@dataclass(frozen=True)
class Choice:
    """The chosen share, the mean Dice of every share over all labels, and by which share each label is judged."""

    share: float
    dice: Mapping[float, float]
    judged_by: Mapping[str, float]


def choose(candidates: Mapping[float, Mapping[str, Works]], patients: Mapping[str, str]) -> Choice:
    """Return the choice over the labels of `patients`; `candidates` hold figures by share and label."""
    labels = sorted(patients)
    groups = {label: group_of(patients[label]) for label in labels}
    chosen_without = {
        group: _best(candidates, [label for label in labels if groups[label] != group] or labels)
        for group in sorted(set(groups.values()))
    }
    return Choice(
        _best(candidates, labels),
        {share: mean_dice([works[label] for label in labels]) for share, works in sorted(candidates.items())},
        {label: chosen_without[groups[label]] for label in labels},
    )


def group_of(patient: str, groups: int = GROUPS) -> int:
    """Return which group a patient belongs to: always the same, whoever else is there."""
    return int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") % groups


def mean_dice(labels: Collection[Works]) -> float:
    """Return the mean over segments of the mean over labels; 0 where there is no label."""
    return _mean(labels, "dice")


def _mean(labels: Collection[Works], measure: str) -> float:
    names = {name for works in labels for name in works}
    means = [np.mean([getattr(works[name], measure) for works in labels if name in works]) for name in sorted(names)]
    return float(np.mean(means)) if means else 0.0


def _best(candidates: Mapping[float, Mapping[str, Works]], labels: list[str]) -> float:
    """Return the share that is worth most; of equals the one nearest to the champion."""
    return max(sorted(candidates), key=lambda share: worth([candidates[share][label] for label in labels]))


def worth(labels: Collection[Works]) -> float:
    """Return what drafts are worth: what agrees (mean Dice) less what is left to redraw (mean relative APL)."""
    return mean_dice(labels) - _mean(labels, "relative_apl")
