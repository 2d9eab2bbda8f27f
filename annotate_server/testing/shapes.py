"""Solids in LPS millimetres, and a canvas that samples them on any grid.

Only +, -, *, / and comparisons decide what lies inside: IEEE 754 fixes their results, so a phantom has the same voxels
on every machine. (sin, exp and matrix products differ in their last bits between processors.)
"""

from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Box, Geometry, Vector

Coordinates = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
Corners = tuple[Vector, Vector]
EVERYWHERE = 1e4


class Solid(Protocol):
    """A part of space."""

    @property
    def corners(self) -> Corners:
        """Return the lowest and highest x, y, z that it may reach, in mm."""
        ...

    def holds(self, at: Coordinates) -> NDArray[np.bool_]:
        """Say for each position (x, y, z in mm, arrays of one shape) whether it lies inside."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid along the axes of the world; `straight_below` continues it downwards as a column of that length."""

    centre: Vector
    radii: Vector
    straight_below: float = 0.0
    straight_above: float = 0.0

    @property
    def corners(self) -> Corners:
        """Return the box around it."""
        (x, y, z), (a, b, c) = self.centre, self.radii
        return (x - a, y - b, z - c - self.straight_below), (x + a, y + b, z + c + self.straight_above)

    def level(self, at: Coordinates) -> NDArray[np.float64]:
        """Return the squared distance from the centre in units of the radii: below 1 is inside."""
        x, y, z = (p - c for p, c in zip(at, self.centre, strict=True))
        if self.straight_below:
            z = np.where(z < 0, np.minimum(z + self.straight_below, 0), z)
        if self.straight_above:
            z = np.where(z > 0, np.maximum(z - self.straight_above, 0), z)
        a, b, c = self.radii
        squared: NDArray[np.float64] = (x / a) * (x / a) + (y / b) * (y / b) + (z / c) * (z / c)
        return squared

    def holds(self, at: Coordinates) -> NDArray[np.bool_]:
        """Say which positions lie inside."""
        inside: NDArray[np.bool_] = self.level(at) < 1
        return inside


@dataclass(frozen=True)
class Tube:
    """A round rod from `start` to `end` whose radius goes from `radius` to `end_radius`; its ends are round."""

    start: Vector
    end: Vector
    radius: float
    end_radius: float | None = None

    @property
    def corners(self) -> Corners:
        """Return the box around it."""
        r = max(self.radius, self.end_radius or 0.0)
        low = [min(a, b) - r for a, b in zip(self.start, self.end, strict=True)]
        high = [max(a, b) + r for a, b in zip(self.start, self.end, strict=True)]
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def holds(self, at: Coordinates) -> NDArray[np.bool_]:
        """Say which positions lie inside."""
        axis = [b - a for a, b in zip(self.start, self.end, strict=True)]
        from_start = [p - a for p, a in zip(at, self.start, strict=True)]
        squared_length = sum(d * d for d in axis)
        along = np.clip(sum(p * d for p, d in zip(from_start, axis, strict=True)) / squared_length, 0.0, 1.0)
        away = sum((p - along * d) * (p - along * d) for p, d in zip(from_start, axis, strict=True))
        radius = self.radius + along * ((self.end_radius if self.end_radius is not None else self.radius) - self.radius)
        inside: NDArray[np.bool_] = away < radius * radius
        return inside


@dataclass(frozen=True)
class Block:
    """A block along the axes of the world, from its lowest to its highest corner."""

    low: Vector
    high: Vector

    @property
    def corners(self) -> Corners:
        """Return its corners."""
        return self.low, self.high

    def holds(self, at: Coordinates) -> NDArray[np.bool_]:
        """Say which positions lie inside."""
        inside = np.ones(np.broadcast_shapes(*(p.shape for p in at)), dtype=np.bool_)
        for position, low, high in zip(at, self.low, self.high, strict=True):
            inside &= (position >= low) & (position < high)
        return inside


@dataclass(frozen=True)
class Within:
    """What lies in the first solid and in every one of `also`, and in none of `but_not`."""

    first: Solid
    also: tuple[Solid, ...] = ()
    but_not: tuple[Solid, ...] = ()

    @property
    def corners(self) -> Corners:
        """Return the box around the first solid."""
        return self.first.corners

    def holds(self, at: Coordinates) -> NDArray[np.bool_]:
        """Say which positions lie inside."""
        inside = self.first.holds(at)
        for solid in self.also:
            inside = inside & solid.holds(at)
        for solid in self.but_not:
            inside = inside & ~solid.holds(at)
        return inside


@dataclass(frozen=True)
class AnyOf:
    """What lies in at least one of the solids."""

    solids: tuple[Solid, ...]

    @property
    def corners(self) -> Corners:
        """Return the box around all."""
        lows, highs = zip(*(solid.corners for solid in self.solids), strict=True)
        low = [min(corner[axis] for corner in lows) for axis in range(3)]
        high = [max(corner[axis] for corner in highs) for axis in range(3)]
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def holds(self, at: Coordinates) -> NDArray[np.bool_]:
        """Say which positions lie inside."""
        inside = self.solids[0].holds(at)
        for solid in self.solids[1:]:
            inside = inside | solid.holds(at)
        return inside


class Canvas:
    """Intensities and structure numbers, painted one solid over another at twice the resolution of a grid.

    `intensity` (float32) and `structure` (uint8) are (k, j, i) of the doubled grid.
    """

    def __init__(self, geometry: Geometry, background: float) -> None:
        """Begin with one intensity everywhere and structure 0."""
        k, j, i = geometry.spacing_mm
        self.target = geometry
        self.geometry = geometry.resized((k / 2, j / 2, i / 2))
        self.intensity = np.full(self.geometry.shape, background, dtype=np.float32)
        self.structure = np.zeros(self.geometry.shape, dtype=np.uint8)

    def region(self, solid: Solid) -> Box:
        """Return the block of the doubled grid that a solid may touch."""
        low, high = solid.corners
        index = self.geometry.index(list(product(*zip(low, high, strict=True))))
        start = np.clip(np.floor(index.min(axis=0)) - 1, 0, self.geometry.shape).astype(int)
        stop = np.clip(np.ceil(index.max(axis=0)) + 2, start, self.geometry.shape).astype(int)
        return Box((int(start[0]), int(start[1]), int(start[2])), (int(stop[0]), int(stop[1]), int(stop[2])))

    def coordinates(self, box: Box) -> Coordinates:
        """Return x, y, z in mm of the voxels of a block: arrays that broadcast to its shape.

        On a grid along the axes of the world each is a line, which makes the solids cheap.
        """
        indices = np.ogrid[box.slices]
        affine = self.geometry.affine

        def along(axis: int) -> NDArray[np.float64]:
            terms = [index * step for index, step in zip(indices, affine[axis, :3], strict=True) if step != 0.0]
            position: NDArray[np.float64] = sum(terms, start=np.full((1, 1, 1), affine[axis, 3]))
            return position

        return along(0), along(1), along(2)

    def paint(self, solid: Solid, intensity: float | None, structure: int | None = None) -> None:
        """Give the voxels inside a solid an intensity, a structure, or both (None leaves what is there)."""
        box = self.region(solid)
        if box.is_empty:
            return
        inside = np.broadcast_to(solid.holds(self.coordinates(box)), box.shape)
        if intensity is not None:
            self.intensity[box.slices][inside] = intensity
        if structure is not None:
            self.structure[box.slices][inside] = structure

    def finished(self, noise: float, seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """Return intensities and structures on the grid itself: the mean, and the most frequent, of eight voxels.

        `noise` is the standard deviation of what is added, white and nearly normal.
        """
        values = _blocks(self.intensity).mean(axis=1, dtype=np.float64).reshape(self.target.shape)
        values += white_noise(self.target.shape, noise, seed)
        return np.round(values).astype(np.int16), self._majority()

    def _majority(self) -> NDArray[np.uint8]:
        blocks = _blocks(self.structure)
        winner = np.zeros(len(blocks), dtype=np.uint8)
        most = np.zeros(len(blocks), dtype=np.int64)
        for structure in range(int(self.structure.max()) + 1):
            count = np.count_nonzero(blocks == structure, axis=1)
            winner[count > most] = structure
            most = np.maximum(most, count)
        return winner.reshape(self.target.shape)


def white_noise(shape: tuple[int, int, int], deviation: float, seed: int) -> NDArray[np.float64]:
    """Return noise (k, j, i) of a standard deviation: sums of four bytes of PCG64, whose stream numpy never changes."""
    count = shape[0] * shape[1] * shape[2]
    words = np.random.PCG64(seed).random_raw((count + 1) // 2).astype("<u8")
    sums = words.view(np.uint8).reshape(-1, 4).sum(axis=1, dtype=np.int64)[:count] - 510
    noise: NDArray[np.float64] = sums.reshape(shape) * (deviation / 147.8)
    return noise


def _blocks(doubled: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the eight voxels of each voxel of the halved grid: (voxels, 8)."""
    k, j, i = (n // 2 for n in doubled.shape)
    return doubled.reshape(k, 2, j, 2, i, 2).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 8)
