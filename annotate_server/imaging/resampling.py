"""Values of one grid on another, interpolated; and images of SimpleITK, which does it."""

import math
from enum import StrEnum

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from annotate_server.domain.geometry import Geometry, Shape, Vector


class Interpolation(StrEnum):
    """How a value between voxels is found."""

    NEAREST = "nearest"
    LINEAR = "linear"


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
