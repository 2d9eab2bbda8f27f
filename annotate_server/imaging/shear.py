"""Slices that lie askew, as those of a CT with a tilted gantry do, brought onto a grid with right angles."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import UntrustedGeometry
from annotate_server.domain.geometry import ORTHONORMAL_TOLERANCE, Geometry
from annotate_server.imaging.dicom_shear import upright

MAX_TILT_DEG = 45.0
"""Gantries tilt up to 30 degrees; beyond 45 the affine is damaged rather than tilted."""


@dataclass(frozen=True)
class _Skew:
    """One axis that is not at right angles to the two others, which are.

    `offsets` is by how many voxels of each of the two `planar` axes a step along `axis` shifts the slice.
    """

    axis: int
    planar: tuple[int, int]
    offsets: tuple[float, float]
    spacing_mm: float
    normal: NDArray[np.float64]
    tilt_deg: float


def straightened(
    voxels: NDArray[np.generic], affine: NDArray[np.float64]
) -> tuple[NDArray[np.generic], Geometry, tuple[str, ...]]:
    """Return an array (k, j, i) and its grid with right angles, and what a person should know.

    `affine` (4, 4) maps (k, j, i, 1) to LPS mm. At right angles already, the array is returned as it came. Slices that
    are shifted against each other (gantry tilt) are interpolated linearly within their planes; the field of view grows,
    and what lay outside is the smallest value. Raises UntrustedGeometry for any other shear and beyond 45 degrees.
    """
    k, j, i = voxels.shape
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (sides <= 0).any():
        return voxels, Geometry.from_affine(affine, (k, j, i)), ()
    cosines = np.abs((affine[:3, :3] / sides).T @ (affine[:3, :3] / sides) - np.eye(3))
    if cosines.max() <= ORTHONORMAL_TOLERANCE:
        return voxels, Geometry.from_affine(affine, (k, j, i)), ()
    skew = _skew(affine, sides, cosines)
    straight, start = _resliced(voxels, skew)
    straight_affine = affine.copy()
    straight_affine[:3, skew.axis] = skew.normal * skew.spacing_mm
    straight_affine[:3, 3] += affine[:3, :3] @ start
    depth, height, width = straight.shape
    remark = (
        f"The slices are sheared by {skew.tilt_deg:.1f} degrees (a tilted gantry): each was moved in its plane onto a "
        "grid with right angles."
    )
    return straight, Geometry.from_affine(straight_affine, (depth, height, width)), (remark,)


def _skew(affine: NDArray[np.float64], sides: NDArray[np.float64], cosines: NDArray[np.float64]) -> _Skew:
    """Return which axis is askew: of those whose two partners are at right angles, the one with the thickest slices."""
    candidates = [axis for axis in range(3) if cosines[(axis + 1) % 3, (axis + 2) % 3] <= ORTHONORMAL_TOLERANCE]
    if not candidates:
        raise UntrustedGeometry("none of its axes are at right angles to each other")
    axis = max(candidates, key=lambda candidate: (round(float(sides[candidate]), 3), -candidate))
    first, second = (other for other in range(3) if other != axis)
    step = affine[:3, axis]
    normal = np.cross(affine[:3, first] / sides[first], affine[:3, second] / sides[second])
    normal *= math.copysign(1.0, float(normal @ step)) / np.linalg.norm(normal)
    tilt = math.degrees(math.acos(min(1.0, float(normal @ step) / float(sides[axis]))))
    if tilt > MAX_TILT_DEG:
        raise UntrustedGeometry(f"its slices are askew by {tilt:.0f} degrees, which no gantry tilts")
    offsets = tuple(float(step @ affine[:3, other]) / float(sides[other]) ** 2 for other in (first, second))
    return _Skew(axis, (first, second), (offsets[0], offsets[1]), float(normal @ step), normal, tilt)


def _resliced(voxels: NDArray[np.generic], skew: _Skew) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Return the straight array and the position of its first voxel in indices (k, j, i) of the skewed one."""
    slices = np.moveaxis(voxels, skew.axis, 0)
    shifts = np.arange(len(slices))[:, None] * np.array(skew.offsets)
    first = np.floor(shifts.min(axis=0)).astype(int)
    rows, columns = np.ceil(shifts.max(axis=0)).astype(int) - first + slices.shape[1:]
    straight = upright(slices, shifts - first, (len(slices), int(rows), int(columns)), float(voxels.min()))
    if voxels.dtype.kind in "iu":
        straight = np.rint(straight).astype(voxels.dtype)
    start = np.zeros(3)
    start[list(skew.planar)] = first
    return np.ascontiguousarray(np.moveaxis(straight, 0, skew.axis)), start
