"""The smoothest field through given values: Poisson's equation on a grid, by successive over-relaxation."""

import math

import numpy as np
from numpy.typing import NDArray

from annotate_server.imaging.compiled import compiled


def relaxed(
    field: NDArray[np.float32], fixed: NDArray[np.bool_], spacing_mm: tuple[float, float, float], source: float = 0.0
) -> NDArray[np.float32]:
    """Return the field (k, j, i) that keeps its values where `fixed` and solves laplacian f = -source elsewhere.

    `source` is per square millimetre; 0 gives the harmonic field. At the border of the grid the field is level. The
    sweeps are as many as the information needs to cross the grid twice.
    """
    weights = 1.0 / np.square(np.array(spacing_mm))
    scale = weights.max()
    longest = max(field.shape)
    pull = 2.0 / (1.0 + math.sin(math.pi / max(3, longest)))
    result = np.array(field, np.float32, order="C")
    _relax(result, np.ascontiguousarray(fixed), (weights / scale).astype(np.float32), source / scale, pull, 2 * longest)
    return result


@compiled
def _relax(
    field: NDArray[np.float32],
    fixed: NDArray[np.bool_],
    weights: NDArray[np.float32],
    source: float,
    pull: float,
    sweeps: int,
) -> None:
    """Relax in place, red voxels before black ones."""
    K, J, I = field.shape
    for half in range(2 * sweeps):
        for k in range(K):
            for j in range(J):
                for i in range((k + j + half) % 2, I, 2):
                    if fixed[k, j, i]:
                        continue
                    total, weight = source, 0.0
                    if k > 0:
                        total += weights[0] * field[k - 1, j, i]
                        weight += weights[0]
                    if k < K - 1:
                        total += weights[0] * field[k + 1, j, i]
                        weight += weights[0]
                    if j > 0:
                        total += weights[1] * field[k, j - 1, i]
                        weight += weights[1]
                    if j < J - 1:
                        total += weights[1] * field[k, j + 1, i]
                        weight += weights[1]
                    if i > 0:
                        total += weights[2] * field[k, j, i - 1]
                        weight += weights[2]
                    if i < I - 1:
                        total += weights[2] * field[k, j, i + 1]
                        weight += weights[2]
                    if weight > 0.0:
                        field[k, j, i] += pull * (total / weight - field[k, j, i])
