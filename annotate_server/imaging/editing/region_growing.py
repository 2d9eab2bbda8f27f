"""What hangs together with a seed."""

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Shape, Vector
from annotate_server.imaging.compiled import compiled

_BALL_MM, _BALL_VOXELS = 3.0, 1.5
"""Radius about the seed from which its range is taken: so many mm, and at least so many of the longest voxel side."""
_SPREADS = 3.0
"""Deviations to either side: of normal noise 99.7 % lie within them."""
_MAD_TO_DEVIATION = 1.4826


def connected_to(allowed: NDArray[np.bool_], seed: Shape) -> NDArray[np.bool_]:
    """Return what of `allowed` (k, j, i) is joined to the seed by faces; nothing where the seed is not allowed.

    The time goes with what is found, not with the size of the array.
    """
    return _connected(np.ascontiguousarray(allowed), *seed)


def usual_range(voxels: NDArray[np.generic], seed: Shape, spacing_mm: Vector) -> tuple[float, float]:
    """Return the intensities (low, high) that are usual about a seed: median and three deviations to either side.

    Median and deviation (1.48 times the median absolute deviation) are those of a small ball, so that a few voxels of
    something else in it do not count (robust form of the confidence-connected filter: mean and deviations). The range
    is never narrower than one unit of whole numbers, or than a thousandth of the ball's own range, and always holds
    the seed. What is not finite is left out.
    """
    ball = _ball(voxels, seed, spacing_mm).astype(np.float64)
    ball = ball[np.isfinite(ball)]
    own = float(voxels[seed])
    if ball.size == 0 or not np.isfinite(own):
        return (own, own)
    usual = float(np.median(ball))
    deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(ball - usual)))
    least = 0.5 if voxels.dtype.kind in "iu" else 0.001 * float(np.ptp(ball))
    reach = max(_SPREADS * deviation, least)
    return min(usual - reach, own), max(usual + reach, own)


def _ball(voxels: NDArray[np.generic], seed: Shape, spacing_mm: Vector) -> NDArray[np.generic]:
    """Return the intensities of the ball about the seed, cut off at the volume."""
    radius = max(_BALL_MM, _BALL_VOXELS * max(spacing_mm))
    window, away = [], []
    for place, side, count in zip(seed, spacing_mm, voxels.shape, strict=True):
        first, stop = max(0, place - int(radius / side)), min(count, place + int(radius / side) + 1)
        window.append(slice(first, stop))
        away.append(np.square((np.arange(first, stop) - place) * side))
    values: NDArray[np.generic] = voxels[tuple(window)][sum(np.ix_(*away)) <= radius**2]
    return values


@compiled
def _connected(allowed: NDArray[np.bool_], k: int, j: int, i: int) -> NDArray[np.bool_]:
    """Flood by whole runs along i: each waiting run is looked at once, its neighbours above, below and beside."""
    K, J, I = allowed.shape
    found = np.zeros(allowed.shape, np.bool_)
    waiting = [(k, j, i)]
    while len(waiting) > 0:
        k, j, i = waiting.pop()
        if found[k, j, i] or not allowed[k, j, i]:
            continue
        first, last = i, i
        while first > 0 and allowed[k, j, first - 1]:
            first -= 1
        while last < I - 1 and allowed[k, j, last + 1]:
            last += 1
        found[k, j, first : last + 1] = True
        for side in range(4):
            a = k + (side == 0) - (side == 1)
            b = j + (side == 2) - (side == 3)
            if a < 0 or a >= K or b < 0 or b >= J:
                continue
            inside = False
            for c in range(first, last + 1):
                free = allowed[a, b, c] and not found[a, b, c]
                if free and not inside:
                    waiting.append((a, b, c))
                inside = free
    return found
