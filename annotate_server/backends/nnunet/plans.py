"""What a trained configuration needs of `plans.json` and `dataset.json`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from annotate_server.backends.nnunet.architecture import NetworkPlan, network_plan
from annotate_server.backends.nnunet.facts import Fact
from annotate_server.backends.nnunet.labels import Outputs, outputs_of
from annotate_server.domain.errors import InvalidApp

_LARGEST_PATCH = 1 << 25
"""Voxels: 320 a side, beyond what any card of today was trained with."""
ANISOTROPY = 3.0
"""From this ratio of spacings on, nnU-Net resamples the thick axis by itself (its ANISO_THRESHOLD)."""


class Scheme(StrEnum):
    """How intensities are normalised."""

    CT = "CTNormalization"
    Z_SCORE = "ZScoreNormalization"
    NONE = "NoNormalization"
    TO_ONE = "RescaleTo01Normalization"
    RGB_TO_ONE = "RGBTo01Normalization"


@dataclass(frozen=True)
class Normalisation:
    """A scheme, whether it looks at non-zero voxels only, and the intensities of the training set that CT needs."""

    scheme: Scheme
    is_masked: bool = False
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    deviation: float = 1.0


@dataclass(frozen=True)
class Resampling:
    """How one kind of array changes its spacing: the order of the splines, that along a thick axis, and when so.

    `separates` is None where the spacing decides. `is_off` for plans that never resample.
    """

    order: int
    order_thick: int = 0
    separates: bool | None = None
    anisotropy: float = ANISOTROPY
    is_off: bool = False


@dataclass(frozen=True)
class Plan:
    """One trained configuration; axes are in the order of `transpose`d arrays.

    `spacing_mm` and `patch` have two entries for a network of slices. `channel` is the name of its only input, `reader`
    the class that read its training volumes, `dataset` its name.
    """

    configuration: str
    dataset: str
    reader: str
    channel: str
    transpose: tuple[int, int, int]
    spacing_mm: tuple[float, ...]
    patch: tuple[int, ...]
    normalisation: Normalisation
    intensities: Resampling
    logits: Resampling
    network: NetworkPlan
    outputs: Outputs


def plan_of(plans: Fact, dataset: Fact, configuration: str) -> Plan:
    """Return a configuration; raises InvalidApp with what of it cannot be run."""
    _check_known(plans)
    chosen = resolved(plans, configuration)
    _check_single_stage(chosen)
    patch = tuple(each.between(1, _LARGEST_PATCH) for each in chosen.at("patch_size").each())
    if len(patch) not in (2, 3) or math.prod(patch) > _LARGEST_PATCH:
        raise InvalidApp(f"a patch of {patch} voxels cannot be run here", source=chosen.place)
    return Plan(
        configuration=configuration,
        dataset=plans.at("dataset_name").of(str),
        reader=plans.at("image_reader_writer").of(str) if plans.has("image_reader_writer") else "",
        channel=_channel(dataset),
        transpose=_transpose(plans.at("transpose_forward")),
        spacing_mm=_spacing(chosen.at("spacing"), len(patch)),
        patch=patch,
        normalisation=_normalisation(chosen, plans),
        intensities=_resampling(chosen, "resampling_fn_data", (0, 1, 3)),
        logits=_resampling(chosen, "resampling_fn_probabilities", (0, 1)),
        network=network_plan(chosen, len(patch)),
        outputs=outputs_of(dataset),
    )


def resolved(plans: Fact, configuration: str) -> Fact:
    """Return a configuration with what it inherits; raises InvalidApp for one that is not there."""
    table: dict[str, object] = {}
    wanted, seen = configuration, list[str]()
    while True:
        if wanted in seen:
            raise InvalidApp(f"the configuration {wanted!r} inherits from itself", source=plans.place)
        seen.append(wanted)
        own = dict(plans.at("configurations").at(wanted).members())
        table = {**{key: fact.value for key, fact in own.items()}, **table}
        if "inherits_from" not in own:
            return Fact(table, f"{plans.place}: {configuration}")
        wanted = own["inherits_from"].of(str)


def _check_known(plans: Fact) -> None:
    """Refuse what would need code that the plans name and we have not."""
    if plans.has("label_manager"):
        plans.at("label_manager").one_of("LabelManager")


def _check_single_stage(chosen: Fact) -> None:
    if chosen.has("previous_stage"):
        raise InvalidApp(
            f"it is the second stage of a cascade and corrects what {chosen.at('previous_stage').value} drafts",
            source=chosen.place,
            remedy="Adopt a configuration that works alone, such as 3d_fullres or 3d_lowres.",
        )
    if chosen.has("preprocessor_name"):
        chosen.at("preprocessor_name").one_of("DefaultPreprocessor")


def _channel(dataset: Fact) -> str:
    """Return the name of the only input."""
    names = dataset.at("channel_names" if dataset.has("channel_names") else "modality").members()
    if len(names) != 1:
        listed = ", ".join(str(fact.value) for _, fact in names)
        raise InvalidApp(
            f"it takes {len(names)} volumes of one patient together ({listed}); a draft here is made of one",
            source=dataset.place,
        )
    return names[0][1].of(str)


def _transpose(fact: Fact) -> tuple[int, int, int]:
    axes = tuple(each.between(0, 2) for each in fact.each())
    if sorted(axes) != [0, 1, 2]:
        raise InvalidApp(f"{axes} is no order of three axes", source=fact.place)
    return cast("tuple[int, int, int]", axes)


def _spacing(fact: Fact, sides: int) -> tuple[float, ...]:
    spacing = tuple(each.number() for each in fact.each())
    if len(spacing) != sides or min(spacing) <= 0:
        raise InvalidApp(f"{spacing} mm is no spacing for a patch of {sides} sides", source=fact.place)
    return spacing


def _normalisation(chosen: Fact, plans: Fact) -> Normalisation:
    schemes, masked = chosen.at("normalization_schemes").each(), chosen.at("use_mask_for_norm").each()
    if len(schemes) != 1 or len(masked) != 1:
        raise InvalidApp("it does not normalise one channel", source=chosen.place)
    scheme = Scheme(schemes[0].one_of(*Scheme))
    # Plans of nnU-Net write null where the scheme has no use for a mask.
    is_masked = masked[0].value is not None and masked[0].of(bool)
    if scheme is not Scheme.CT:
        return Normalisation(scheme, is_masked)
    names = ("foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality")
    found = plans.at(names[0] if plans.has(names[0]) else names[1]).at("0")
    low, high, mean, deviation = (
        found.at(name).number() for name in ("percentile_00_5", "percentile_99_5", "mean", "std")
    )
    return Normalisation(scheme, is_masked, low, high, mean, deviation)


def _resampling(chosen: Fact, key: str, orders: tuple[int, ...]) -> Resampling:
    """Return how intensities or class values are resampled; InvalidApp for ways that are not known here."""
    name = chosen.at(key).one_of("resample_data_or_seg_to_shape", "resample_torch_fornnunet", "no_resampling_hack")
    words = chosen.at(f"{key}_kwargs")
    if name == "no_resampling_hack":
        return Resampling(0, is_off=True)
    separates = words.at("force_separate_z").of(bool) if words.has("force_separate_z") else None
    limit = words.at("separate_z_anisotropy_threshold") if words.has("separate_z_anisotropy_threshold") else None
    anisotropy = ANISOTROPY if limit is None else limit.number()
    if name == "resample_torch_fornnunet":
        # It is linear, and nearest along a thick axis, unless it is told another mode.
        for word, usual in (("mode", "linear"), ("aniso_axis_mode", "nearest-exact")):
            if words.has(word):
                words.at(word).one_of(usual)
        return Resampling(1, 0, separates, anisotropy)
    order = _order(words, "order", 3, orders)
    return Resampling(order, _order(words, "order_z", 0, (0, 1)), separates, anisotropy)


def _order(words: Fact, key: str, usual: int, allowed: tuple[int, ...]) -> int:
    order = words.at(key).of(int) if words.has(key) else usual
    if order not in allowed:
        raise InvalidApp(f"splines of order {order} cannot be run here", source=words.place)
    return order


def kept_of(plans: Fact, dataset: Fact, configuration: str) -> Mapping[str, object]:
    """Return, in nnU-Net's own words, the little of both files that `plan_of` reads: no lists of training cases."""
    chosen = resolved(plans, configuration).members()
    own = {key: fact.value for key, fact in plans.members() if key in _KEPT_OF_PLANS}
    configured = {key: fact.value for key, fact in chosen if key != "inherits_from"}
    return {
        "plans": {**own, "configurations": {configuration: configured}},
        "dataset": {key: fact.value for key, fact in dataset.members() if key in _KEPT_OF_DATASET},
    }


_KEPT_OF_DATASET = ("channel_names", "modality", "labels", "regions_class_order")
_KEPT_OF_PLANS = (
    *("dataset_name", "plans_name", "image_reader_writer", "transpose_forward", "label_manager"),
    *("foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"),
)
