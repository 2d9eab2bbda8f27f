"""Where voxels are: the grid of a volume in patient space.

One convention everywhere: arrays are indexed (k, j, i) = (slice, row, column), the world is LPS millimetres
(x to the patient's left, y to posterior, z to superior; DICOM PS3.3 C.7.6.2). RAS exists only inside the readers and
writers of the formats that use it.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from annotate_server.domain.errors import UntrustedGeometry

Shape = tuple[int, int, int]
Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]

ORTHONORMAL_TOLERANCE = 1e-3
"""How far the axes may be from unit length and right angles: float32 headers and six-digit DICOM strings stay below."""


@dataclass(frozen=True, slots=True)
class Box:
    """A block of voxels, half open: `start` belongs to it, `stop` does not; both (k, j, i)."""

    start: Shape
    stop: Shape

    def __post_init__(self) -> None:
        """Refuse a box whose end lies before its start."""
        if any(b < a for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"box ends before it starts: {self.start} to {self.stop}")

    @property
    def shape(self) -> Shape:
        """Return the side lengths (k, j, i)."""
        k, j, i = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return k, j, i

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Return what to index an array (k, j, i) with."""
        k, j, i = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return k, j, i

    @property
    def is_empty(self) -> bool:
        """Say whether there is no voxel in it."""
        return 0 in self.shape

    def grown(self, margin: Shape, within: Shape) -> "Box":
        """Return the box with `margin` voxels more at every side, cut off at an array of shape `within`."""
        start = _shape(max(0, a - m) for a, m in zip(self.start, margin, strict=True))
        stop = _shape(min(n, b + m) for b, m, n in zip(self.stop, margin, within, strict=True))
        return Box(start, stop)

    def shifted(self, by: Shape) -> "Box":
        """Return the box `by` voxels further on: where a box of a crop that starts there lies in the whole."""
        start, stop = (_shape(a + b for a, b in zip(corner, by, strict=True)) for corner in (self.start, self.stop))
        return Box(start, stop)

    def union(self, other: "Box") -> "Box":
        """Return the smallest box that holds both."""
        return Box(
            _shape(map(min, self.start, other.start)),
            _shape(map(max, self.stop, other.stop)),
        )

    @classmethod
    def whole(cls, shape: Shape) -> "Box":
        """Return the box of a whole array."""
        return cls((0, 0, 0), shape)

    @classmethod
    def around(cls, occupied: NDArray[np.generic]) -> "Box | None":
        """Return the smallest box that holds every non-zero voxel of an array (k, j, i); None if there is none."""
        bounds = []
        for axis in range(3):
            rest = tuple(other for other in range(3) if other != axis)
            hits = np.flatnonzero(np.any(occupied, axis=rest))
            if hits.size == 0:
                return None
            bounds.append((int(hits[0]), int(hits[-1]) + 1))
        return cls(_shape(a for a, _ in bounds), _shape(b for _, b in bounds))


NOWHERE = Box((0, 0, 0), (0, 0, 0))
"""No voxel at all: what changed where nothing did."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """A regular grid in patient space.

    `shape` and `spacing_mm` run (k, j, i). `direction[a]` is the unit vector, in LPS, along which the array axis `a`
    (0 = k, 1 = j, 2 = i) advances; the three are at right angles (left-handed sets are allowed, NIfTI has them).
    `origin_mm` is the LPS position of the centre of voxel (0, 0, 0). `frame_of_reference` is DICOM's UID where there is
    one: two grids with different ones are never the same place.

    Raises UntrustedGeometry where the numbers describe no grid: not finite, a spacing that is not positive, axes that
    are not at right angles.
    """

    shape: Shape
    spacing_mm: Vector
    direction: Matrix
    origin_mm: Vector
    frame_of_reference: str | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        if len(self.shape) != 3 or any(n < 1 for n in self.shape):
            raise UntrustedGeometry(f"the grid has the shape {self.shape}, which is no volume")
        numbers = (*self.spacing_mm, *self.origin_mm, *(x for axis in self.direction for x in axis))
        if not all(math.isfinite(x) for x in numbers):
            raise UntrustedGeometry("spacing, origin or orientation is not a finite number")
        if any(s <= 0 for s in self.spacing_mm):
            raise UntrustedGeometry(f"the voxel spacing {self.spacing_mm} mm is not positive")
        gram = np.array(self.direction) @ np.array(self.direction).T
        if np.abs(gram - np.eye(3)).max() > ORTHONORMAL_TOLERANCE:
            raise UntrustedGeometry("the axes of the grid are not at right angles to each other")

    @classmethod
    def from_affine(cls, affine: ArrayLike, shape: Shape, frame_of_reference: str | None = None) -> "Geometry":
        """Return the grid of an affine (4, 4) that maps (k, j, i, 1) to LPS mm."""
        matrix = np.asarray(affine, dtype=np.float64)
        if not np.isfinite(matrix).all():
            raise UntrustedGeometry("the affine holds a number that is not finite")
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        if (spacing <= 0).any():
            raise UntrustedGeometry("the affine maps an axis of the volume to nothing")
        axes = (matrix[:3, :3] / spacing).T
        return cls(shape, _vector(spacing), _matrix(axes), _vector(matrix[:3, 3]), frame_of_reference)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Return the matrix (4, 4) that maps (k, j, i, 1) to LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(self.direction).T * np.array(self.spacing_mm)
        matrix[:3, 3] = self.origin_mm
        return matrix

    @property
    def voxel_ml(self) -> float:
        """Return the volume of one voxel in millilitres."""
        return math.prod(self.spacing_mm) / 1000.0

    @property
    def extent_mm(self) -> Vector:
        """Return the side lengths of the whole grid (k, j, i), voxel faces included."""
        k, j, i = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return k, j, i

    def world(self, indices: ArrayLike) -> NDArray[np.float64]:
        """Return LPS mm (n, 3) of voxel positions (n, 3) in (k, j, i); fractions are allowed."""
        points = np.atleast_2d(np.asarray(indices, dtype=np.float64))
        positions: NDArray[np.float64] = points @ self.affine[:3, :3].T + self.affine[:3, 3]
        return positions

    def index(self, points_mm: ArrayLike) -> NDArray[np.float64]:
        """Return positions (n, 3) in (k, j, i), not rounded, of points (n, 3) in LPS mm."""
        points = np.atleast_2d(np.asarray(points_mm, dtype=np.float64))
        inverse = np.linalg.inv(self.affine)
        positions: NDArray[np.float64] = points @ inverse[:3, :3].T + inverse[:3, 3]
        return positions

    def contains(self, points_mm: ArrayLike) -> NDArray[np.bool_]:
        """Say for each point (n, 3) in LPS mm whether it lies within the voxels of the grid."""
        index = self.index(points_mm)
        inside: NDArray[np.bool_] = np.all((index >= -0.5) & (index < np.array(self.shape) - 0.5), axis=1)
        return inside

    def cropped(self, box: Box) -> "Geometry":
        """Return the grid of a block of this one."""
        origin = self.world([box.start])[0]
        return replace(self, shape=box.shape, origin_mm=_vector(origin))

    def resized(self, spacing_mm: Vector) -> "Geometry":
        """Return a grid over the same block of space with another spacing: faces stay, centres move."""
        shape = _shape(
            max(1, round(n * old / new)) for n, old, new in zip(self.shape, self.spacing_mm, spacing_mm, strict=True)
        )
        corner = self.world([[-0.5, -0.5, -0.5]])[0]
        half = np.array(self.direction).T @ (np.array(spacing_mm) / 2)
        return replace(self, shape=shape, spacing_mm=spacing_mm, origin_mm=_vector(corner + half))

    def matches(self, other: "Geometry", tolerance_mm: float = 1e-2) -> bool:
        """Say whether both grids are the same voxels at the same place.

        True when the shapes are equal, no corner voxel lies further than `tolerance_mm` from its twin, and the frames
        of reference do not contradict each other (an unknown one contradicts nothing).
        """
        if self.shape != other.shape or self.contradicts_frame_of(other):
            return False
        corners = np.array(list(_corners(self.shape)), dtype=np.float64)
        return bool(np.abs(self.world(corners) - other.world(corners)).max() <= tolerance_mm)

    def contradicts_frame_of(self, other: "Geometry") -> bool:
        """Say whether both name a frame of reference, and not the same one."""
        mine, theirs = self.frame_of_reference, other.frame_of_reference
        return mine is not None and theirs is not None and mine != theirs

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the grid; numbers are rounded to 1e-6 so that a written copy has the same."""
        numbers = (*self.spacing_mm, *self.origin_mm, *(x for axis in self.direction for x in axis))
        text = "|".join([*map(str, self.shape), *(f"{x + 0.0:.6f}" for x in numbers)])
        return hashlib.sha256(text.replace("-0.000000", "0.000000").encode()).hexdigest()


def _corners(shape: Shape) -> Iterator[tuple[int, int, int]]:
    for k in (0, shape[0] - 1):
        for j in (0, shape[1] - 1):
            for i in (0, shape[2] - 1):
                yield k, j, i


def _shape(values: Iterable[int]) -> Shape:
    k, j, i = values
    return k, j, i


def _vector(values: ArrayLike) -> Vector:
    x, y, z = (float(v) for v in np.asarray(values, dtype=np.float64))
    return x, y, z


def _matrix(values: NDArray[np.float64]) -> Matrix:
    a, b, c = (_vector(row) for row in values)
    return a, b, c
