"""Labels of a file on their own grid, and how they come onto a volume's grid: turned exactly, never interpolated."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import InvalidLabelmap
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.labelmap import Labelmap, LabelVoxels, Segment, labelmap_dtype, present_indices
from annotate_server.imaging.reorientation import turned_like
from annotate_server.imaging.unnamed_segments import unnamed_segment, unused_name

TOLERANCE_VOXELS = 0.05
"""How far a labelmap's voxel may lie from the volume's: tools write spacings with four digits, which adds up to a few
hundredths of a voxel over 512; a shift that a person could see is ten times as large."""


@dataclass(frozen=True)
class FoundLabels:
    """The layers of a file, each (k, j, i) on `geometry`, and the segments of each.

    `is_block` says that the file may hold a part of the volume's grid only, as Slicer's does.
    """

    geometry: Geometry
    layers: tuple[LabelVoxels, ...]
    segments: tuple[tuple[Segment, ...], ...]
    is_block: bool = False


def label_voxels(numbers: NDArray[np.generic]) -> LabelVoxels:
    """Return the numbers of a file as labels, uint8 where all fit, else uint16; the array may be the one that came in.

    Raises InvalidLabelmap for a number that is no whole number from 0 to 65535.
    """
    native = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
    if native.dtype.kind == "f":
        if not np.isfinite(native).all():
            raise InvalidLabelmap("it holds values that are not finite, so it is no labelmap")
        if any((plane != np.rint(plane)).any() for plane in native):
            raise InvalidLabelmap("it holds fractions (probabilities?), so it is no labelmap")
    low, high = native.min(), native.max()
    if low < 0 or high > 65535:
        raise InvalidLabelmap(f"it holds values from {low:g} to {high:g}; a labelmap has 0 to 65535")
    return native.astype(np.uint8, copy=False) if high <= 255 else native.astype(np.uint16, copy=False)


def with_unnamed(voxels: LabelVoxels, named: Sequence[Segment]) -> tuple[Segment, ...]:
    """Return the segments of a layer: the named ones, and one for each value that has no name."""
    segments = list(named)
    for index in sorted(present_indices(voxels) - {segment.index for segment in named}):
        segment = unnamed_segment(index)
        segments.append(replace(segment, name=unused_name(segment.name, [other.name for other in segments])))
    return tuple(segments)


def on_grid(found: FoundLabels, reference: Geometry) -> tuple[Labelmap, ...]:
    """Return the labelmaps on the volume's grid, one a layer.

    Another order or direction of the axes is turned exactly; another grid raises InvalidLabelmap that says how far off.
    """
    if found.is_block and found.geometry.shape == (1, 1, 1) and not any(layer.any() for layer in found.layers):
        # Slicer's way to write that there is no voxel: where it lies has no meaning.
        return tuple(Labelmap(_blank(reference, segments), reference, segments) for segments in found.segments)
    turn = turned_like(found.geometry, reference)
    box = _place(turn.geometry, reference, is_block=found.is_block)
    return tuple(
        Labelmap(_filled(cast("LabelVoxels", turn.apply(voxels)), box, reference, segments), reference, segments)
        for voxels, segments in zip(found.layers, found.segments, strict=True)
    )


def _place(geometry: Geometry, reference: Geometry, *, is_block: bool) -> Box:
    """Return which block of the volume's grid a turned grid is; it may reach beyond the volume."""
    if geometry.contradicts_frame_of(reference):
        raise InvalidLabelmap("it has another frame of reference than the volume")
    if geometry.shape != reference.shape and not is_block:
        theirs, ours = (" x ".join(map(str, grid.shape[::-1])) for grid in (geometry, reference))
        raise InvalidLabelmap(f"it has {theirs} voxels and the volume {ours}")
    last = [n - 1 for n in geometry.shape]
    corners = np.array([[k, j, i] for k in (0, last[0]) for j in (0, last[1]) for i in (0, last[2])], dtype=np.float64)
    positions = reference.index(geometry.world(corners))
    start = np.rint(positions[0]) if is_block else np.zeros(3)
    if np.abs(positions - (start + corners)).max() > TOLERANCE_VOXELS:
        distances = np.linalg.norm(geometry.world(corners) - reference.world(start + corners), axis=1)
        raise InvalidLabelmap(f"its voxels lie up to {distances.max():.3g} mm away from those of the volume")
    k, j, i = (int(n) for n in start)
    return Box((k, j, i), (k + geometry.shape[0], j + geometry.shape[1], i + geometry.shape[2]))


def _filled(voxels: LabelVoxels, box: Box, reference: Geometry, segments: Sequence[Segment]) -> LabelVoxels:
    """Return the voxels of the whole volume with a block filled in; labels beyond the volume are refused."""
    if box == Box.whole(reference.shape):
        return cast("LabelVoxels", np.ascontiguousarray(voxels, labelmap_dtype(segments)))
    whole = _blank(reference, segments)
    target = tuple(slice(max(0, a), min(b, n)) for a, b, n in zip(box.start, box.stop, reference.shape, strict=True))
    inside = tuple(
        slice(max(0, -a), max(0, -a) + max(0, t.stop - t.start)) for a, t in zip(box.start, target, strict=True)
    )
    beyond = np.count_nonzero(voxels) - np.count_nonzero(voxels[inside])
    if beyond:
        raise InvalidLabelmap(f"{beyond} of its labelled voxels lie outside the volume")
    if all(t.stop > t.start for t in target):
        whole[target] = voxels[inside]
    return whole


def _blank(reference: Geometry, segments: Sequence[Segment]) -> LabelVoxels:
    return cast("LabelVoxels", np.zeros(reference.shape, labelmap_dtype(segments)))
