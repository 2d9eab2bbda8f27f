"""FreeSurfer's conformed space, in which the networks were trained.

256^3 voxels of 1 mm, array axes running to Left, Inferior and Anterior, 0 to 255 (FreeSurfer `mri_convert --conform`;
the rules for centre and intensities are those of FastSurfer's `conform.py`, which brainchop follows). Arrays of this
package are (l, i, a) in that order.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.geometry import Geometry, Vector
from annotate_server.domain.volume import Volume
from annotate_server.imaging.reorientation import Reorientation, reoriented
from annotate_server.imaging.resampling import Interpolation, resample

SIDE = 256
_AXES = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, -1.0, 0.0))
"""Left, Inferior and Anterior in LPS."""
_BINS = 1000
_UPPER_SHARE = 0.999
"""FreeSurfer's histogram: so many bins, and the share of the voxels other than 0 that stays below white."""
_HEAD_SHARE = 0.02
"""A plane that shows the head has at least this share of its voxels above a tenth of white (the air above has none)."""
_ABOVE_HEAD_MM = 8.0


@dataclass(frozen=True)
class Conformed:
    """A volume in conformed space.

    `voxels` is uint8 (l, i, a) on `geometry`. `turn` takes the volume's own array to these axes, without resampling;
    `is_cut` says that the volume is longer than 256 mm, so that not all of it is here.
    """

    voxels: NDArray[np.uint8]
    geometry: Geometry
    turn: Reorientation
    is_cut: bool


def conform(volume: Volume) -> Conformed:
    """Return a volume in conformed space; voxels that are no finite numbers count as the darkest.

    The volume is turned to the nearest conformed axes first, so that the order in which a file stores its axes makes
    no difference. Voxels that are already uint8 keep their scale. Raises NotMadeFor where all voxels are equal.
    """
    turn = reoriented(volume.geometry, "LIA")
    values = _finite(turn.apply(volume.voxels))
    low, high = _range(values)
    grid = _grid(turn.geometry, values, low + (high - low) / 10)
    if turn.geometry.matches(grid):
        on_grid: NDArray[np.generic] = values
    else:
        source, target = _near_zero(turn.geometry, grid)
        on_grid = resample(values, source, target, Interpolation.LINEAR, outside=low)
    is_cut = any(extent > SIDE + 0.5 for extent in turn.geometry.extent_mm)
    return Conformed(_scaled(on_grid, low, high), grid, turn, is_cut)


def _finite(values: NDArray[np.generic]) -> NDArray[np.generic]:
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values
    finite = values[np.isfinite(values)]
    least = finite.min() if finite.size else 0
    return np.where(np.isfinite(values), values, least)


def _range(values: NDArray[np.generic]) -> tuple[float, float]:
    """Return the intensities that become 0 and 255; those of uint8 are 255 apart, which keeps their scale."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise NotMadeFor("all its voxels have the same value")
    if values.dtype == np.uint8:
        return low, low + 255.0
    step = (high - low) / _BINS
    counts = np.zeros(_BINS, dtype=np.int64)
    others_than_zero = 0
    for plane in values:
        bins = ((plane.astype(np.float64) - low) / step).astype(np.intp)
        counts += np.bincount(np.minimum(bins, _BINS - 1).ravel(), minlength=_BINS)
        others_than_zero += int(np.count_nonzero(plane))
    enough = values.size - int((1.0 - _UPPER_SHARE) * others_than_zero)
    first = int(np.searchsorted(np.concatenate([[0], np.cumsum(counts)]), enough))
    upper = low + (first - 2) * step
    return low, upper if upper > low else high


def _grid(turned: Geometry, values: NDArray[np.generic], dim: float) -> Geometry:
    """Return the conformed grid: voxel 128 lies at half the side of the volume, FreeSurfer's rule.

    A volume longer than 256 mm from head to foot shows the neck or more: there the grid begins above the head.
    """
    centre = [side / 2 for side in turned.shape]
    if turned.extent_mm[1] > SIDE + 0.5:
        planes = (np.count_nonzero(values[:, i] > dim) for i in range(values.shape[1]))  # type: ignore[operator]
        least = _HEAD_SHARE * values.shape[0] * values.shape[2]
        top = next((i for i, count in enumerate(planes) if count > least), 0)
        begin = max(0.0, top - _ABOVE_HEAD_MM / turned.spacing_mm[1])
        centre[1] = min(begin + SIDE / 2 / turned.spacing_mm[1], turned.shape[1] - SIDE / 2 / turned.spacing_mm[1])
    middle = turned.world([centre])[0] - np.array(_AXES).T @ np.full(3, SIDE / 2)
    origin: Vector = (float(middle[0]), float(middle[1]), float(middle[2]))
    return Geometry((SIDE, SIDE, SIDE), (1.0, 1.0, 1.0), _AXES, origin, turned.frame_of_reference)


def _near_zero(turned: Geometry, grid: Geometry) -> tuple[Geometry, Geometry]:
    """Return both grids moved so that the volume begins at 0: far from it, coordinates lose digits."""
    x, y, z = (float(b - a) for a, b in zip(turned.origin_mm, grid.origin_mm, strict=True))
    return replace(turned, origin_mm=(0.0, 0.0, 0.0)), replace(grid, origin_mm=(x, y, z))


def _scaled(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """Return values as 0 to 255, rounded to the nearest."""
    scale = np.float32(255.0 / (high - low))
    scaled = np.empty(values.shape, dtype=np.uint8)
    for number, plane in enumerate(values):
        scaled[number] = np.clip(np.rint((plane.astype(np.float32) - np.float32(low)) * scale), 0, 255)
    return scaled
