"""The slices of a series by what always separates volumes: kind of file, orientation and size."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from annotate_server.imaging.dicom_frames import Frame
from annotate_server.imaging.dicom_header import DicomHeader
from annotate_server.imaging.dicom_planes import axes_of

SAME_DIRECTION = 2e-3
"""Directions this near to each other (0.1 degrees) are one orientation: headers are rounded."""
SAME_SPACING_SHARE = 1e-3


@dataclass(frozen=True)
class Slice:
    """One plane and the file that it is in."""

    header: DicomHeader
    frame: Frame


Named = tuple[str, list[Slice]]
"""Slices that belong together, and what tells them from the others; empty where there are no others."""


def by_form(slices: Sequence[Slice]) -> list[Named]:
    """Return single-frame and multi-frame files apart: some exports hold the same images in both forms."""
    single = [s for s in slices if len(s.header.frames) <= 1]
    multiple = [s for s in slices if len(s.header.frames) > 1]
    if single and multiple:
        return [("single-frame", single), ("multi-frame", multiple)]
    return [("", list(slices))]


def by_orientation(slices: Sequence[Slice]) -> list[Named]:
    """Return the slices by orientation and frame of reference; several are named by the anatomical plane."""
    groups = _alike(slices, _same_orientation)
    if len(groups) == 1:
        return [("", groups[0])]
    names = [_plane_name(group[0].frame) for group in groups]
    total, seen = Counter(names), Counter[str]()
    result = []
    for name, group in zip(names, groups, strict=True):
        seen[name] += 1
        result.append((name if total[name] == 1 else f"{name} {seen[name]} of {total[name]}", group))
    return result


def by_size(slices: Sequence[Slice]) -> list[Named]:
    """Return the slices by matrix and voxel size, named by these where there are several."""
    groups = _alike(slices, _same_size)
    return [(_size_name(group[0]) if len(groups) > 1 else "", group) for group in groups]


def _alike(slices: Sequence[Slice], same: Callable[[Slice, Slice], bool]) -> list[list[Slice]]:
    """Return the slices in groups, each like the first of its group."""
    groups: list[list[Slice]] = []
    for s in slices:
        home = next((group for group in groups if same(group[0], s)), None)
        if home is None:
            groups.append([s])
        else:
            home.append(s)
    return groups


def _same_orientation(a: Slice, b: Slice) -> bool:
    mine, theirs = a.header.frame_of_reference, b.header.frame_of_reference
    if mine and theirs and mine != theirs:
        return False
    return float(np.abs(np.subtract(a.frame.orientation or (), b.frame.orientation or ())).max()) <= SAME_DIRECTION


def _same_size(a: Slice, b: Slice) -> bool:
    if (a.header.rows, a.header.columns) != (b.header.rows, b.header.columns):
        return False
    return bool(np.allclose(a.frame.spacing_mm or (), b.frame.spacing_mm or (), rtol=SAME_SPACING_SHARE, atol=0))


def _plane_name(frame: Frame) -> str:
    """Return the anatomical plane that a slice is nearest to."""
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(axes_of(frame)[0])))]


def _size_name(s: Slice) -> str:
    j, i = s.frame.spacing_mm or (1.0, 1.0)
    return f"{s.header.rows}x{s.header.columns} at {j:.4g}x{i:.4g} mm"
