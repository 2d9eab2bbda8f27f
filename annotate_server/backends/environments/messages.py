"""What crosses between a guest and its host; both sides read the same file, each with its own interpreter."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from annotate_server.imaging.wire import sendable

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Words: TypeAlias = Mapping[str, Json]
Arrays: TypeAlias = Mapping[str, NDArray[np.generic]]
Report: TypeAlias = Callable[[float, str], None]

PROTOCOL = 1
"""Grows with every change of these messages: a server that was upgraded while it ran says so instead of guessing."""
TOO_OLD = 90
NO_NUMPY = 91
"""Exit codes of `entry`, which cannot speak to us yet when it finds these."""


class Desk(Protocol):
    """What a module of ours makes over there: it answers, in one thread, one call after the other."""

    def answer(self, verb: str, words: Words, arrays: Arrays, report: Report) -> tuple[Words, Arrays]:
        """Answer a call. Arrays come read-only; `report` raises Cancelled when nobody waits any longer.

        May raise any AnnotateError, which arrives as what it is; anything else arrives as PredictionFailed.
        """
        ...


def written(words: Words) -> str:
    """Return words as JSON text; raises TypeError for what JSON does not have."""
    return json.dumps(words, separators=(",", ":"))


def read(text: str) -> dict[str, Json]:
    """Return the words of a JSON text: lists are lists and tables are dicts."""
    words: dict[str, Json] = json.loads(text)
    return words


@sendable
@dataclass(frozen=True)
class GuestSetup:
    """The first message to a guest: which module of ours runs there, and what it is told, as JSON."""

    module: str
    words: str


@sendable
@dataclass(frozen=True)
class GuestHello:
    """The first message of a guest: what it is."""

    protocol: int
    python: str
    numpy: str


@sendable
@dataclass(frozen=True)
class GuestCall:
    """A question; `scratch` is the folder that has room for the arrays of its answer."""

    verb: str
    words: str
    arrays: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    scratch: str | None = None


@sendable
@dataclass(frozen=True)
class GuestStop:
    """Nobody waits for the answer to the present call any more."""


@sendable
@dataclass(frozen=True)
class GuestProgress:
    """How far the present call is: 0 to 1, and a sentence."""

    fraction: float
    sentence: str


@sendable
@dataclass(frozen=True)
class GuestReply:
    """What came of a call, or of the setup: words and arrays, a domain error, or why it failed."""

    words: str = "{}"
    arrays: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    error_type: str | None = None
    detail: str = ""
    source: str | None = None
    remedy: str | None = None
