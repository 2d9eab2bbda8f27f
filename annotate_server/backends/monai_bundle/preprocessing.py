"""From the transforms of a bundle's `preprocessing` to steps."""

from collections.abc import Callable, Mapping

from annotate_server.backends.monai_bundle.arguments import Arguments, transform_of
from annotate_server.backends.monai_bundle.expressions import Value
from annotate_server.backends.monai_bundle.steps import (
    Crop,
    Pad,
    Percentiles,
    Range,
    Resample,
    Rescale,
    Standardise,
    Step,
    Threshold,
    Turn,
)
from annotate_server.domain.errors import InvalidApp

_NOTHING_TO_DO = frozenset(
    {"LoadImaged", "EnsureChannelFirstd", "AddChanneld", "AsChannelFirstd", "EnsureTyped", "CastToTyped"}
    | {"ToTensord", "ToDeviced", "Identityd"}
)
"""What loads a file and shapes its array: a volume comes loaded, and has one channel."""


def steps_from(transforms: Value, key: str) -> tuple[Step, ...]:
    """Return the steps of the transforms at `key`; InvalidApp names the first that is not understood."""
    return tuple(step for table, place in each_transform(transforms, key) if (step := _step(table, place)) is not None)


def transforms_in(value: Value, key: str) -> Value:
    """Return the transforms of a `Compose`, or of a plain list of them."""
    if isinstance(value, list):
        return value
    if transform_of(value, key) != "Compose" or not isinstance(value, dict):
        raise InvalidApp(f"{key!r} is no Compose of transforms")
    return value.get("transforms", [])


def each_transform(transforms: Value, key: str) -> list[tuple[Mapping[str, Value], str]]:
    """Return each transform with its place, nested ones in their order."""
    found: list[tuple[Mapping[str, Value], str]] = []
    for number, value in enumerate(transforms if isinstance(transforms, list) else [transforms]):
        place = f"{key}::{number}"
        if transform_of(value, place) == "Compose":
            found += each_transform(transforms_in(value, place), place)
        elif isinstance(value, dict):
            found.append((value, f"{place} ({transform_of(value, place)})"))
    return found


def _step(table: Mapping[str, Value], place: str) -> Step | None:
    name = transform_of(table, place)
    if name in _NOTHING_TO_DO:
        return None
    if name not in _READERS:
        raise InvalidApp(
            f"{place!r}: the transform is not among those that run here: {', '.join(sorted(_READERS))}",
            remedy="Use a bundle with other preprocessing.",
        )
    arguments = Arguments(table, place)
    keys = arguments.take("keys")
    if isinstance(keys, list) and len(keys) > 1:
        arguments.refuse("it takes several volumes, and a case here is one")
    try:
        step = _READERS[name](arguments)
    except ValueError as error:
        arguments.refuse(str(error))
    arguments.finish()
    return step


def _turn(given: Arguments) -> Step:
    given.ignore("labels")
    if given.flag("as_closest_canonical", default=False):
        given.ignore("axcodes")
        return Turn("RAS")
    return Turn(given.text("axcodes"))


def _resample(given: Arguments) -> Step:
    mode = given.only("mode", "bilinear", "nearest")
    given.only("padding_mode", "border", None)
    for name in ("diagonal", "scale_extent"):
        given.only(name, False)
    for name in ("min_pixdim", "max_pixdim"):
        given.only(name, None)
    given.ignore("align_corners", "recompute_affine")
    return Resample(given.lengths("pixdim"), nearest=mode == "nearest")


def _range(given: Arguments) -> Step:
    low, high = given.needed("a_min"), given.needed("a_max")
    return Range(low, high, given.number("b_min"), given.number("b_max"), given.flag("clip", default=False))


def _percentiles(given: Arguments) -> Step:
    given.ignore("channel_wise")
    lower, upper = given.needed("lower"), given.needed("upper")
    bounds = given.number("b_min"), given.number("b_max")
    clip, relative = given.flag("clip", default=False), given.flag("relative", default=False)
    if not 0 <= lower < upper <= 100 or (relative and None in bounds):
        given.refuse("its percentiles are no range")
    return Percentiles(lower, upper, *bounds, clip, relative)


def _rescale(given: Arguments) -> Step:
    given.ignore("channel_wise")
    return Rescale(given.number("minv", 0.0), given.number("maxv", 1.0), given.number("factor"))


def _standardise(given: Arguments) -> Step:
    given.ignore("channel_wise")
    nonzero = given.flag("nonzero", default=False)
    return Standardise(_of_channel(given, "subtrahend"), _of_channel(given, "divisor"), nonzero)


def _of_channel(given: Arguments, name: str) -> float | None:
    value = given.take(name)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return Arguments({name: value}, name).number(name)


def _threshold(given: Arguments) -> Step:
    fill = given.number("cval", 0.0)
    return Threshold(given.needed("threshold"), given.flag("above", default=True), 0.0 if fill is None else fill)


def _crop(given: Arguments) -> Step:
    given.ignore("source_key", "start_coord_key", "end_coord_key", "channel_indices")
    given.only("select_fn", None)
    mode = given.only("mode", "constant", "minimum")
    margin, multiple = given.sides("margin", 0), given.sides("k_divisible", 1)
    if min(margin) < 0 or min(multiple) < 1:
        given.refuse("its margin or k_divisible is too small")
    return Crop(margin, multiple, given.flag("allow_smaller", default=False), fill_minimum=mode == "minimum")


def _pad_to_size(given: Arguments) -> Step:
    given.only("mode", "constant")
    at_end = given.only("method", "symmetric", "end") == "end"
    return Pad(size=given.sides("spatial_size", 0), at_end=at_end)


def _pad_to_multiple(given: Arguments) -> Step:
    given.only("mode", "constant")
    at_end = given.only("method", "symmetric", "end") == "end"
    a, b, c = (max(1, side) for side in given.sides("k", 1))
    return Pad(multiple=(a, b, c), at_end=at_end)


_READERS: Mapping[str, Callable[[Arguments], Step]] = {
    "Orientationd": _turn,
    "Spacingd": _resample,
    "ScaleIntensityRanged": _range,
    "ScaleIntensityRangePercentilesd": _percentiles,
    "ScaleIntensityd": _rescale,
    "NormalizeIntensityd": _standardise,
    "ThresholdIntensityd": _threshold,
    "CropForegroundd": _crop,
    "SpatialPadd": _pad_to_size,
    "DivisiblePadd": _pad_to_multiple,
}
