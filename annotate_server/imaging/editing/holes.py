"""Holes: what a segment encloses."""

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def holes_in(segment: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels (k, j, i) that the segment encloses on all sides: no way by faces leads out of the array.

    What is open towards the array's border is no hole.
    """
    parts = cc3d.connected_components(~np.pad(segment, 1), connectivity=6)[1:-1, 1:-1, 1:-1]
    outside = 1
    holes: NDArray[np.bool_] = (parts != outside) & ~segment
    return holes


def holes_by_slice(segment: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Return the voxels (k, j, i) that the segment encloses within a slice across `axis`; ways go by edges in it."""
    holes = np.zeros_like(segment)
    for plane, result in zip(np.moveaxis(segment, axis, 0), np.moveaxis(holes, axis, 0), strict=True):
        if plane.any():
            result[:] = ndimage.binary_fill_holes(plane) & ~plane
    return holes
