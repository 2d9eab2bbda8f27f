"""What a MeshNet's labels are reduced to: one connected part."""

import cc3d
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]


def largest_part(labels: Labels) -> Labels:
    """Return labels (any order of axes) with every voxel outside the largest 26-connected foreground part set to 0."""
    parts = cc3d.connected_components(labels != 0, connectivity=26)
    sizes = np.bincount(parts.ravel())
    if len(sizes) <= 2:
        return labels
    kept: Labels = np.where(parts == 1 + int(np.argmax(sizes[1:])), labels, np.uint8(0))
    return kept
