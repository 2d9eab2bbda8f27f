"""Volumes of the scene: which case one is, what of it goes to the server, and where a point in the view is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Generator

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from AnnotateServerLib.nrrd import Plain
from AnnotateServerLib.places import Grid, flipped, grid_of_matrix
from AnnotateServerLib.problem import Problem

CASE_ATTRIBUTE = "AnnotateServer.Case"
GRID_ATTRIBUTE = "AnnotateServer.Grid"
SERVER_ATTRIBUTE = "AnnotateServer.Server"
_INSTANCES_ATTRIBUTE = "DICOM.instanceUIDs"
_SERIES_TAG = "0020,000e"
_AT_ONCE_BYTES = 4 << 20
_MOST_A_SIDE = 64


def grid_of(volume: object) -> Grid:
    """Return the grid of a scalar volume node, without the transforms that it is under."""
    image = volume.GetImageData()
    if image is None:
        raise Problem(f"{volume.GetName()} has no voxels.", "Choose another volume.")
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return grid_of_matrix(slicer.util.arrayFromVTKMatrix(matrix), image.GetDimensions()[::-1])


def voxels_of(volume: object) -> np.ndarray:
    """Return a view of the voxels (k, j, i); raises Problem for colours and vectors."""
    grid_of(volume)
    voxels = slicer.util.arrayFromVolume(volume)
    if voxels.ndim != 3:
        remedy = "Choose a volume with one number a voxel."
        raise Problem(f"{volume.GetName()} holds several numbers a voxel.", remedy)
    return voxels


def voxels_on(volume: object, grid: Grid) -> np.ndarray:
    """Return a view of the voxels (k, j, i) in the order of a grid of the same places, whose axes may run otherwise."""
    mine = grid_of(volume)
    begin = mine.index([grid.origin_mm])[0]
    steps = mine.index(grid.world(np.eye(3))) - begin
    axes = np.abs(steps).argmax(axis=1)
    flips = tuple(slice(None, None, -1 if steps[row, axis] < 0 else 1) for row, axis in enumerate(axes))
    return voxels_of(volume).transpose(axes)[flips]


def digest_of(volume: object) -> Generator:
    """Return the SHA-256 that the server knows voxels and grid by; in steps, so that the window breathes."""
    voxels, grid = voxels_of(volume), grid_of(volume)
    wire = _digested(voxels)
    state = hashlib.sha256(grid.digest.encode())
    state.update(wire.str.encode())
    planes = max(1, _AT_ONCE_BYTES // max(1, voxels[0].size * wire.itemsize))
    for first in range(0, len(voxels), planes):
        part = np.ascontiguousarray(voxels[first : first + planes], wire)
        state.update(part.view(np.uint8).data)
        yield None
    return state.hexdigest()


def plain_of(volume: object) -> Plain:
    """Return the voxels and grid that an upload is made of: neither names nor anything else of the node."""
    return Plain(voxels_of(volume), grid_of(volume))


def series_of(volume: object) -> str | None:
    """Return the DICOM series that a volume was loaded from, as Slicer's database has it; None where it has not."""
    instances = (volume.GetAttribute(_INSTANCES_ATTRIBUTE) or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not instances or database is None:
        return None
    return database.instanceValue(instances[0], _SERIES_TAG) or None


def shown_in_steps(plain: Plain, name: str) -> Generator:
    """Return a new volume node of the scene with some voxels; in steps, so that the window breathes."""
    voxels, image = plain.voxels, vtk.vtkImageData()
    image.SetDimensions(*voxels.shape[::-1])
    image.AllocateScalars(get_vtk_array_type(voxels.dtype), 1)
    there = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(voxels.shape)
    planes = max(1, _AT_ONCE_BYTES // max(1, voxels[0].nbytes))
    for first in range(0, len(voxels), planes):
        there[first : first + planes] = voxels[first : first + planes]
        yield None
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(plain.grid.ijk_to_ras))
    node.SetAndObserveDisplayNodeID(_display(voxels).GetID())
    node.SetAndObserveImageData(image)
    return node


def _display(voxels: np.ndarray) -> object:
    """Return how a volume is shown: between its darkest and brightest, told by a few of its voxels.

    Slicer's own way goes through all of them, and holds the window up for seconds.
    """
    few = voxels[tuple(slice(None, None, max(1, length // _MOST_A_SIDE)) for length in voxels.shape)]
    low, high = np.nanpercentile(few, (0.5, 99.5))
    display = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(float(low), max(float(high), float(low) + 1.0))
    return display


def remember(volume: object, server: str, case_id: str, grid: Grid) -> None:
    """Note on a volume which case it is; `grid` is its own as it is now."""
    volume.SetAttribute(SERVER_ATTRIBUTE, server)
    volume.SetAttribute(CASE_ATTRIBUTE, case_id)
    volume.SetAttribute(GRID_ATTRIBUTE, grid.digest)


def remembered(volume: object, server: str) -> str | None:
    """Return the case that was noted on a volume; None where its grid was changed since, or another server noted it."""
    if volume.GetAttribute(SERVER_ATTRIBUTE) != server:
        return None
    is_as_it_was = volume.GetAttribute(GRID_ATTRIBUTE) == grid_of(volume).digest
    return volume.GetAttribute(CASE_ATTRIBUTE) if is_as_it_was else None


def volume_of_case(server: str, case_id: str) -> object | None:
    """Return the volume of the scene that is a case, if there is one."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetImageData() is not None and remembered(node, server) == case_id:
            return node
    return None


def lps_of_view(node: object, ras: np.ndarray) -> np.ndarray:
    """Return places (n, 3) of the views (RAS, world) in the volume itself (LPS): transforms above it are undone.

    Raises Problem for a transform that bends, for which there is no such way back in one step.
    """
    above = node.GetParentTransformNode()
    points = np.atleast_2d(np.asarray(ras, np.float64))
    if above is None:
        return flipped(points)
    if not above.IsTransformToWorldLinear():
        remedy = "Take the volume out of the transform, or harden it and use it as a volume of its own."
        raise Problem(f"{node.GetName()} is under a transform that bends.", remedy)
    matrix = vtk.vtkMatrix4x4()
    above.GetMatrixTransformFromWorld(matrix)
    inverse = slicer.util.arrayFromVTKMatrix(matrix)
    return flipped(points @ inverse[:3, :3].T + inverse[:3, 3])


def _digested(voxels: np.ndarray) -> np.dtype:
    """Return the type of number that voxels are digested as: that of the server, which keeps what fits in 16 bits."""
    if voxels.dtype.kind == "f":
        return np.dtype("<f4")
    fits = np.can_cast(voxels.dtype, np.int16, "safe") or (voxels.min() >= -(1 << 15) and voxels.max() < 1 << 15)
    return np.dtype("<i2") if fits else np.dtype("<i8")
