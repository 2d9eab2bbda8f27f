"""A CT as the classical methods see it: canonical order, and a coarser working grid that is exactly nested in it."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Box, Geometry, Shape, Vector
from annotate_server.domain.volume import Volume
from annotate_server.imaging.reorientation import Reorientation, reoriented
from annotate_server.imaging.resampling import resample

WORKING_MM = 2.0
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
PADDING_HU = -1200.0
"""Below this a voxel was never measured: scanners fill the corners outside their circle with -2000 or -3024."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Scan:
    """A CT in the project's canonical order (k to superior, j to posterior, i to left), at two resolutions.

    `full` is a view of the volume's voxels on `full_geometry`. `hu` is float32, the mean over `factors` (k, j, i)
    voxels, on `geometry`; `padding` says where less than half of that was measured. `turned` undoes the order.
    """

    full: NDArray[np.generic]
    full_geometry: Geometry
    hu: NDArray[np.float32]
    padding: Mask
    geometry: Geometry
    factors: Shape
    turned: Reorientation

    @property
    def spacing_mm(self) -> Vector:
        """Return the spacing (k, j, i) of the working grid."""
        return self.geometry.spacing_mm

    def voxels_of(self, volume_ml: float) -> float:
        """Return how many voxels of the working grid make a volume."""
        return volume_ml / self.geometry.voxel_ml

    def slabs_around(self, mask: Mask, thickness: int = 8) -> list[Box]:
        """Return the part of the full grid around a mask of the working grid, as slabs: they need little memory."""
        box = Box.around(mask)
        if box is None:
            return []
        box = box.grown((1, 1, 1), self.geometry.shape)
        cuts = [*range(box.start[0], box.stop[0], thickness), box.stop[0]]
        _, j, i = (slice(a * f, b * f) for a, b, f in zip(box.start, box.stop, self.factors, strict=True))
        bottom, height, width = self.full_geometry.shape
        return [
            Box(
                (a * self.factors[0], j.start, i.start),
                (min(b * self.factors[0], bottom), min(j.stop, height), min(i.stop, width)),
            )
            for a, b in pairwise(cuts)
        ]

    def full_hu(self, slab: Box) -> NDArray[np.float32]:
        """Return HU of a block of the full grid (k, j, i)."""
        hu: NDArray[np.float32] = np.clip(self.full[slab.slices], LOWEST_HU, HIGHEST_HU).astype(np.float32)
        return hu

    def share(self, mask: Mask, slab: Box) -> NDArray[np.float32]:
        """Return 0 to 1 on a block of the full grid: a mask of the working grid, interpolated linearly."""
        start = tuple(a // f for a, f in zip(slab.start, self.factors, strict=True))
        stop = tuple(-(-b // f) for b, f in zip(slab.stop, self.factors, strict=True))
        part = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])).grown((1, 1, 1), self.geometry.shape)
        if not mask[part.slices].any():
            return np.zeros(slab.shape, dtype=np.float32)
        if self.factors == (1, 1, 1):
            return mask[slab.slices].astype(np.float32)
        values = mask[part.slices].astype(np.float32)
        target = self.full_geometry.cropped(slab)
        return resample(values, self.geometry.cropped(part), target).astype(np.float32, copy=False)


def scan_of(volume: Volume) -> Scan:
    """Return a CT volume in canonical order with its working grid of about WORKING_MM; nothing is copied in full."""
    turned = reoriented(volume.geometry)
    full = turned.apply(volume.voxels)
    factors = _factors(turned.geometry.spacing_mm)
    hu, padding = _reduced(full, factors)
    return Scan(full, turned.geometry, hu, padding, _nested(turned.geometry, factors), factors, turned)


def _factors(spacing_mm: Vector) -> Shape:
    k, j, i = (max(1, round(WORKING_MM / s)) for s in spacing_mm)
    return k, j, i


def _nested(geometry: Geometry, factors: Shape) -> Geometry:
    """Return the grid whose voxels are blocks of `factors` voxels."""
    first = geometry.world([[(f - 1) / 2 for f in factors]])[0]
    affine = geometry.affine
    affine[:3, :3] *= np.array(factors)
    affine[:3, 3] = first
    k, j, i = (-(-n // f) for n, f in zip(geometry.shape, factors, strict=True))
    return Geometry.from_affine(affine, (k, j, i), geometry.frame_of_reference)


def _reduced(full: NDArray[np.generic], factors: Shape) -> tuple[NDArray[np.float32], Mask]:
    """Return block means of HU, and where most of a block is padding; sides are continued to whole blocks."""
    fk, fj, fi = factors
    k, j, i = (-(-n // f) for n, f in zip(full.shape, factors, strict=True))
    margin = ((0, 0), (0, j * fj - full.shape[1]), (0, i * fi - full.shape[2]))
    hu = np.empty((k, j, i), dtype=np.float32)
    padding = np.empty((k, j, i), dtype=np.bool_)
    for index in range(k):
        slab = np.pad(full[index * fk : (index + 1) * fk].astype(np.float32), margin, mode="edge")
        blocks = slab.reshape(len(slab), j, fj, i, fi)
        padding[index] = (blocks < PADDING_HU).mean(axis=(0, 2, 4)) > 0.5
        hu[index] = np.clip(blocks, LOWEST_HU, HIGHEST_HU).mean(axis=(0, 2, 4))
    return hu, padding
