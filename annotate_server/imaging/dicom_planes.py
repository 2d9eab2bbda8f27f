"""The plane of a slice in space, and whether it can be trusted."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import UntrustedGeometry
from annotate_server.domain.geometry import ORTHONORMAL_TOLERANCE
from annotate_server.imaging.dicom_frames import Frame

SAME_PLACE_MM = 0.01
"""Two slices that are no further apart lie in one place: DICOM's decimals are finer."""
FURTHEST_MM = 1e5
LARGEST_SPACING_MM = 1e3
SMALLEST_SPACING_MM = 1e-4

Array = NDArray[np.float64]


def plane_problem(frame: Frame) -> UntrustedGeometry | None:
    """Return why a plane has no place in space that can be trusted, or None."""
    sentence = _spacing_problem(frame.spacing_mm) or _position_problem(frame) or _orientation_problem(frame)
    return UntrustedGeometry(sentence) if sentence else None


def _spacing_problem(spacing: Sequence[float] | None) -> str:
    if spacing is None or len(spacing) != 2:
        return "a slice has no PixelSpacing of two numbers"
    if not all(math.isfinite(value) and SMALLEST_SPACING_MM < value < LARGEST_SPACING_MM for value in spacing):
        return f"PixelSpacing is {_listed(spacing)} mm, which is no distance between voxels"
    return ""


def _position_problem(frame: Frame) -> str:
    position = frame.position_mm
    if position is None:
        return "a slice has no ImagePositionPatient: nobody knows where it lies"
    if len(position) != 3 or not all(math.isfinite(value) and abs(value) < FURTHEST_MM for value in position):
        return f"ImagePositionPatient is {_listed(position)}, which is no place in a patient"
    return ""


def _orientation_problem(frame: Frame) -> str:
    orientation = frame.orientation
    if orientation is None:
        return "a slice has no ImageOrientationPatient: nobody knows how it lies"
    if len(orientation) != 6 or not all(math.isfinite(value) for value in orientation):
        return f"ImageOrientationPatient is {_listed(orientation)}, which is no orientation"
    axes = np.array(orientation).reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > ORTHONORMAL_TOLERANCE:
        detail = "rows and columns (ImageOrientationPatient) are no unit vectors at a right angle"
        return f"{detail}: {_listed(orientation)}"
    return ""


def axes_of(frame: Frame) -> Array:
    """Return the directions (3, 3) of k, j and i of a plane without a problem, made exactly orthonormal."""
    row, column = np.array(frame.orientation, dtype=np.float64).reshape(2, 3)
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    return np.array([np.cross(row, column), column, row])


def positions_mm(frames: Sequence[Frame]) -> Array:
    """Return the positions (planes, 3) in LPS mm."""
    return np.array([frame.position_mm for frame in frames], dtype=np.float64)


def along_normal_mm(frames: Sequence[Frame]) -> Array:
    """Return how far each plane lies along the normal of the first."""
    along: Array = positions_mm(frames) @ axes_of(frames[0])[0]
    return along


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
