"""Where a value lies in an array: its smallest box, found in one pass that stops early in every row."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Box
from annotate_server.imaging.compiled import compiled


def box_of_value(labels: NDArray[np.generic], value: int) -> Box | None:
    """Return the smallest box of the voxels (k, j, i) that equal `value`; None where there is none.

    `labels` is bool, uint8 or uint16, of any strides; nothing of its size is allocated.
    """
    if labels.size == 0:
        return None
    values = cast("NDArray[np.uint8]", labels.view(np.uint8) if labels.dtype == np.bool_ else labels)
    ends = _ends(values, values.dtype.type(value))
    if ends[1] == 0:
        return None
    k, j, i = (int(first) for first in ends[::2])
    return Box((k, j, i), (int(ends[1]), int(ends[3]), int(ends[5])))


@compiled
def _ends(values: NDArray[np.uint8], value: np.uint8) -> NDArray[np.intp]:
    """Return first and last + 1 along k, j and i, interleaved; stops of 0 where the value does not occur."""
    K, J, I = values.shape
    ends = np.array([K, 0, J, 0, I, 0], np.intp)
    for k in range(K):
        for j in range(J):
            row = values[k, j]
            hits = 0
            for i in range(I):
                hits += row[i] == value
            if hits == 0:
                continue
            ends[0], ends[1] = min(ends[0], k), k + 1
            ends[2], ends[3] = min(ends[2], j), max(ends[3], j + 1)
            first = 0
            while row[first] != value:
                first += 1
            last = I - 1
            while row[last] != value:
                last -= 1
            ends[4], ends[5] = min(ends[4], first), max(ends[5], last + 1)
    return ends
