"""Islands: the 26-connected parts of a segment."""

import cc3d
import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Shape
from annotate_server.imaging.components import largest_part

__all__ = ["island_at", "islands_of", "largest_part"]


def islands_of(segment: NDArray[np.bool_], least_voxels: float) -> NDArray[np.bool_]:
    """Return the parts of a segment (k, j, i) that have at least so many voxels."""
    parts = cc3d.connected_components(segment, connectivity=26)
    large = np.bincount(parts.ravel()) >= least_voxels
    large[0] = False
    kept: NDArray[np.bool_] = large[parts]
    return kept


def island_at(segment: NDArray[np.bool_], seed: Shape) -> NDArray[np.bool_]:
    """Return the part of a segment (k, j, i) that holds the seed; nothing where the seed lies in none."""
    parts = cc3d.connected_components(segment, connectivity=26)
    island: NDArray[np.bool_] = segment & (parts == parts[seed])
    return island
