"""How unsure a model was of a draft, in one number a slice: small enough to keep with the draft for ever."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.model import Prediction

_DIGITS = 3


def unsure_by_slice(predictions: Iterable[Prediction], slices: int) -> tuple[float, ...]:
    """Return for each of `slices` (k) the mean uncertainty, 0 to 1, of the voxels on a border within the slice.

    A border voxel belongs to a segment and has a neighbour in its slice that does not: away from borders a model is
    sure, so that a mean over all voxels would tell how large a segment is. Slices without a border have 0. Empty where
    no prediction says how unsure it is.
    """
    total, count = np.zeros(slices), np.zeros(slices)
    is_told = False
    for prediction in predictions:
        if prediction.uncertainty is None:
            continue
        is_told = True
        for k, (labels, unsure) in enumerate(zip(prediction.labels, prediction.uncertainty, strict=True)):
            on_border = _border(labels)
            total[prediction.box.start[0] + k] += float(unsure[on_border].sum(dtype=np.float64))
            count[prediction.box.start[0] + k] += int(on_border.sum())
    if not is_told:
        return ()
    means = total / np.maximum(count, 1)
    return tuple(round(float(mean), _DIGITS) for mean in means)


def _border(labels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Return the voxels of a slice (j, i) with a label that one of the four neighbours does not have."""
    border: NDArray[np.bool_] = np.zeros(labels.shape, np.bool_)
    if not labels.any():
        return border
    below, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    border[1:] |= below
    border[:-1] |= below
    border[:, 1:] |= right
    border[:, :-1] |= right
    border &= labels != 0
    return border
