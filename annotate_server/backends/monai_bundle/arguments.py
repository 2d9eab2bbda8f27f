"""One component of a bundle's configuration: its name, and its arguments one by one until none is left."""

import math
from collections.abc import Mapping
from typing import NoReturn

from annotate_server.backends.monai_bundle.expressions import Value
from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.geometry import Shape, Vector

_ABOUT_NO_VOXEL = ("allow_missing_keys", "lazy", "dtype", "_desc_", "_requires_", "_mode_", "_disabled_")


def component_of(value: Value, key: str) -> str:
    """Return the plain name of a component, `UNet` of `monai.networks.nets.UNet`.

    Raises InvalidApp for what is no component, and for one that is code of the bundle or of another package.
    """
    target = value.get("_target_") if isinstance(value, dict) else None
    if not isinstance(target, str):
        raise InvalidApp(f"{key!r} is no component with a _target_")
    package, _, name = target.rpartition(".")
    if package and package.split(".")[0] != "monai":
        raise InvalidApp(
            f"{key!r} needs {target!r}, which is code that comes with the bundle: none is run in this program",
            remedy="Use a bundle that is made of MONAI's own components.",
        )
    return name


def transform_of(value: Value, key: str) -> str:
    """Return the name of a transform in its one spelling: `Spacingd` of `SpacingD` and `SpacingDict`."""
    name = component_of(value, key)
    for ending in ("Dict", "D"):
        if name.endswith(ending):
            return f"{name[: -len(ending)]}d"
    return name


class Arguments:
    """What a component was given; whoever reads it takes every argument, and what is left is refused."""

    def __init__(self, table: Mapping[str, Value], key: str) -> None:
        """Take a component's table."""
        self._left = {name: value for name, value in table.items() if name not in ("_target_", *_ABOUT_NO_VOXEL)}
        self._key = key

    def ignore(self, *names: str) -> None:
        """Leave arguments out that make no difference to a voxel here."""
        for name in names:
            self._left.pop(name, None)

    def take(self, name: str, default: Value = None) -> Value:
        """Return an argument as it is; the first of a list that has one value a key."""
        return self._left.pop(name, default)

    def only(self, name: str, *allowed: Value) -> Value:
        """Return an argument that must be one of a few values, the first of which is usual."""
        value = _first(self.take(name, allowed[0]))
        if value not in allowed:
            self.refuse(f"{name} = {value!r}, and only {', '.join(repr(each) for each in allowed)} is known here")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a yes or no, which some bundles write as a text."""
        value = _first(self.take(name, default))
        if isinstance(value, str) and value in ("True", "False"):
            return value == "True"
        if not isinstance(value, bool):
            self.refuse(f"{name} = {value!r} is not true or false")
        return value

    def number(self, name: str, default: float | None = None) -> float | None:
        """Return a number, None where there is none."""
        value = self.take(name, default)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.refuse(f"{name} = {value!r} is no number")
        return float(value)

    def needed(self, name: str) -> float:
        """Return a number that must be there."""
        value = self.number(name)
        if value is None:
            self.refuse(f"{name} is missing")
        return value

    def text(self, name: str) -> str:
        """Return a text that must be there."""
        value = self.take(name)
        if not isinstance(value, str):
            self.refuse(f"{name} = {value!r} is no text")
        return value

    def lengths(self, name: str) -> Vector:
        """Return three numbers; fewer are filled up with the last, as MONAI does."""
        value = self.take(name)
        given = value if isinstance(value, list) else [value]
        numbers = [n for n in given if isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n)]
        if len(numbers) != len(given) or not 1 <= len(numbers) <= 3:
            self.refuse(f"{name} = {value!r} are no three numbers")
        a, b, c = (float(n) for n in [*numbers, *[numbers[-1]] * (3 - len(numbers))])
        return a, b, c

    def sides(self, name: str, default: int) -> Shape:
        """Return three whole numbers; one stands for all."""
        value = self.take(name, default)
        given = value if isinstance(value, list) else [value] * 3
        numbers = [n for n in given if isinstance(n, int) and not isinstance(n, bool)]
        if len(given) != 3 or len(numbers) != 3:
            self.refuse(f"{name} = {value!r} are no three whole numbers")
        a, b, c = numbers
        return a, b, c

    def finish(self) -> None:
        """Refuse what nobody took."""
        if self._left:
            self.refuse(f"the argument {sorted(self._left)[0]!r} is not known here")

    def refuse(self, what: str) -> NoReturn:
        """Raise InvalidApp that names the component."""
        raise InvalidApp(f"{self._key!r}: {what}", remedy="Change the bundle's configuration, or use another bundle.")


def _first(value: Value) -> Value:
    return value[0] if isinstance(value, list) and len(value) == 1 else value
