"""Labels as careless people make them: swapped, shifted, empty, or another patient's. For simulations only."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Box

Target = NDArray[np.int16]
"""(k, j, i): indices of segments, 0 for background."""


class Mistake(StrEnum):
    """What is wrong with a label."""

    SWAPPED = "swapped"
    SHIFTED = "shifted"
    EMPTY = "empty"
    OTHER_PATIENT = "other-patient"


def drawn_mistakes(names: Sequence[str], share: float, seed: int) -> Mapping[str, Mistake]:
    """Draw which of the labels are wrong, `share` of them, and how; the same for the same names and seed."""
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(names))[: round(share * len(names))]
    kinds = list(Mistake)
    return {names[at]: kinds[number % len(kinds)] for number, at in enumerate(chosen)}


def mistaken(target: Target, mistake: Mistake, other: Target) -> Target:
    """Return a label (k, j, i) with a mistake in it; `other` is the label of another patient, of any shape."""
    makers: Mapping[Mistake, Callable[[Target, Target], Target]] = {
        Mistake.SWAPPED: lambda truth, _: _swapped(truth),
        Mistake.SHIFTED: lambda truth, _: _shifted(truth),
        Mistake.EMPTY: lambda truth, _: np.zeros_like(truth),
        Mistake.OTHER_PATIENT: _laid_over,
    }
    return makers[mistake](target, other)


def _swapped(target: Target) -> Target:
    """Give every segment the next one's index; a single one is mirrored along its longest axis."""
    indices = sorted(int(index) for index in np.unique(target) if index > 0)
    if len(indices) < 2:
        return np.ascontiguousarray(np.flip(target, axis=int(np.argmax(target.shape))))
    result = target.copy()
    for index, following in zip(indices, (*indices[1:], indices[0]), strict=True):
        result[target == index] = following
    return result


def _shifted(target: Target) -> Target:
    """Shift by half of what the structures extend, along the axis where they extend most."""
    box = Box.around(target)
    if box is None:
        return target.copy()
    axis = int(np.argmax(box.shape))
    return np.roll(target, max(1, box.shape[axis] // 2), axis=axis)


def _laid_over(target: Target, other: Target) -> Target:
    """Lay another patient's label over the middle of the grid, cut off where it ends."""
    result = np.zeros_like(target)
    places = [_overlap(ours, theirs) for ours, theirs in zip(target.shape, other.shape, strict=True)]
    into, out_of = zip(*places, strict=True)
    result[tuple(into)] = other[tuple(out_of)]
    return result


def _overlap(ours: int, theirs: int) -> tuple[slice, slice]:
    side = min(ours, theirs)
    mine, other = (ours - side) // 2, (theirs - side) // 2
    return slice(mine, mine + side), slice(other, other + side)
