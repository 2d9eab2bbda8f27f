"""The steps of a bundle's preprocessing, as plain descriptions that an app holds, and what each does to the values.

Each does what the transform of MONAI does that its docstring names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from annotate_server.backends.monai_bundle.canvas import Canvas
from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.geometry import Box, Shape, Vector

_LETTERS = ({"L", "R"}, {"P", "A"}, {"S", "I"})


class Step(Protocol):
    """One step; the next one gets what it returns."""

    def apply(self, canvas: Canvas) -> Canvas:
        """Return what the network is about to see after this step; never changes what it is given."""
        ...


@dataclass(frozen=True)
class Turn:
    """Orientationd: axes that run towards the sides of the patient that `axes` names."""

    axes: str

    def __post_init__(self) -> None:
        """Refuse letters that are no three axes."""
        if len(self.axes) != 3 or any(len(pair.intersection(self.axes)) != 1 for pair in _LETTERS):
            raise ValueError(f"{self.axes!r} does not name three axes")

    def apply(self, canvas: Canvas) -> Canvas:
        """Turn and flip; no value changes."""
        return canvas.turned(self.axes)


@dataclass(frozen=True)
class Resample:
    """Spacingd: another spacing, the first voxel where it was; a spacing that is not positive stays as it is."""

    spacing_mm: Vector
    nearest: bool = False

    def apply(self, canvas: Canvas) -> Canvas:
        """Interpolate linearly, or take the nearest voxel."""
        return canvas.resampled(self.spacing_mm, nearest=self.nearest)


@dataclass(frozen=True)
class Range:
    """ScaleIntensityRanged: `low` to `high` becomes `to_low` to `to_high`, where those are given."""

    low: float
    high: float
    to_low: float | None = None
    to_high: float | None = None
    clip: bool = False

    def apply(self, canvas: Canvas) -> Canvas:
        """Scale; of a range without a width only the offset is taken away."""
        return Canvas(_ranged(canvas.values, self), canvas.geometry)


@dataclass(frozen=True)
class Percentiles:
    """ScaleIntensityRangePercentilesd: the same, between two percentiles of the volume."""

    lower: float
    upper: float
    to_low: float | None = None
    to_high: float | None = None
    clip: bool = False
    relative: bool = False

    def apply(self, canvas: Canvas) -> Canvas:
        """Scale between the percentiles."""
        low, high = (float(n) for n in np.percentile(canvas.values.numpy(), [self.lower, self.upper]))
        to_low, to_high = self.to_low, self.to_high
        if self.relative and to_low is not None and to_high is not None:
            width = to_high - to_low
            to_low, to_high = to_low + width * self.lower / 100, to_low + width * self.upper / 100
        return Canvas(_ranged(canvas.values, Range(low, high, to_low, to_high, self.clip)), canvas.geometry)


@dataclass(frozen=True)
class Rescale:
    """ScaleIntensityd: the smallest value becomes `to_low`, the largest `to_high`; or all grow by `factor`."""

    to_low: float | None = None
    to_high: float | None = None
    factor: float | None = None

    def apply(self, canvas: Canvas) -> Canvas:
        """Scale; a constant volume is multiplied with `to_low`."""
        values = canvas.values
        if self.to_low is None and self.to_high is None:
            return Canvas(values * (1 + (self.factor or 0.0)), canvas.geometry)
        low, high = float(values.min()), float(values.max())
        if low == high:
            scaled = values if self.to_low is None else values * self.to_low
        else:
            scaled = (values - low) / (high - low)
            if self.to_low is not None and self.to_high is not None:
                scaled = scaled * (self.to_high - self.to_low) + self.to_low
        return Canvas(scaled, canvas.geometry)


@dataclass(frozen=True)
class Standardise:
    """NormalizeIntensityd: `subtract` away and divided by `divide`; the mean and deviation where they are not given."""

    subtract: float | None = None
    divide: float | None = None
    nonzero: bool = False

    def apply(self, canvas: Canvas) -> Canvas:
        """Standardise all voxels, or those that are not 0."""
        values = canvas.values
        chosen = values[values != 0] if self.nonzero else values
        if chosen.numel() == 0:
            return canvas
        mean = float(chosen.mean(dtype=torch.float64)) if self.subtract is None else self.subtract
        divide = float(chosen.double().std(unbiased=False)) if self.divide is None else self.divide
        scaled = (values - mean) / (divide or 1.0)
        return Canvas(torch.where(values != 0, scaled, values) if self.nonzero else scaled, canvas.geometry)


@dataclass(frozen=True)
class Threshold:
    """ThresholdIntensityd: values on one side of `limit` become `fill`."""

    limit: float
    above: bool = True
    fill: float = 0.0

    def apply(self, canvas: Canvas) -> Canvas:
        """Replace what lies on the other side."""
        kept = canvas.values > self.limit if self.above else canvas.values < self.limit
        return Canvas(torch.where(kept, canvas.values, self.fill), canvas.geometry)


@dataclass(frozen=True)
class Crop:
    """CropForegroundd: the box around the values above 0, grown by `margin`, sides multiples of `multiple`."""

    margin: Shape = (0, 0, 0)
    multiple: Shape = (1, 1, 1)
    within: bool = False
    fill_minimum: bool = False

    def apply(self, canvas: Canvas) -> Canvas:
        """Cut; a volume without a value above 0 stays whole."""
        found = _box_above(canvas.values)
        if found is None:
            return canvas
        start = [a - m for a, m in zip(found.start, self.margin, strict=True)]
        stop = [b + m for b, m in zip(found.stop, self.margin, strict=True)]
        if self.within:
            start, stop = [max(0, a) for a in start], [min(n, b) for n, b in zip(canvas.shape, stop, strict=True)]
        for axis, step in enumerate(self.multiple):
            more = -(stop[axis] - start[axis]) % step
            start[axis] -= more // 2
            stop[axis] += more - more // 2
        fill = float(canvas.values.min()) if self.fill_minimum else 0.0
        return canvas.cut(Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])), fill)


@dataclass(frozen=True)
class Pad:
    """SpatialPadd and DivisiblePadd: zeros, until the sides are `size` at least and multiples of `multiple`."""

    size: Shape = (1, 1, 1)
    multiple: Shape = (1, 1, 1)
    at_end: bool = False

    def apply(self, canvas: Canvas) -> Canvas:
        """Pad on both sides, or at the end."""
        start, stop = [], []
        for side, least, step in zip(canvas.shape, self.size, self.multiple, strict=True):
            wanted = -(-max(side, least) // step) * step
            before = 0 if self.at_end else (wanted - side) // 2
            start.append(-before)
            stop.append(wanted - before)
        return canvas.cut(Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])), 0.0)


_KINDS: Mapping[str, type[Step]] = {
    "turn": Turn,
    "resample": Resample,
    "range": Range,
    "percentiles": Percentiles,
    "rescale": Rescale,
    "standardise": Standardise,
    "threshold": Threshold,
    "crop": Crop,
    "pad": Pad,
}


def tables_of(steps: Iterable[Step]) -> list[dict[str, object]]:
    """Return steps in the types that TOML has."""
    names = {kind: name for name, kind in _KINDS.items()}
    tables = []
    for step in steps:
        fields = asdict(step)  # type: ignore[call-overload]  # every step is a dataclass
        given = {key: list(n) if isinstance(n, tuple) else n for key, n in fields.items() if n is not None}
        tables.append({"step": names[type(step)], **given})
    return tables


def steps_of(tables: object) -> tuple[Step, ...]:
    """Return the steps that tables describe; raises InvalidApp."""
    if not isinstance(tables, list):
        raise InvalidApp("its steps are no list")
    return tuple(_step(table) for table in tables)


def _step(table: object) -> Step:
    if not isinstance(table, dict) or table.get("step") not in _KINDS:
        raise InvalidApp(f"{str(table)[:80]!r} is no step of preprocessing")
    given = {key: tuple(n) if isinstance(n, list) else n for key, n in table.items() if key != "step"}
    try:
        return _KINDS[table["step"]](**given)
    except (TypeError, ValueError) as error:
        raise InvalidApp(f"the step {table['step']!r} is not valid: {error}") from error


def _ranged(values: Tensor, wanted: Range) -> Tensor:
    if wanted.high == wanted.low:
        offset = values - wanted.low
        return offset if wanted.to_low is None else offset + wanted.to_low
    scaled = (values - wanted.low) / (wanted.high - wanted.low)
    if wanted.to_low is not None and wanted.to_high is not None:
        scaled = scaled * (wanted.to_high - wanted.to_low) + wanted.to_low
    is_bounded = wanted.to_low is not None or wanted.to_high is not None
    return scaled.clamp(wanted.to_low, wanted.to_high) if wanted.clip and is_bounded else scaled


def _box_above(values: Tensor) -> Box | None:
    """Return the box around the values above 0; None where there is none."""
    bounds = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        hits = torch.nonzero((values > 0).any(dim=others[1]).any(dim=others[0])).flatten()
        if hits.numel() == 0:
            return None
        bounds.append((int(hits[0]), int(hits[-1]) + 1))
    (a, d), (b, e), (c, f) = bounds
    return Box((a, b, c), (d, e, f))
