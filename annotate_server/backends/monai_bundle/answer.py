"""How class values become labels on the volume, and reading that from a bundle's `postprocessing`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from annotate_server.backends.monai_bundle.arguments import Arguments, transform_of
from annotate_server.backends.monai_bundle.expressions import Value
from annotate_server.backends.monai_bundle.preprocessing import each_transform
from annotate_server.domain.errors import InvalidApp


class Activation(StrEnum):
    """What makes probabilities of class values."""

    NONE = "none"
    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


class Return(StrEnum):
    """What is brought from the network's grid to the volume's: class values between voxels, or labels decided there.

    Labels take the nearest voxel, or of the eight around each place the label that weighs most.
    """

    VALUES = "values"
    NEAREST = "nearest"
    WEIGHTIEST = "weightiest"


@dataclass(frozen=True)
class LargestPart:
    """KeepLargestConnectedComponentd: of each of `labels` (none: of all) only the largest part stays."""

    labels: tuple[int, ...] = ()
    together: bool = False
    on_grid: bool = False


@dataclass(frozen=True)
class Answer:
    """From class values to labels: the largest of them, or with a `threshold` what is likelier than that."""

    activation: Activation = Activation.NONE
    threshold: float | None = None
    returned: Return = Return.NEAREST
    largest: tuple[LargestPart, ...] = ()


@dataclass
class _Reading:
    """How far the transforms have been read."""

    answer: Answer = field(default_factory=Answer)
    is_decided: bool = False
    is_returned: bool = False


_NOTHING_TO_DO = frozenset({"EnsureTyped", "CastToTyped", "ToTensord", "ToDeviced", "SaveImaged", "FromMetaTensord"})


def answer_from(transforms: Value, key: str) -> Answer:
    """Return what the transforms at `key` make of class values; InvalidApp names the first that is not understood."""
    reading = _Reading()
    for table, place in each_transform(transforms, key):
        _read(reading, table, place)
    if not reading.is_decided:
        raise InvalidApp(f"{key!r} makes no labels: there is no AsDiscreted with argmax or threshold")
    return reading.answer


def _read(reading: _Reading, table: Mapping[str, Value], place: str) -> None:
    name = transform_of(table, place)
    if name in _NOTHING_TO_DO:
        return
    given = Arguments(table, place)
    given.ignore("keys")
    match name:
        case "Activationsd":
            _activation(reading, given)
        case "Invertd":
            _return(reading, given)
        case "AsDiscreted":
            _decision(reading, given)
        case "KeepLargestConnectedComponentd":
            _largest(reading, given)
        case _:
            known = "Activationsd, AsDiscreted, Invertd, KeepLargestConnectedComponentd, SaveImaged"
            given.refuse(f"the transform is not among those that run here: {known}")
    given.finish()


def _activation(reading: _Reading, given: Arguments) -> None:
    given.only("other", None)
    softmax, sigmoid = given.flag("softmax", default=False), given.flag("sigmoid", default=False)
    given.ignore("dim")
    if reading.is_returned or reading.is_decided or (softmax and sigmoid):
        given.refuse("it must come once, before Invertd and AsDiscreted")
    found = Activation.SOFTMAX if softmax else Activation.SIGMOID if sigmoid else Activation.NONE
    reading.answer = replace(reading.answer, activation=found)


def _return(reading: _Reading, given: Arguments) -> None:
    given.ignore("transform", "orig_keys", "meta_keys", "orig_meta_keys", "meta_key_postfix", "to_tensor", "device")
    given.only("post_func", None)
    nearest = given.flag("nearest_interp", default=True)
    between = Return.WEIGHTIEST if reading.is_decided else Return.VALUES
    reading.answer = replace(reading.answer, returned=Return.NEAREST if nearest else between)
    reading.is_returned = True


def _decision(reading: _Reading, given: Arguments) -> None:
    if reading.is_decided:
        given.refuse("labels were made before")
    given.only("to_onehot", None)
    given.only("rounding", None)
    given.ignore("dim", "keepdim")
    argmax, threshold = given.flag("argmax", default=False), given.number("threshold")
    if argmax == (threshold is not None):
        given.refuse("it must take either argmax or a threshold")
    if threshold is not None and reading.answer.activation is not Activation.SIGMOID:
        given.refuse("a threshold needs probabilities of each class by itself (sigmoid)")
    reading.answer = replace(reading.answer, threshold=threshold)
    reading.is_decided = True


def _largest(reading: _Reading, given: Arguments) -> None:
    if not reading.is_decided:
        given.refuse("it must come behind AsDiscreted")
    given.only("is_onehot", None, False)
    given.only("connectivity", None, 3)
    given.only("num_components", 1)
    together = not given.flag("independent", default=True)
    labels = given.take("applied_labels")
    asked = [] if labels is None else labels if isinstance(labels, list) else [labels]
    numbers = [n for n in asked if isinstance(n, int) and n > 0]
    if len(numbers) != len(asked):
        given.refuse(f"applied_labels = {labels!r} are no labels")
    part = LargestPart(tuple(numbers), together, on_grid=not reading.is_returned)
    reading.answer = replace(reading.answer, largest=(*reading.answer.largest, part))
