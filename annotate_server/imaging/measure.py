"""What a labelmap measures: volumes, mean intensities, and the diameters of RECIST 1.1.

Diameters are taken in axial slices: those of the array axis nearest to the patient's superior direction. They run from
pixel corner to pixel corner of the convex outline (Feret), so that a single pixel is as long as its diagonal; the true
length is known to about a pixel. Parts that do not touch each other count as one structure.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from annotate_server.domain.errors import InvalidLabelmap
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.volume import Volume
from annotate_server.imaging.overlap import boxes_by_index
from annotate_server.imaging.reorientation import reoriented

_EQUAL_MM = 1e-6
"""Diameters that differ by less are equally long: rounding must not choose between the diagonals of a rectangle."""


@dataclass(frozen=True, slots=True)
class SegmentMeasurement:
    """What one segment measures; all but the volume is None where the segment has no voxel.

    `mean_intensity` is in the unit of the volume. `diameter_mm` is the longest one in any axial slice,
    `short_diameter_mm` the longest one at a right angle to it in the same slice.
    """

    segment: Segment
    volume_ml: float
    mean_intensity: float | None = None
    diameter_mm: float | None = None
    short_diameter_mm: float | None = None


@dataclass(frozen=True, slots=True, order=True)
class Diameters:
    """The longest diameter in a slice and the longest one at a right angle to it."""

    long_mm: float
    short_mm: float


def measure_segments(labelmap: Labelmap, volume: Volume) -> tuple[SegmentMeasurement, ...]:
    """Measure every segment of a labelmap on its volume, in the order of the segments.

    Raises InvalidLabelmap where the two are not on one grid.
    """
    if not labelmap.geometry.matches(volume.geometry):
        raise InvalidLabelmap("the labelmap does not lie on the grid of the volume that it is measured on")
    counts, sums = _counts_and_sums(labelmap, volume)
    boxes = boxes_by_index(labelmap)
    axial = reoriented(labelmap.geometry)
    _, j_mm, i_mm = axial.geometry.spacing_mm
    measurements = []
    for segment in labelmap.segments:
        box, count = boxes.get(segment.index), int(counts[segment.index])
        if box is None:
            measurements.append(SegmentMeasurement(segment, 0.0))
            continue
        planes = axial.apply(labelmap.voxels[box.slices] == segment.index)
        diameters = longest_diameters(planes, (j_mm, i_mm))
        measurements.append(
            SegmentMeasurement(
                segment,
                count * labelmap.geometry.voxel_ml,
                float(sums[segment.index]) / count,
                diameters.long_mm,
                diameters.short_mm,
            )
        )
    return tuple(measurements)


def longest_diameters(planes: NDArray[np.bool_], pixel_mm: tuple[float, float]) -> Diameters:
    """Return the diameters of a structure (k, j, i) in the slice k where the longer one is longest.

    `pixel_mm` is (j, i). Of equally long ones that with the longer short diameter counts, so that the answer does not
    depend on the order of the axes. Both are 0 for an empty structure.
    """
    best = Diameters(0.0, 0.0)
    bounds = _longest_possible(planes, pixel_mm)
    for k in np.argsort(-bounds, kind="stable"):
        if bounds[k] == 0.0 or bounds[k] < best.long_mm - _EQUAL_MM:
            break
        found = _in_plane(planes[k], pixel_mm)
        if found.long_mm > best.long_mm + _EQUAL_MM:
            best = found
        elif found.long_mm > best.long_mm - _EQUAL_MM:
            best = max(best, found, key=lambda diameters: diameters.short_mm)
    return best


def _counts_and_sums(labelmap: Labelmap, volume: Volume) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return by index how many voxels there are and the sum of their intensities; slice by slice, to save memory."""
    size = max((segment.index for segment in labelmap.segments), default=0) + 1
    counts, sums = np.zeros(size, np.int64), np.zeros(size)
    for labels, values in zip(labelmap.voxels, volume.voxels, strict=True):
        occupied = labels != 0
        if not occupied.any():
            continue
        present = labels[occupied]
        counts += np.bincount(present, minlength=size)
        sums += np.bincount(present, values[occupied].astype(np.float64), minlength=size)
    return counts, sums


def _longest_possible(planes: NDArray[np.bool_], pixel_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Return for each slice the diagonal (mm) of the box around its pixels: no diameter is longer; 0 without any."""
    rows: NDArray[np.bool_] = np.any(planes, axis=2)
    columns: NDArray[np.bool_] = np.any(planes, axis=1)
    diagonal: NDArray[np.float64] = np.hypot(_extent(rows) * pixel_mm[0], _extent(columns) * pixel_mm[1])
    return diagonal


def _extent(lines: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return for each row (k, n) the distance from its first to its last True, both included; 0 without any."""
    first = lines.argmax(axis=1)
    last = lines.shape[1] - lines[:, ::-1].argmax(axis=1)
    return np.where(lines.any(axis=1), last - first, 0)


def _in_plane(plane: NDArray[np.bool_], pixel_mm: tuple[float, float]) -> Diameters:
    """Return the diameters of the pixels (j, i) of one slice, which has at least one."""
    outline = _outline(plane, pixel_mm)
    lengths = squareform(pdist(outline))
    longest = float(lengths.max())
    ends = np.argwhere(np.triu(lengths) > longest - _EQUAL_MM)
    return Diameters(longest, max(_chord(outline, outline[b] - outline[a]) for a, b in ends))


def _outline(plane: NDArray[np.bool_], pixel_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Return the corners (n, 2) in mm, in order, of the convex hull of a slice's pixels.

    Only the ends of each row can lie on it.
    """
    rows = np.flatnonzero(plane.any(axis=1))
    left = plane[rows].argmax(axis=1)
    right = plane.shape[1] - plane[rows, ::-1].argmax(axis=1)
    corners = [np.stack([rows + step, side], axis=1) for step in (0, 1) for side in (left, right)]
    points = np.concatenate(corners) * np.array(pixel_mm)
    outline: NDArray[np.float64] = points[ConvexHull(points).vertices]
    return outline


def _chord(outline: NDArray[np.float64], axis: NDArray[np.float64]) -> float:
    """Return the longest chord (mm) of a convex outline (n, 2) at a right angle to `axis`.

    Along the axis, the distance between both sides of the outline is a concave function that bends at corners only:
    its maximum lies at one of them.
    """
    along, across = axis / math.hypot(*axis), np.array([-axis[1], axis[0]]) / math.hypot(*axis)
    x, y = outline @ along, outline @ across
    first, last = int(x.argmin()), int(x.argmax())
    one = _from_to(first, last, len(x))
    other = _from_to(last, first, len(x))[::-1]
    return float(np.abs(np.interp(x, x[one], y[one]) - np.interp(x, x[other], y[other])).max())


def _from_to(first: int, last: int, size: int) -> NDArray[np.intp]:
    """Return the positions from `first` to `last`, going round."""
    return (first + np.arange((last - first) % size + 1)) % size
