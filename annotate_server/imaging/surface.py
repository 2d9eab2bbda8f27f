"""The surface of a structure, and how far two surfaces lie apart.

The surface is that of Nikolov et al. 2021 (doi:10.2196/26151; the surface-distance package): marching cubes through the
midpoints between neighbouring voxel centres. Its elements sit on the lattice of voxel corners: one element where the
2 x 2 x 2 voxels around a corner are neither all inside nor all outside, with the area of the triangles in there.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import edt
import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Vector

ROUNDING_MM = 1e-4
"""What float32 distances may be off: a surface at exactly the tolerance counts as within it."""

_CORNERS = tuple(product((0, 1), repeat=3))
_FULL = 255


@dataclass(frozen=True)
class SurfaceDistances:
    """Each surface element's distance (mm) to the other structure's surface, and its area (mm2).

    Infinite where the other structure is empty; arrays of length 0 where the structure itself is.
    """

    truth_mm: NDArray[np.float32]
    truth_area_mm2: NDArray[np.float64]
    predicted_mm: NDArray[np.float32]
    predicted_area_mm2: NDArray[np.float64]

    def dice(self, tolerance_mm: float) -> float:
        """Return the surface Dice: the share of both surfaces' area that lies within `tolerance_mm` of the other.

        1 where both structures are empty, 0 where one is.
        """
        within = 0.0
        for distance, area in self._both():
            within += float(area[distance <= tolerance_mm + ROUNDING_MM].sum())
        total = float(self.truth_area_mm2.sum() + self.predicted_area_mm2.sum())
        return within / total if total else 1.0

    def hausdorff_mm(self, percent: float = 95.0) -> float:
        """Return the robust Hausdorff distance: the larger of both directions' percentiles, weighted by area.

        It is that of Nikolov et al., not the percentile over voxels, so it does not depend on the slice thickness.
        0 where both structures are empty, infinite where one is.
        """
        if self.truth_mm.size == 0 or self.predicted_mm.size == 0:
            return 0.0 if self.truth_mm.size == self.predicted_mm.size else float("inf")
        return max(_percentile(distance, area, percent) for distance, area in self._both())

    def _both(self) -> tuple[tuple[NDArray[np.float32], NDArray[np.float64]], ...]:
        return (self.truth_mm, self.truth_area_mm2), (self.predicted_mm, self.predicted_area_mm2)


def surface_distances(truth: NDArray[np.bool_], predicted: NDArray[np.bool_], spacing_mm: Vector) -> SurfaceDistances:
    """Compare the surfaces of two structures, bool (k, j, i) on one grid; beyond the array is outside.

    Time and memory grow with the array: crop it to what holds both.
    """
    truth_codes, predicted_codes = neighbour_codes(truth), neighbour_codes(predicted)
    area = element_areas(spacing_mm)
    on_truth, on_predicted = on_surface(truth_codes), on_surface(predicted_codes)
    return SurfaceDistances(
        distance_to(on_predicted, spacing_mm)[on_truth],
        area[truth_codes[on_truth]],
        distance_to(on_truth, spacing_mm)[on_predicted],
        area[predicted_codes[on_predicted]],
    )


def neighbour_codes(occupied: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return for each voxel corner (one more than voxels along every axis) which of the 8 voxels around are inside.

    The bit of the voxel at offset (a, b, c), each 0 or 1 in (k, j, i), is 4a + 2b + c.
    """
    k, j, i = (side + 1 for side in occupied.shape)
    padded = np.pad(occupied, 1).view(np.uint8)
    codes = np.zeros((k, j, i), np.uint8)
    for bit, (a, b, c) in enumerate(_CORNERS):
        codes |= padded[a : a + k, b : b + j, c : c + i] << np.uint8(bit)
    return codes


def on_surface(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say for each neighbour code whether there is a surface element."""
    there: NDArray[np.bool_] = (codes != 0) & (codes != _FULL)
    return there


def distance_to(surface: NDArray[np.bool_], spacing_mm: Vector) -> NDArray[np.float32]:
    """Return for each point of the lattice the distance (mm) to the nearest surface element; infinite without any."""
    if not surface.any():
        return np.full(surface.shape, np.inf, np.float32)
    distance: NDArray[np.float32] = edt.edt(~surface, anisotropy=spacing_mm)
    return distance


@lru_cache(maxsize=64)
def element_areas(spacing_mm: Vector) -> NDArray[np.float64]:
    """Return the area (mm2) of the surface element of each of the 256 neighbour codes; read-only."""
    code, normal = _triangles()
    k, j, i = spacing_mm
    areas = np.zeros(_FULL + 1)
    np.add.at(areas, code, np.linalg.norm(normal * (j * i, k * i, k * j), axis=1))
    areas.flags.writeable = False
    return areas


@lru_cache(maxsize=1)
def _triangles() -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the code (n,) and the normal (n, 3), as long as the area at unit spacing, of every triangle."""
    from skimage.measure import marching_cubes  # noqa: PLC0415 - only where surfaces are measured

    codes, normals = [], []
    for code in range(1, _FULL):
        # A code and its complement bound the same surface; Lorensen's 15 cases describe it by the smaller of the two.
        fewer = code if code.bit_count() <= 4 else _FULL - code
        cube = np.array([fewer >> bit & 1 for bit in range(8)], np.float32).reshape(2, 2, 2)
        points, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen")
        a, b, c = points[faces].astype(np.float64).transpose(1, 0, 2)
        normals.append(np.cross(b - a, c - a) / 2)
        codes.append(np.full(len(faces), code))
    return np.concatenate(codes), np.concatenate(normals)


def _percentile(distance: NDArray[np.float32], area: NDArray[np.float64], percent: float) -> float:
    """Return the smallest distance within which `percent` of the area lies."""
    order = np.argsort(distance, kind="stable")
    share = np.cumsum(area[order])
    place = int(np.searchsorted(share, share[-1] * percent / 100.0))
    return float(distance[order][min(place, len(order) - 1)])
