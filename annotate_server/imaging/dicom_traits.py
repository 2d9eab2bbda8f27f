"""The slices of one plane and size by what tells those at one place apart: b-value, echo, phase, time.

Nothing separates slices that lie at places of their own, so that an acquisition number that merely counts slices
splits nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from annotate_server.imaging.dicom_frames import Frame
from annotate_server.imaging.dicom_planes import SAME_PLACE_MM, along_normal_mm
from annotate_server.imaging.dicom_slices import Named, Slice
from annotate_server.imaging.dicom_values import plain

Name = Callable[[int, Sequence[Hashable]], str]


@dataclass(frozen=True)
class _Trait:
    """Something that tells slices at one place apart; `name` names the n-th (from 0) of all its values."""

    value: Callable[[Frame], Hashable]
    name: Name


def _counted(noun: str) -> Name:
    """Return a name by number, from 1: values themselves are of no use to a reader."""
    return lambda number, _: f"{noun} {number + 1}"


def _b_value(number: int, values: Sequence[Hashable]) -> str:
    value = values[number]
    return f"b={value:g}" if isinstance(value, float) else "no b-value"


def _own_words(number: int, values: Sequence[Hashable]) -> str:
    """Return the words of an image type that the others do not all have."""
    every = [value for value in values if isinstance(value, tuple)]
    own = every[number] if len(every) == len(values) else ()
    kept = [word for word in own if not all(word in other for other in every)] or own
    return "/".join(plain(word) for word in kept) or f"type {number + 1}"


_TRAITS = (
    _Trait(lambda frame: frame.b_value, _b_value),
    _Trait(lambda frame: frame.echo_ms, _counted("echo")),
    _Trait(lambda frame: frame.image_type, _own_words),
    _Trait(lambda frame: frame.stack, _counted("stack")),
    _Trait(lambda frame: frame.temporal, _counted("time")),
    _Trait(lambda frame: frame.acquisition, _counted("acquisition")),
    _Trait(lambda frame: frame.gradient, _counted("direction")),
)

_TIMES = (
    _Trait(lambda frame: frame.trigger_ms, _counted("phase")),
    _Trait(lambda frame: frame.time, _counted("time")),
)
"""Times differ from slice to slice as well: only their rank at each place names a volume."""


def told_apart(slices: list[Slice]) -> list[Named]:
    """Return slices of one plane by what tells those at one place apart; as they are where nothing does."""
    places = _places(slices)
    most = max(Counter(places).values())
    if most == 1:
        return [("", slices)]
    for trait in _TRAITS:
        values = [trait.value(s.frame) for s in slices]
        # A trait with more values than slices at any place counts slices, not volumes.
        if 1 < len(set(values)) <= most and _varies_at_a_place(places, values):
            return _split(slices, values, trait.name)
    for trait in _TIMES:
        ranks = _ranks(places, [trait.value(s.frame) for s in slices])
        if ranks is not None:
            return _split(slices, ranks, trait.name)
    return [("", slices)]


def _split(slices: Sequence[Slice], values: Sequence[Hashable], name: Name) -> list[Named]:
    """Return the slices by value, each again told apart where it still must be."""
    ordered = sorted(set(values), key=lambda value: (value is not None, value))
    groups = []
    for number, value in enumerate(ordered):
        own = [s for s, mine in zip(slices, values, strict=True) if mine == value]
        groups += [(joined(name(number, ordered), rest), group) for rest, group in told_apart(own)]
    return groups


def joined(*names: str) -> str:
    """Return names in one, without the empty ones."""
    return ", ".join(name for name in names if name)


def _places(slices: Sequence[Slice]) -> list[int]:
    """Return for each slice the number of its place along the normal."""
    along = along_normal_mm([s.frame for s in slices])
    order = np.argsort(along, kind="stable")
    numbers = np.concatenate([[0], np.cumsum(np.diff(along[order]) > SAME_PLACE_MM)])
    places = np.empty(len(slices), dtype=np.int64)
    places[order] = numbers
    return [int(place) for place in places]


def _varies_at_a_place(places: Sequence[int], values: Sequence[Hashable]) -> bool:
    at: dict[int, set[Hashable]] = defaultdict(set)
    for place, value in zip(places, values, strict=True):
        at[place].add(value)
    return any(len(found) > 1 for found in at.values())


def _ranks(places: Sequence[int], values: Sequence[Hashable]) -> list[int] | None:
    """Return the rank of each slice's time at its place; None unless every place has the same number of times."""
    most = max(Counter(places).values())
    at: dict[int, list[Any]] = defaultdict(list)
    for place, value in zip(places, values, strict=True):
        at[place].append(value)
    if any(value in (None, "") for value in values) or {len(set(found)) for found in at.values()} != {most}:
        return None
    ordered = {place: sorted(found) for place, found in at.items()}
    return [ordered[place].index(value) for place, value in zip(places, values, strict=True)]
