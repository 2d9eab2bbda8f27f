"""Operations on masks (k, j, i) of a working grid; every size is in millimetres or square millimetres."""

from dataclasses import dataclass
from typing import Literal

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.geometry import Box, Shape, Vector

Mask = NDArray[np.bool_]
Parts = NDArray[np.uint32]
Connectivity = Literal[6, 18, 26]


def distance_to(mask: Mask, spacing_mm: Vector) -> NDArray[np.float32]:
    """Return for every voxel outside the mask the distance to it in mm, 0 inside."""
    away: NDArray[np.float32] = edt.edt(~mask, anisotropy=spacing_mm, black_border=False, parallel=2)
    return away


def depth_in(mask: Mask, spacing_mm: Vector) -> NDArray[np.float32]:
    """Return for every voxel of the mask the distance to what is not of it; the border of the grid is no border."""
    depth: NDArray[np.float32] = edt.edt(mask, anisotropy=spacing_mm, black_border=False, parallel=2)
    return depth


def grown(mask: Mask, radius_mm: float, spacing_mm: Vector) -> Mask:
    """Return the mask dilated by a ball."""
    box = _around(mask, radius_mm, spacing_mm)
    if box is None:
        return mask.copy()
    result = np.zeros_like(mask)
    result[box.slices] = distance_to(mask[box.slices], spacing_mm) <= radius_mm
    return result


def shrunk(mask: Mask, radius_mm: float, spacing_mm: Vector) -> Mask:
    """Return the mask eroded by a ball."""
    box = _around(mask, max(spacing_mm), spacing_mm)
    if box is None:
        return mask.copy()
    result = np.zeros_like(mask)
    result[box.slices] = depth_in(mask[box.slices], spacing_mm) > radius_mm
    return result


def closed(mask: Mask, radius_mm: float, spacing_mm: Vector) -> Mask:
    """Return the mask closed by a ball: gaps and notches that the ball cannot enter belong to it.

    Nothing is closed against the border of the grid: beyond it lies nothing.
    """
    box = Box.around(mask)
    if box is None:
        return mask.copy()
    margin = [(int(radius_mm / s) + 2,) * 2 for s in spacing_mm]
    wide = distance_to(np.pad(mask[box.slices], margin), spacing_mm) <= radius_mm
    narrow = depth_in(wide, spacing_mm) > radius_mm
    result = mask.copy()
    result[box.slices] |= narrow[tuple(slice(before, -after) for before, after in margin)]
    return result


def _around(mask: Mask, margin_mm: float, spacing_mm: Vector) -> Box | None:
    box = Box.around(mask)
    if box is None:
        return None
    k, j, i = (int(margin_mm / s) + 2 for s in spacing_mm)
    return box.grown((k, j, i), _shape(mask))


def _shape(mask: NDArray[np.generic]) -> Shape:
    k, j, i = mask.shape
    return k, j, i


def parts_of(mask: Mask, connectivity: Connectivity = 6) -> tuple[Parts, int]:
    """Return the connected parts as numbers from 1, and how many there are."""
    labels, count = cc3d.connected_components(mask, connectivity=connectivity, return_N=True)
    return labels.astype(np.uint32, copy=False), int(count)


def sizes_of(parts: Parts, count: int) -> NDArray[np.int64]:
    """Return voxels per part, by its number; the background is counted as 0."""
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    return sizes


def largest_part(mask: Mask, connectivity: Connectivity = 6) -> Mask:
    """Return the largest connected part."""
    parts, count = parts_of(mask, connectivity)
    if count == 0:
        return mask.copy()
    biggest: Mask = parts == int(sizes_of(parts, count).argmax())
    return biggest


def without_small(mask: Mask, voxels: float, connectivity: Connectivity = 26) -> Mask:
    """Return the mask without connected parts of fewer voxels."""
    parts, count = parts_of(mask, connectivity)
    kept: Mask = (sizes_of(parts, count) >= max(1.0, voxels))[parts]
    return kept


def without_holes(mask: Mask) -> Mask:
    """Return the mask with everything that it encloses in three dimensions."""
    box = Box.around(mask)
    if box is None:
        return mask.copy()
    result = mask.copy()
    part = np.pad(~mask[box.slices], 1, constant_values=True)
    outside = parts_of(part)[0]
    result[box.slices] = (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return result


def without_slice_holes(mask: Mask, largest_mm2: float, spacing_mm: Vector) -> Mask:
    """Return the mask with what it encloses within a slice, up to an area."""
    result = mask.copy()
    limit = largest_mm2 / (spacing_mm[1] * spacing_mm[2])
    for k, plane in enumerate(mask):
        if plane.any():
            result[k] |= _small_holes(plane, limit)
    return result


def _small_holes(plane: Mask, limit: float) -> Mask:
    frame = np.pad(~plane, 1, constant_values=True)
    labels, count = ndimage.label(frame)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    hole = sizes <= limit
    hole[[0, labels[0, 0]]] = False
    holes: Mask = hole[labels][1:-1, 1:-1]
    return holes


def enclosed_in_slices(mask: Mask) -> Mask:
    """Return the mask with everything that cannot reach the side of its slice."""
    return without_slice_holes(mask, np.inf, (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Part:
    """One connected part: its number, where it is, how large, and its intensities (median and quartiles)."""

    number: int
    box: Box
    volume_ml: float
    centre: tuple[float, float, float]
    median: float
    spread: float
    share_below: float


def described(parts: Parts, count: int, hu: NDArray[np.float32], voxel_ml: float, below: float) -> list[Part]:
    """Return what every part looks like; `share_below` is the share of its voxels below an intensity."""
    if count == 0:
        return []
    statistics = cc3d.statistics(parts)
    found = []
    for number in range(1, count + 1):
        slices = statistics["bounding_boxes"][number]
        values = hu[slices][parts[slices] == number]
        low, median, high = np.percentile(values, [25, 50, 75])
        start, stop = [int(s.start) for s in slices], [int(s.stop) for s in slices]
        k, j, i = (float(c) for c in statistics["centroids"][number])
        found.append(
            Part(
                number,
                Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])),
                len(values) * voxel_ml,
                (k, j, i),
                float(median),
                float(high - low),
                float(np.mean(values < below)),
            )
        )
    return found


def numbered(mask: Mask, connectivity: Connectivity, smallest_voxels: float) -> tuple[Parts, int]:
    """Return the connected parts of at least so many voxels, numbered from 1, and how many there are."""
    parts, count = parts_of(mask, connectivity)
    big = np.flatnonzero(sizes_of(parts, count) >= max(1.0, smallest_voxels))
    renumbered = np.zeros(count + 1, dtype=np.uint32)
    renumbered[big] = np.arange(1, len(big) + 1)
    return renumbered[parts], len(big)


def centres_of(parts: Parts) -> NDArray[np.float64]:
    """Return the centre (k, j, i) of each part by its number, and of the background first."""
    centres: NDArray[np.float64] = np.nan_to_num(cc3d.statistics(parts)["centroids"])
    return centres
