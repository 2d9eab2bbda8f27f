"""Strategies: rules that say which case a person should be given next. A plug-in is a class that fulfils `Strategy`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class OpenCase:
    """What is known of a case that waits, before anybody looks at it.

    `held` are the names of the segments that a model's draft of it holds; empty where the draft is, or there is none.
    `difficulty` is how unsure the model was of its draft, 0 to 1; None where it does not say or has drafted nothing.
    """

    id: str
    is_drafted: bool = False
    held: frozenset[str] = frozenset()
    difficulty: float | None = None


@dataclass(frozen=True)
class Chance:
    """Numbers that look random and are the same for the same project, seed and words: an order does not jump about.

    `labelled` is how many cases of the project have a label.
    """

    project: str
    seed: int = 0
    labelled: int = 0

    def number(self, *words: str) -> float:
        """Return a number between 0 and 1, neither of which it is."""
        text = "\0".join((self.project, str(self.seed), *words))
        drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        return (drawn + 0.5) / 2**64


class Strategy(Protocol):
    """A rule that orders cases; found by the entry point group `annotate_server.strategies`, made without arguments."""

    @property
    def name(self) -> str:
        """Return what a project calls it by."""
        ...

    def order(self, cases: Sequence[OpenCase], chance: Chance) -> Sequence[OpenCase]:
        """Return the same cases, the one first that should be labelled next; the same arguments give the same order."""
        ...
