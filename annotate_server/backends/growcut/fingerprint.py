"""A number for where the other segments are: equal for the same voxels, and for practical purposes only for them."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from annotate_server.imaging.compiled import compiled


def fingerprint(labels: NDArray[np.uint8] | NDArray[np.uint16] | None, active: int) -> int:
    """Return a 64-bit number for the voxels (k, j, i) that are neither background nor `active`; 0 for none.

    Each row is a sum of random words, one for each voxel that is set (a multilinear hash: two different rows share a
    sum once in 2^64), and the rows are sums in turn. It tells apart what happens, not what somebody contrives; it is
    made in one pass, as fast as the memory is read.
    """
    if labels is None:
        return 0
    words = np.random.default_rng(_SEED).integers(0, 2**64, labels.shape[2], np.uint64)
    rows = cast("NDArray[np.uint8]", np.ascontiguousarray(labels))
    return int(_hashed(rows, rows.dtype.type(active), words))


_SEED = 2026


@compiled
def _hashed(labels: NDArray[np.uint8], active: np.uint8, words: NDArray[np.uint64]) -> np.uint64:
    """Add up the rows, each multiplied by an odd number of its own."""
    K, J, I = labels.shape
    total, factor = np.uint64(0), np.uint64(0x9E3779B97F4A7C15)
    for k in range(K):
        for j in range(J):
            row = labels[k, j]
            held = np.uint64(0)
            for i in range(I):
                held += words[i] & (np.uint64(0) - np.uint64((row[i] != 0) & (row[i] != active)))
            if held != 0:
                place = np.uint64(2) * np.uint64(k * J + j) + np.uint64(1)
                mixed = (held ^ (held >> np.uint64(29))) * (place * factor | np.uint64(1))
                total += mixed ^ (mixed >> np.uint64(32))
    return total
