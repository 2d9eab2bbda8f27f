"""Boolean operations of two segments of one labelmap, where no voxel can belong to both."""

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.helper import Combination

Pair = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def combined(mine: NDArray[np.bool_], other: NDArray[np.bool_], combination: Combination) -> Pair:
    """Return both segments (k, j, i) afterwards; new arrays.

    union: the other's voxels become mine. copy: mine is what the other was. Either empties the other, since a voxel
    has one owner. intersection: what both have, which between segments of one labelmap is nothing. difference: mine
    without the other's, which is mine as it was.
    """
    nothing = np.zeros_like(other)
    match combination:
        case Combination.UNION:
            return mine | other, nothing
        case Combination.COPY:
            return other.copy(), nothing
        case Combination.INTERSECTION:
            return mine & other, other.copy()
        case Combination.DIFFERENCE:
            return mine & ~other, other.copy()
