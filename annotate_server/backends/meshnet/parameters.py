"""The `[parameters]` of a MeshNet app."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from annotate_server.domain.errors import InvalidApp

Choice = TypeVar("Choice", bound=StrEnum)


class Normalisation(StrEnum):
    """How the conformed 0 to 255 become the network's input."""

    MIN_MAX = "min-max"
    QUANTILE = "quantile"


class Precision(StrEnum):
    """What the features between the layers are kept in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Contrast(StrEnum):
    """Which MR contrast the network was trained on."""

    T1 = "T1"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class MeshNetParameters:
    """How a network wants its input, and what is plausible as its answer.

    The network is run on the box of the voxels above `crop_threshold` times the largest normalised value, grown by
    `crop_padding_mm`. An answer of less than `least_ml` millilitres is taken for a volume that shows no whole brain.
    `contrast` T1 refuses a series whose description names another one. `precision` float32 gives the labels of plain
    PyTorch; bfloat16 is used only where a trial shows that it is faster.
    """

    normalisation: Normalisation
    crop_threshold: float
    crop_padding_mm: int
    least_ml: float
    contrast: Contrast = Contrast.ANY
    precision: Precision = Precision.FLOAT32


_KEYS = frozenset({"normalisation", "crop_threshold", "crop_padding_mm", "least_ml", "contrast", "precision"})


def read_parameters(table: Mapping[str, object], app: str) -> MeshNetParameters:
    """Return the parameters of an app; raises InvalidApp that names the key."""
    if unknown := set(table) - _KEYS:
        raise InvalidApp(f"[parameters] has the unknown keys {', '.join(sorted(unknown))}", source=app)
    return MeshNetParameters(
        normalisation=_choice(table, "normalisation", Normalisation, app),
        crop_threshold=_number(table, "crop_threshold", (0.0, 0.99), app),
        crop_padding_mm=round(_number(table, "crop_padding_mm", (0.0, 256.0), app)),
        least_ml=_number(table, "least_ml", (0.0, 3000.0), app),
        contrast=_choice({"contrast": Contrast.ANY.value, **table}, "contrast", Contrast, app),
        precision=_choice({"precision": Precision.FLOAT32.value, **table}, "precision", Precision, app),
    )


def _choice(table: Mapping[str, object], key: str, kind: type[Choice], app: str) -> Choice:
    allowed = [member.value for member in kind]
    if table.get(key) not in allowed:
        raise InvalidApp(f"[parameters] {key} must be one of {', '.join(allowed)}", source=app)
    return kind(str(table[key]))


def _number(table: Mapping[str, object], key: str, limits: tuple[float, float], app: str) -> float:
    value, (low, high) = table.get(key), limits
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidApp(f"[parameters] {key} must be a number from {low:g} to {high:g}", source=app)
    return float(value)
