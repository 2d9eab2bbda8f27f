"""Reading a DICOM Segmentation onto the grid of a volume: exactly, or not at all."""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from annotate_server.domain.errors import InvalidLabelmap, about
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment, labelmap_dtype
from annotate_server.imaging.dicom_frames import Frame, frames_of
from annotate_server.imaging.dicom_geometry import jitter_mm
from annotate_server.imaging.dicom_header import as_unreadable, read_header
from annotate_server.imaging.dicom_planes import axes_of, plane_problem
from annotate_server.imaging.dicom_seg_segments import segments_of
from annotate_server.imaging.dicom_values import count, items, text
from annotate_server.imaging.dicom_voxels import read_voxels
from annotate_server.imaging.wire import sendable

SEG_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
"""Segmentation Storage, and Label Map Segmentation Storage (Supplement 243)."""

Places = NDArray[np.int64]
Values = NDArray[np.generic]


@sendable
@dataclass(frozen=True)
class SegContent:
    """What a SEG holds: `layers` in which no segments overlap, and sentences that a person should see."""

    layers: tuple[Labelmap, ...]
    warnings: tuple[str, ...] = ()


def read_seg(path: Path, reference: Geometry) -> tuple[Labelmap, ...]:
    """Return the segments of a SEG on the reference's grid, in as many layers as overlaps need (`read_seg_content`)."""
    return read_seg_content(path, reference).layers


def read_seg_content(path: Path, reference: Geometry) -> SegContent:
    """Return what a SEG of the type BINARY, FRACTIONAL or LABELMAP holds, on the reference's grid.

    A segment's index is its number in the SEG. Probabilities count from one half. Raises UnreadableFile for damaged
    bytes, InvalidLabelmap for what is no SEG, has another frame of reference, or lies beside the reference's voxels:
    nothing is interpolated.
    """
    header = read_header(path)
    with about(str(path)), as_unreadable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if header.sop_class not in SEG_CLASSES:
            raise InvalidLabelmap(f"it is no DICOM SEG ({header.kind})")
        _check_frame_of_reference(header.frame_of_reference, reference)
        dataset, planes = read_voxels(path)
        segments = segments_of(dataset)
        kind = text(dataset, "SegmentationType")
        found = _by_segment(dataset, planes, segments, reference)
        return SegContent(_layered(found, segments, reference), _remarks(kind))


def _check_frame_of_reference(uid: str, reference: Geometry) -> None:
    """Refuse another frame of reference; highdicom's own comparison compares one with itself."""
    if uid and reference.frame_of_reference and uid != reference.frame_of_reference:
        raise InvalidLabelmap(
            "it has another frame of reference than the volume: the two were not taken in one position of the patient"
        )


def _remarks(kind: str) -> tuple[str, ...]:
    if kind != "FRACTIONAL":
        return ()
    return ("The SEG holds probabilities or occupancies; a voxel was counted from one half.",)


def _by_segment(
    dataset: Dataset, planes: Sequence[Values], segments: Sequence[Segment], reference: Geometry
) -> dict[int, list[Places]]:
    """Return for each segment the flat indices of its voxels in the reference's grid, frame by frame."""
    known = {segment.index for segment in segments}
    frames = frames_of(dataset)
    if len(frames) != len(planes):
        raise InvalidLabelmap(f"it describes {len(frames)} frames and has voxels for {len(planes)}")
    found: dict[int, list[Places]] = defaultdict(list)
    for frame, plane in zip(frames, planes, strict=True):
        for number, where in _marked(dataset, frame, plane):
            if number not in known:
                raise InvalidLabelmap(f"it marks voxels as segment {number}, which it does not describe")
            found[number].append(_placed(frame, where, reference))
    return found


def _marked(dataset: Dataset, frame: Frame, plane: Values) -> list[tuple[int, NDArray[np.bool_]]]:
    """Return the numbers of the segments in a frame that is not empty, each with where it is (rows, columns)."""
    kind = text(dataset, "SegmentationType")
    if kind == "LABELMAP":
        # The padding value stands for what lies outside the field of view: background as well.
        padding = dataset.get("PixelPaddingValue")
        values = [int(value) for value in np.unique(plane) if value not in (0, padding)]
        return [(value, np.equal(plane, value)) for value in values]
    if kind == "FRACTIONAL":
        half = (count(dataset, "MaximumFractionalValue") or 255) / 2
        where = np.greater_equal(plane, half)
    elif kind == "BINARY":
        where = np.not_equal(plane, 0)
    else:
        raise InvalidLabelmap(f"it is of the unknown type {kind!r}")
    return [(_segment_number(dataset, frame.number), where)] if where.any() else []


def _segment_number(dataset: Dataset, frame: int) -> int:
    """Return which segment a frame belongs to."""
    own = items(dataset, "PerFrameFunctionalGroupsSequence")[frame]
    for groups in (own, *items(dataset, "SharedFunctionalGroupsSequence")):
        for identification in items(groups, "SegmentIdentificationSequence"):
            return count(identification, "ReferencedSegmentNumber")
    raise InvalidLabelmap(f"frame {frame + 1} names no segment")


def _placed(frame: Frame, where: NDArray[np.bool_], reference: Geometry) -> Places:
    """Return the flat indices in the reference's grid of the marked voxels (rows, columns) of a frame."""
    problem = plane_problem(frame)
    if problem is not None or frame.position_mm is None or frame.spacing_mm is None:
        raise InvalidLabelmap(problem.detail if problem else "a frame has no place")
    _, down, along = axes_of(frame) * np.array([0.0, *frame.spacing_mm])[:, None]
    position = np.array(frame.position_mm)
    rows, columns = where.shape
    corners = [position, position + down * (rows - 1), position + along * (columns - 1)]
    index = reference.index([*corners, position + down, position + along])
    nearest = np.rint(index).astype(np.int64)
    steps = nearest[3:] - nearest[0]
    spacing = np.array(reference.spacing_mm)
    beside = np.abs(index[:3] - nearest[:3]) * spacing
    if (beside > [jitter_mm(step) for step in reference.spacing_mm]).any() or (np.abs(steps).sum(axis=1) != 1).any():
        place = ", ".join(f"{value:.2f}" for value in frame.position_mm)
        raise InvalidLabelmap(
            f"frame {frame.number + 1} at ({place}) mm does not lie on the voxels of the volume (up to "
            f"{beside.max():.2f} mm beside them)",
            remedy="Import it onto the series that it was drawn on.",
        )
    return _flat(nearest[0], steps, where, reference)


def _flat(first: Places, steps: Places, where: NDArray[np.bool_], reference: Geometry) -> Places:
    """Return flat indices of marked voxels, given the index of the first one and the steps of a row and a column."""
    indices = first + np.argwhere(where) @ steps
    if (indices < 0).any() or (indices >= reference.shape).any():
        raise InvalidLabelmap("it marks voxels beyond the volume")
    flat: Places = np.ravel_multi_index(tuple(indices.T), reference.shape)
    return flat


def _layered(found: dict[int, list[Places]], segments: Sequence[Segment], reference: Geometry) -> tuple[Labelmap, ...]:
    """Return the segments in the fewest layers that a greedy walk in their order needs, most of them in the first."""
    dtype = labelmap_dtype(segments)
    layers: list[tuple[NDArray[Any], list[Segment]]] = []
    for segment in segments:
        places = np.concatenate(found.get(segment.index) or [np.empty(0, dtype=np.int64)])
        free = next((layer for layer in layers if not layer[0].ravel()[places].any()), None)
        if free is None:
            free = (np.zeros(reference.shape, dtype=dtype), [])
            layers.append(free)
        free[0].ravel()[places] = segment.index
        free[1].append(segment)
    return tuple(Labelmap(voxels, reference, tuple(own)) for voxels, own in layers)
