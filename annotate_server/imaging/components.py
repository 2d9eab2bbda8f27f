"""Connected parts of a binary volume."""

import cc3d
import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Box


def parts_of(occupied: NDArray[np.bool_], least_voxels: int = 1) -> tuple[Box, ...]:
    """Return the box of each 26-connected part of an array (k, j, i) with `least_voxels` or more, largest first."""
    parts = cc3d.connected_components(occupied, connectivity=26)
    statistics = cc3d.statistics(parts)
    sizes = statistics["voxel_counts"]
    kept = [n for n in range(1, len(sizes)) if sizes[n] >= least_voxels]
    boxes = statistics["bounding_boxes"]
    return tuple(
        Box(
            (int(boxes[n][0].start), int(boxes[n][1].start), int(boxes[n][2].start)),
            (int(boxes[n][0].stop), int(boxes[n][1].stop), int(boxes[n][2].stop)),
        )
        for n in sorted(kept, key=lambda n: -int(sizes[n]))
    )


def largest_part(occupied: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest 26-connected part of an array (k, j, i); nothing of nothing."""
    parts = cc3d.connected_components(occupied, connectivity=26)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest: NDArray[np.bool_] = occupied & (parts == int(np.argmax(sizes)))
    return largest
