"""Typed access to parsed JSON: what is not as expected is named by its place, never guessed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from annotate_server.domain.errors import WeightsInvalid

Kind = TypeVar("Kind", str, int, bool)


@dataclass(frozen=True)
class Node:
    """A value of a JSON document and its place in it; raises WeightsInvalid where something else was expected."""

    value: object
    place: str

    def at(self, key: str) -> "Node":
        """Return the member of an object."""
        if not isinstance(self.value, dict) or key not in self.value:
            raise WeightsInvalid(f"{self.place} has no {key!r}")
        return Node(self.value[key], f"{self.place}.{key}")

    def each(self) -> Sequence["Node"]:
        """Return the elements of a list."""
        if not isinstance(self.value, list):
            raise WeightsInvalid(f"{self.place} is no list")
        return [Node(element, f"{self.place}[{number}]") for number, element in enumerate(self.value)]

    def has(self, key: str) -> bool:
        """Say whether an object has a member that is not null."""
        return isinstance(self.value, dict) and self.value.get(key) is not None

    def of(self, kind: type[Kind]) -> Kind:
        """Return the value as a text, a whole number or a truth value."""
        if type(self.value) is not kind:
            raise WeightsInvalid(f"{self.place} is not of the type {kind.__name__}")
        return self.value

    def numbers(self) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        return tuple(element.of(int) for element in self.each())

    def must_be(self, *allowed: object) -> None:
        """Refuse every other value."""
        if self.value not in allowed:
            shown = " or ".join(repr(value) for value in allowed)
            raise WeightsInvalid(f"{self.place} is {str(self.value)[:40]!r}; only {shown} can be run here")
