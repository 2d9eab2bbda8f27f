"""From a volume to the network's input, by nnU-Net's rules: turn, crop to what is not zero, normalise, resample."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.backends.nnunet.plans import Normalisation, Plan, Scheme
from annotate_server.backends.nnunet.resampling import FloatArray, Taps, resampled, thick_axis
from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.geometry import Box, Shape, Vector
from annotate_server.domain.volume import Volume
from annotate_server.imaging.reorientation import Reorientation, reoriented

Scalar = TypeVar("Scalar", bound=np.generic)
_LEAST_DEVIATION = 1e-8
"""nnU-Net's own, for single precision."""
_MOST_VOXELS = 1_500_000_000
"""6 GB of the network's input: several times the longest whole body at 1 mm."""
_DECIMALS = 9
"""A spacing that is kept as the length of an axis carries rounding errors; a tie of two spacings must stay one."""


@dataclass(frozen=True)
class Placing:
    """How the network's array lies in a volume.

    `turn` brings the volume into the orientation of the training volumes, None where they were taken as stored; then
    its axes are put in the order `axes`, and `box` is cut out. `shape` and `spacing_mm` are before the cut, `network`
    and `network_mm` are the array's own.
    """

    turn: Reorientation | None
    axes: tuple[int, int, int]
    shape: Shape
    spacing_mm: Vector
    box: Box
    network: Shape
    network_mm: Vector

    def apply(self, voxels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return the volume's array (k, j, i) in the network's order of axes; a view."""
        return _turned(voxels, self.turn, self.axes)

    def undo(self, voxels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return an array of the network's order in the volume's."""
        own = voxels.transpose(np.argsort(self.axes))
        return np.ascontiguousarray(own if self.turn is None else self.turn.undo(own))

    def back(self, plan: Plan) -> tuple[Taps, Taps, Taps]:
        """Return, for each axis of the box, between which planes of the network its voxels lie."""
        thick = thick_axis(self.network_mm, self.spacing_mm, plan.logits)
        sides = enumerate(zip(self.network, self.box.shape, strict=True))
        orders = (plan.logits.order, plan.logits.order_thick)
        k, j, i = (Taps.along(old, new, orders[axis == thick]) for axis, (old, new) in sides)
        return k, j, i


def placed(volume: Volume, plan: Plan, orientation: str) -> Placing:
    """Return how the network's array lies in a volume; `orientation` as in `reoriented`, empty for as stored.

    Raises NotMadeFor where the array would be too large to be made.
    """
    turn = reoriented(volume.geometry, orientation) if orientation else None
    spacing = volume.geometry.spacing_mm if turn is None else turn.geometry.spacing_mm
    k, j, i = (round(spacing[axis], _DECIMALS) for axis in plan.transpose)
    voxels = _turned(volume.voxels, turn, plan.transpose)
    box = Box.around(voxels) or Box.whole(voxels.shape)
    wanted = (k, *plan.spacing_mm) if len(plan.spacing_mm) == 2 else plan.spacing_mm
    network_mm = cast("Vector", wanted)
    is_off = plan.intensities.is_off
    network = box.shape if is_off else _new_shape(box.shape, (k, j, i), network_mm)
    if math.prod(network) > _MOST_VOXELS or min(network) < 1:
        raise NotMadeFor(f"at the network's spacing of {network_mm} mm it would have {network} voxels")
    return Placing(turn, plan.transpose, voxels.shape, (k, j, i), box, network, network_mm)


def network_input(volume: Volume, plan: Plan, placing: Placing) -> FloatArray:
    """Return the network's input, (k, j, i) of its array; a copy."""
    cut = placing.apply(volume.voxels)[placing.box.slices]
    values = np.ascontiguousarray(np.nan_to_num(cut.astype(np.float32), copy=False))
    normalise(values, plan.normalisation)
    thick = thick_axis(placing.spacing_mm, placing.network_mm, plan.intensities)
    return resampled(values, placing.network, thick, plan.intensities)


def _turned(voxels: NDArray[Scalar], turn: Reorientation | None, axes: tuple[int, int, int]) -> NDArray[Scalar]:
    return (voxels if turn is None else turn.apply(voxels)).transpose(axes)


def _new_shape(shape: Shape, current_mm: Vector, new_mm: Vector) -> Shape:
    k, j, i = (round(old / new * side) for old, new, side in zip(current_mm, new_mm, shape, strict=True))
    return k, j, i


def normalise(values: FloatArray, rule: Normalisation) -> None:
    """Normalise intensities in place, as nnU-Net's classes of these names do; raises NotMadeFor."""
    _SCHEMES[rule.scheme](values, rule)


def _ct(values: FloatArray, rule: Normalisation) -> None:
    np.clip(values, rule.low, rule.high, out=values)
    values -= rule.mean
    values /= max(rule.deviation, _LEAST_DEVIATION)


def _z_score(values: FloatArray, rule: Normalisation) -> None:
    """Shift and scale to mean 0 and deviation 1; with a mask, what is not zero and what it encloses."""
    if rule.is_masked:
        inside = ndimage.binary_fill_holes(values != 0)
        chosen = values[inside]
        if chosen.size:
            values[inside] = (chosen - chosen.mean()) / max(float(chosen.std()), _LEAST_DEVIATION)
        return
    mean, deviation = values.mean(), float(values.std())
    values -= mean
    values /= max(deviation, _LEAST_DEVIATION)


def _nothing(values: FloatArray, rule: Normalisation) -> None:
    """Leave the values as they are."""


def _to_one(values: FloatArray, rule: Normalisation) -> None:
    values -= values.min()
    values /= max(float(values.max()), _LEAST_DEVIATION)


def _rgb_to_one(values: FloatArray, rule: Normalisation) -> None:
    if values.min() < 0 or values.max() > 255:
        raise NotMadeFor("its network takes values from 0 to 255, as colours have")
    values /= 255.0


_SCHEMES: Mapping[Scheme, Callable[[FloatArray, Normalisation], None]] = {
    Scheme.CT: _ct,
    Scheme.Z_SCORE: _z_score,
    Scheme.NONE: _nothing,
    Scheme.TO_ONE: _to_one,
    Scheme.RGB_TO_ONE: _rgb_to_one,
}
