"""Typed access to the JSON that nnU-Net writes: what is not as expected is named by its place, never guessed."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from annotate_server.domain.errors import InvalidApp

Kind = TypeVar("Kind", str, int, bool)
_LARGEST_BYTES = 64 << 20
"""dataset.json may list every training case; this is ten thousand of them many times over."""


@dataclass(frozen=True)
class Fact:
    """A value of a JSON document and its place in it; raises InvalidApp where something else was expected."""

    value: object
    place: str

    def at(self, key: str) -> "Fact":
        """Return the member of an object."""
        if not isinstance(self.value, dict) or key not in self.value:
            raise InvalidApp(f"it has no {key!r}", source=self.place)
        return Fact(self.value[key], f"{self.place}: {key}")

    def has(self, key: str) -> bool:
        """Say whether an object has a member that is not null."""
        return isinstance(self.value, dict) and self.value.get(key) is not None

    def members(self) -> tuple[tuple[str, "Fact"], ...]:
        """Return the names and values of an object, in their order."""
        if not isinstance(self.value, dict):
            raise InvalidApp("it is no table", source=self.place)
        return tuple((key, self.at(key)) for key in self.value)

    def each(self) -> Sequence["Fact"]:
        """Return the elements of a list."""
        if not isinstance(self.value, list):
            raise InvalidApp("it is no list", source=self.place)
        return [Fact(element, f"{self.place}[{number}]") for number, element in enumerate(self.value)]

    def of(self, kind: type[Kind]) -> Kind:
        """Return the value as a text, a whole number or a truth value."""
        if type(self.value) is not kind:
            raise InvalidApp(f"it is not of the type {kind.__name__}", source=self.place)
        return self.value

    def number(self) -> float:
        """Return a finite number."""
        if not isinstance(self.value, int | float) or isinstance(self.value, bool) or not math.isfinite(self.value):
            raise InvalidApp("it is no finite number", source=self.place)
        return float(self.value)

    def between(self, low: int, high: int) -> int:
        """Return a whole number of a range, both ends included."""
        found = self.of(int)
        if not low <= found <= high:
            raise InvalidApp(f"{found} is not between {low} and {high}", source=self.place)
        return found

    def one_of(self, *allowed: str) -> str:
        """Return a text that is one of those that can be run here."""
        found = self.of(str)
        if found not in allowed:
            raise InvalidApp(f"{found[:80]!r} cannot be run here, only {' or '.join(allowed)}", source=self.place)
        return found


def read_facts(path: Path) -> Fact:
    """Return what a JSON file holds; raises InvalidApp for what is no JSON, or far too large for what it is."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise InvalidApp("it is too large to be a description", source=path.name)
        return Fact(json.loads(path.read_bytes()), path.name)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidApp(f"it cannot be read: {error}", source=path.name) from error
