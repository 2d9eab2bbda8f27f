"""Turning arrays so that their axes run as wanted: exact, by views."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Geometry

Scalar = TypeVar("Scalar", bound=np.generic)

_LPS_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Which LPS axis a letter names, and its sign: an axis called L runs towards the patient's left."""


@dataclass(frozen=True, slots=True)
class Reorientation:
    """A permutation and flips of array axes: no voxel value is touched, every result is a view.

    `axes[a]` is the axis of the old array that becomes axis a of the new one, `flipped[a]` says whether it is turned
    round. `geometry` is the grid of the new array: each voxel keeps its place in the world.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    geometry: Geometry

    def apply(self, voxels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return the array (k, j, i) in the new order of axes."""
        return voxels.transpose(self.axes)[self._flips]

    def undo(self, voxels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return an array of the new order in the old one."""
        return voxels[self._flips].transpose(np.argsort(self.axes))

    @property
    def _flips(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flipped)


def reoriented(geometry: Geometry, codes: str = "SPL") -> Reorientation:
    """Return how to turn an array so that its axes (k, j, i) run towards `codes`, as nearly as flips allow.

    `codes` names, for k, j and i in this order, the side of the patient that the axis runs to: "SPL" is the
    project's canonical order (k to superior, j to posterior, i to left). For the axis codes that nibabel prints of a
    NIfTI file (i, j, k), reverse the letters. An oblique grid stays oblique: axes are matched to the nearest letters.
    """
    wanted = [_LPS_LETTERS[letter] for letter in codes]
    if sorted(axis for axis, _ in wanted) != [0, 1, 2]:
        raise ValueError(f"{codes!r} does not name three different axes")
    direction = np.array(geometry.direction)
    axes: tuple[int, int, int] = max(
        list(permutations(range(3), 3)),
        key=lambda order: sum(abs(direction[old, axis]) for old, (axis, _) in zip(order, wanted, strict=True)),
    )
    flipped = tuple(bool(direction[old, axis] * sign < 0) for old, (axis, sign) in zip(axes, wanted, strict=True))
    return Reorientation(axes, (flipped[0], flipped[1], flipped[2]), _turned(geometry, axes, flipped))


def turned_like(geometry: Geometry, other: Geometry) -> Reorientation:
    """Return how to turn an array so that its axes run like those of another grid, as nearly as flips allow."""
    cosines = np.array(other.direction) @ np.array(geometry.direction).T
    axes: tuple[int, int, int] = max(
        list(permutations(range(3), 3)), key=lambda order: sum(abs(cosines[new, order[new]]) for new in range(3))
    )
    k, j, i = (bool(cosines[new, axes[new]] < 0) for new in range(3))
    return Reorientation(axes, (k, j, i), _turned(geometry, axes, (k, j, i)))


def _turned(geometry: Geometry, axes: Sequence[int], flipped: Sequence[bool]) -> Geometry:
    """Return the grid of the turned array."""
    first_voxel = [0, 0, 0]
    for old, flip in zip(axes, flipped, strict=True):
        first_voxel[old] = geometry.shape[old] - 1 if flip else 0
    affine = geometry.affine
    columns = [affine[:3, old] * (-1 if flip else 1) for old, flip in zip(axes, flipped, strict=True)]
    turned = np.eye(4)
    turned[:3, :3] = np.array(columns).T
    turned[:3, 3] = geometry.world([first_voxel])[0]
    k, j, i = (geometry.shape[old] for old in axes)
    return Geometry.from_affine(turned, (k, j, i), geometry.frame_of_reference)
