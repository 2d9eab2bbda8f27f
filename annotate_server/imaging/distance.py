"""Exact Euclidean distances in millimetres."""

from collections.abc import Sequence

import edt
import numpy as np
from numpy.typing import NDArray


def depth_mm(occupied: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """Return the distance of each voxel of an area or volume to the nearest centre outside; 0 outside.

    What lies beyond the array is not outside; where everything is occupied the distance is infinite. `edt` takes less
    than half the time for bytes than for the same bytes called bool, hence the view.
    """
    depth: NDArray[np.float32] = edt.edt(np.ascontiguousarray(occupied).view(np.uint8), anisotropy=tuple(spacing_mm))
    return depth
