"""A smoother border."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.geometry import Vector

REACH_SIGMAS = 4.0
"""Further away than this a Gaussian says nothing that counts."""


def smoothed(
    segment: NDArray[np.bool_], others: NDArray[np.bool_], spacing_mm: Vector, sigma_mm: float
) -> NDArray[np.bool_]:
    """Return a segment (k, j, i) with its border smoothed: what a Gaussian of its membership makes at least one half.

    `others` are the voxels of its neighbours: they are never taken, and they say nothing (the average is over what is
    not theirs), so that the border with a neighbour stays where it is and no gap opens along it. Beyond the array
    everything goes on as at its faces: give a margin of four sigmas unless a face is the volume's own.
    """
    sigma = [sigma_mm / side for side in spacing_mm]
    free = ~others
    share = _blurred(segment.astype(np.float32), sigma)
    if others.any():
        share -= 0.5 * _blurred(free.astype(np.float32), sigma)
        result: NDArray[np.bool_] = share >= -_ROUNDING
    else:
        result = share >= 0.5 - _ROUNDING
    result &= free
    return result


_ROUNDING = 1e-5
"""Float32 sums of a kernel: a flat border between two voxels is 0.5 give or take this."""


def _blurred(values: NDArray[np.float32], sigma: list[float]) -> NDArray[np.float32]:
    blurred: NDArray[np.float32] = ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=REACH_SIGMAS)
    return blurred
