"""Places: the grid of a volume as the server says it (LPS, k j i) and as Slicer does (RAS, i j k)."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from AnnotateServerLib.frame import Triple


def flipped(places: np.ndarray) -> np.ndarray:
    """Return places or steps (..., 3) in LPS where they are in RAS, and the other way round: here they meet."""
    return np.asarray(places, np.float64) * (-1.0, -1.0, 1.0)


class Grid(NamedTuple):
    """A regular grid: its shape (k, j, i), the steps along k, j and i, and the centre of the first voxel, LPS mm."""

    shape: Triple
    steps_mm: tuple[tuple[float, float, float], ...]
    origin_mm: tuple[float, float, float]

    @property
    def spacing_mm(self) -> np.ndarray:
        """Return the distances of neighbours along k, j and i."""
        return np.linalg.norm(self.steps_mm, axis=1)

    @property
    def ijk_to_ras(self) -> np.ndarray:
        """Return Slicer's matrix."""
        matrix = np.eye(4)
        matrix[:3, :3] = flipped(self.steps_mm)[::-1].T
        matrix[:3, 3] = flipped(self.origin_mm)
        return matrix

    @property
    def digest(self) -> str:
        """Return the SHA-256 (hex) that the server names the grid by: numbers rounded to 1e-6."""
        spacing = self.spacing_mm
        numbers = [*spacing, *self.origin_mm, *(np.array(self.steps_mm) / spacing[:, None]).ravel()]
        text = "|".join([*map(str, self.shape), *(f"{number + 0.0:.6f}" for number in numbers)])
        return hashlib.sha256(text.replace("-0.000000", "0.000000").encode()).hexdigest()

    def world(self, indices: np.ndarray) -> np.ndarray:
        """Return the places (n, 3), LPS mm, of indices (n, 3) in the order k, j, i."""
        return np.asarray(indices, np.float64) @ np.array(self.steps_mm) + self.origin_mm

    def index(self, places_mm: np.ndarray) -> np.ndarray:
        """Return the indices (n, 3), fractions included, of places in LPS mm."""
        away = np.asarray(places_mm, np.float64) - self.origin_mm
        return np.linalg.solve(np.array(self.steps_mm).T, away.T).T

    def contains(self, places_mm: np.ndarray) -> np.ndarray:
        """Say for each place whether a voxel holds it."""
        index = np.rint(self.index(places_mm))
        return ((index >= 0) & (index < self.shape)).all(axis=1)

    def is_same_as(self, other: Grid) -> bool:
        """Say whether both have the same voxels at the same places, whatever the order of their axes."""
        mine, theirs = self._corners(), other._corners()
        nearest = np.abs(mine[:, None] - theirs[None]).max(axis=2)
        tolerance_mm = 0.02 * float(min(self.spacing_mm))
        is_paired = (nearest <= tolerance_mm).any(axis=1).all() and (nearest <= tolerance_mm).any(axis=0).all()
        return sorted(self.shape) == sorted(other.shape) and bool(is_paired)

    def _corners(self) -> np.ndarray:
        ends = [(0, length - 1) for length in self.shape]
        return self.world([(k, j, i) for k in ends[0] for j in ends[1] for i in ends[2]])


def grid_of_case(told: dict) -> Grid:
    """Return the grid of the server's JSON."""
    k, j, i = told["shape"]
    steps = np.array(told["direction"]) * np.array(told["spacing_mm"])[:, None]
    return Grid((k, j, i), tuple(map(tuple, steps.tolist())), tuple(told["origin_mm"]))


def grid_of_matrix(ijk_to_ras: np.ndarray, shape: Triple) -> Grid:
    """Return the grid of Slicer's matrix and a shape (k, j, i)."""
    matrix = np.asarray(ijk_to_ras, np.float64)
    steps = flipped(matrix[:3, :3].T)[::-1]
    return Grid(tuple(map(int, shape)), tuple(map(tuple, steps.tolist())), tuple(flipped(matrix[:3, 3]).tolist()))
