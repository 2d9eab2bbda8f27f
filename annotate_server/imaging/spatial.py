"""From one grid to another: reorientation (exact, by views) and resampling (interpolated)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations
from typing import TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from annotate_server.domain.geometry import Geometry, Shape, Vector

Scalar = TypeVar("Scalar", bound=np.generic)

_LPS_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Which LPS axis a letter names, and its sign: an axis called L runs towards the patient's left."""


class Interpolation(StrEnum):
    """How a value between voxels is found."""

    NEAREST = "nearest"
    LINEAR = "linear"


@dataclass(frozen=True, slots=True)
class Reorientation:
    """A permutation and flips of array axes: no voxel value is touched, every result is a view.

    `axes[a]` is the axis of the old array that becomes axis a of the new one, `flipped[a]` says whether it is turned
    round. `geometry` is the grid of the new array: each voxel keeps its place in the world.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    geometry: Geometry

    def apply(self, voxels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return the array (k, j, i) in the new order of axes."""
        return voxels.transpose(self.axes)[self._flips]

    def undo(self, voxels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return an array of the new order in the old one."""
        return voxels[self._flips].transpose(np.argsort(self.axes))

    @property
    def _flips(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flipped)


def reoriented(geometry: Geometry, codes: str = "SPL") -> Reorientation:
    """Return how to turn an array so that its axes (k, j, i) run towards `codes`, as nearly as flips allow.

    `codes` names, for k, j and i in this order, the side of the patient that the axis runs to: "SPL" is the
    project's canonical order (k to superior, j to posterior, i to left). For the axis codes that nibabel prints of a
    NIfTI file (i, j, k), reverse the letters. An oblique grid stays oblique: axes are matched to the nearest letters.
    """
    wanted = [_LPS_LETTERS[letter] for letter in codes]
    if sorted(axis for axis, _ in wanted) != [0, 1, 2]:
        raise ValueError(f"{codes!r} does not name three different axes")
    direction = np.array(geometry.direction)
    axes: tuple[int, int, int] = max(
        list(permutations(range(3), 3)),
        key=lambda order: sum(abs(direction[old, axis]) for old, (axis, _) in zip(order, wanted, strict=True)),
    )
    flipped = tuple(bool(direction[old, axis] * sign < 0) for old, (axis, sign) in zip(axes, wanted, strict=True))
    return Reorientation(axes, (flipped[0], flipped[1], flipped[2]), _turned(geometry, axes, flipped))


def turned_like(geometry: Geometry, other: Geometry) -> Reorientation:
    """Return how to turn an array so that its axes run like those of another grid, as nearly as flips allow."""
    cosines = np.array(other.direction) @ np.array(geometry.direction).T
    axes: tuple[int, int, int] = max(
        list(permutations(range(3), 3)), key=lambda order: sum(abs(cosines[new, order[new]]) for new in range(3))
    )
    k, j, i = (bool(cosines[new, axes[new]] < 0) for new in range(3))
    return Reorientation(axes, (k, j, i), _turned(geometry, axes, (k, j, i)))


def _turned(geometry: Geometry, axes: Sequence[int], flipped: Sequence[bool]) -> Geometry:
    """Return the grid of the turned array."""
    first_voxel = [0, 0, 0]
    for old, flip in zip(axes, flipped, strict=True):
        first_voxel[old] = geometry.shape[old] - 1 if flip else 0
    affine = geometry.affine
    columns = [affine[:3, old] * (-1 if flip else 1) for old, flip in zip(axes, flipped, strict=True)]
    turned = np.eye(4)
    turned[:3, :3] = np.array(columns).T
    turned[:3, 3] = geometry.world([first_voxel])[0]
    k, j, i = (geometry.shape[old] for old in axes)
    return Geometry.from_affine(turned, (k, j, i), geometry.frame_of_reference)


def resample(
    voxels: NDArray[np.generic],
    source: Geometry,
    target: Geometry,
    interpolation: Interpolation = Interpolation.LINEAR,
    outside: float = 0.0,
) -> NDArray[np.generic]:
    """Return the values of an array (k, j, i) on another grid; what lies outside the source becomes `outside`.

    Linear gives float32, nearest keeps the dtype. A point up to half a voxel beyond the outermost centres still takes
    the nearest value (SimpleITK's rule). No smoothing: see `smoothed_for` before a strong reduction.
    """
    values = voxels.astype(np.float32) if interpolation is Interpolation.LINEAR else voxels
    nearest = interpolation is Interpolation.NEAREST
    result = sitk.Resample(
        as_sitk(values, source),
        _reference(target),
        sitk.Transform(3, sitk.sitkIdentity),
        sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear,
        outside,
    )
    array: NDArray[np.generic] = sitk.GetArrayFromImage(result)
    return array.astype(voxels.dtype, copy=False) if nearest else array


def smoothed_for(voxels: NDArray[np.generic], spacing_mm: Vector, target_mm: Vector) -> NDArray[np.float32]:
    """Return the array (k, j, i) blurred enough to be sampled at a coarser spacing without aliasing.

    The Gaussian of each axis takes the source's own blur (0.5 voxel, full width at half maximum) to that of the
    target: sigma^2 = (target^2 - source^2) / (2 sqrt(2 ln 2))^2 (Cardoso et al. 2015, scale factor point spread
    function). An axis that is not reduced stays as it is.
    """
    from scipy import ndimage  # noqa: PLC0415

    factor = 2 * math.sqrt(2 * math.log(2))
    sigma = [
        math.sqrt(max(0.0, new**2 - old**2)) / factor / old for old, new in zip(spacing_mm, target_mm, strict=True)
    ]
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(voxels.astype(np.float32), sigma, mode="nearest", truncate=3)
    return smooth


def as_sitk(voxels: NDArray[np.generic], geometry: Geometry) -> sitk.Image:
    """Return a SimpleITK image (LPS, as ITK keeps it) of an array (k, j, i); copies the voxels."""
    values = voxels.astype(np.uint8) if voxels.dtype == np.bool_ else voxels
    image = sitk.GetImageFromArray(np.ascontiguousarray(values))
    _place(image, geometry)
    return image


def _reference(geometry: Geometry) -> sitk.Image:
    """Return an image that only carries the grid; one byte a voxel."""
    k, j, i = geometry.shape
    image = sitk.Image(i, j, k, sitk.sitkUInt8)
    _place(image, geometry)
    return image


def _place(image: sitk.Image, geometry: Geometry) -> None:
    """Set origin, spacing and direction; ITK counts axes (i, j, k) and keeps directions as columns.

    Numbers near zero become zero: the singular value decomposition inside ITK fails on denormal ones.
    """
    image.SetOrigin(geometry.origin_mm)
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetDirection(np.round(np.array(geometry.direction)[::-1].T, 12).ravel().tolist())


def sitk_geometry(image: sitk.Image) -> Geometry:
    """Return the grid of a SimpleITK image."""
    columns = np.array(image.GetDirection()).reshape(3, 3).T[::-1]
    k, j, i = image.GetSize()[::-1]
    spacing = image.GetSpacing()[::-1]
    shape: Shape = (k, j, i)
    affine = np.eye(4)
    affine[:3, :3] = columns.T * np.array(spacing)
    affine[:3, 3] = image.GetOrigin()
    return Geometry.from_affine(affine, shape)
