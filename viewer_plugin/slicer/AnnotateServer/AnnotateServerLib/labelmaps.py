"""Slicer's labelmaps as arrays (k, j, i), in place and on a grid; large ones in steps, so that the window breathes."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from AnnotateServerLib.frame import Box, Triple
from AnnotateServerLib.places import Grid
from AnnotateServerLib.problem import Problem

_AT_ONCE_VOXELS = 8 << 20


def representation() -> str:
    """Return what Slicer calls labelmaps of segments."""
    return slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


def matrix_of(grid: Grid) -> object:
    """Return a grid as Slicer's matrix."""
    return slicer.util.vtkMatrixFromArray(grid.ijk_to_ras)


def allocated(grid: Grid, dtype: np.dtype) -> object:
    """Return a labelmap over a whole grid, not filled yet."""
    image = slicer.vtkOrientedImageData()
    image.SetImageToWorldMatrix(matrix_of(grid))
    allocate(image, Box((0, 0, 0), grid.shape), dtype)
    return image


def oriented(grid: Grid, voxels: np.ndarray) -> object:
    """Return a labelmap over a whole grid, with some voxels."""
    image = allocated(grid, voxels.dtype)
    view_of(image)[0][...] = voxels
    return image


def allocate(image: object, box: Box, dtype: np.dtype) -> None:
    """Give a labelmap the extent of a box, and new voxels."""
    (k0, j0, i0), (k1, j1, i1) = box
    image.SetExtent(i0, i1 - 1, j0, j1 - 1, k0, k1 - 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR if np.dtype(dtype).itemsize == 1 else vtk.VTK_UNSIGNED_SHORT, 1)


def view_of(image: object) -> tuple[np.ndarray, Triple]:
    """Return a view of the voxels, and where in the grid they begin."""
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    shape = (max(0, k1 - k0 + 1), max(0, j1 - j0 + 1), max(0, i1 - i0 + 1))
    if 0 in shape or image.GetPointData().GetScalars() is None:
        return np.zeros((0, 0, 0), np.uint8), (0, 0, 0)
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape), (k0, j0, i0)


def window(image: object, box: Box) -> np.ndarray:
    """Return a view of a box of a labelmap, which is grown where the host has cropped it to less."""
    voxels, start = view_of(image)
    there = box_at(start, voxels.shape)
    if voxels.size == 0:
        there = Box(box.start, box.start)
    union = box if there.is_empty else _union(there, box)
    if union != there:
        allocate(image, union, voxels.dtype)
        grown, start = view_of(image)
        grown[...] = 0
        if not there.is_empty:
            grown[_moved(there, start).slices] = voxels
        voxels = grown
    return voxels[_moved(box, start).slices]


def read(image: object, box: Box, dtype: np.dtype) -> np.ndarray:
    """Return a copy of the voxels of a box; zero where the labelmap does not reach."""
    voxels, start = view_of(image)
    found = np.zeros(box.shape, dtype)
    common = _common(box, box_at(start, voxels.shape))
    if not common.is_empty:
        found[_moved(common, box.start).slices] = voxels[_moved(common, start).slices]
    return found


def lies_on(image: object, grid: Grid) -> bool:
    """Say whether a labelmap's voxels are those of a grid."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return bool(np.abs(slicer.util.arrayFromVTKMatrix(matrix) - grid.ijk_to_ras).max() < 1e-3)


def placed(image: object, grid: Grid) -> tuple[np.ndarray, Box]:
    """Return the voxels of a labelmap that lie in a grid, and where; one that lies elsewhere is resampled first."""
    if not lies_on(image, grid):
        image = _resampled(image, grid)
    voxels, start = view_of(image)
    inside = _common(box_at(start, voxels.shape), Box((0, 0, 0), grid.shape))
    return voxels[_moved(inside, start).slices], inside


def differing(copy: np.ndarray, image: object) -> Generator:
    """Return the smallest box in which a labelmap differs from a copy of a whole grid; None where it does not.

    In steps: a large grid takes a while.
    """
    voxels, (k0, j0, i0) = view_of(image)
    nk, nj, ni = voxels.shape
    within = (slice(j0, j0 + nj), slice(i0, i0 + ni))
    planes = max(1, _AT_ONCE_VOXELS // copy[0].size)
    scratch, boxes = np.empty((nj, ni), np.bool_), []
    for k, kept in enumerate(copy):
        if k % planes == planes - 1:
            yield None
        there = voxels[k - k0] if k0 <= k < k0 + nk else None
        if there is None:
            changed = kept != 0 if kept.any() else None
        elif not np.not_equal(kept[within], there, out=scratch).any() and _is_zero_around(kept, within):
            changed = None
        else:
            changed = kept != 0
            changed[within] = kept[within] != there
        if changed is not None:
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            boxes.append((k, rows[0], columns[0], rows[-1] + 1, columns[-1] + 1))
    if not boxes:
        return None
    found = np.array(boxes)
    k, j, i = (int(found[:, column].min()) for column in range(3))
    return Box((k, j, i), (int(found[:, 0].max()) + 1, int(found[:, 3].max()), int(found[:, 4].max())))


def box_at(start: Triple, shape: tuple) -> Box:
    """Return the box of an array that begins at a voxel."""
    return Box(tuple(start), tuple(a + length for a, length in zip(start, shape)))


def at_once(steps: Generator) -> object:
    """Return what steps lead to, without letting the window breathe."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _union(one: Box, other: Box) -> Box:
    return Box(tuple(map(min, one.start, other.start)), tuple(map(max, one.stop, other.stop)))


def _common(one: Box, other: Box) -> Box:
    start = tuple(map(max, one.start, other.start))
    return Box(start, tuple(map(max, start, map(min, one.stop, other.stop))))


def _moved(box: Box, start: Triple) -> Box:
    """Return a box as an array sees it that begins at a voxel."""
    return Box(
        tuple(a - s for a, s in zip(box.start, start)),
        tuple(b - s for b, s in zip(box.stop, start)),
    )


def _is_zero_around(plane: np.ndarray, within: tuple) -> bool:
    rows, columns = within
    around = (plane[: rows.start], plane[rows.stop :], plane[rows, : columns.start], plane[rows, columns.stop :])
    return not any(part.any() for part in around)


def _resampled(image: object, grid: Grid) -> object:
    reference, found = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    reference.SetImageToWorldMatrix(matrix_of(grid))
    k, j, i = grid.shape
    reference.SetExtent(0, i - 1, 0, j - 1, 0, k - 1)
    resample = slicer.vtkOrientedImageDataResample
    if not resample.ResampleOrientedImageToReferenceOrientedImage(image, reference, found, False, False):
        raise Problem("The segmentation cannot be brought onto the grid of the case.", "Show the draft again.")
    return found
