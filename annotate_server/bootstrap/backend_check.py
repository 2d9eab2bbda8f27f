"""Which backends can be used, found out in a process of its own: to know it, each is imported, torch included."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from annotate_server.backends.discovery import EntryPointBackends, without_environment
from annotate_server.imaging.isolation import Isolated

_ALLOWANCE_S = 120.0
"""A busy machine takes long to import a deep-learning library."""


@dataclass
class BackendCheck:
    """Asks once, when somebody first wants to know, and remembers the answer: an installation does not change.

    Environments of their own are made while a server runs: whether they are there is looked at each time.
    """

    _found: tuple[Mapping[str, str], Mapping[str, str]] | None = field(default=None, init=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)

    def unavailable(self) -> Mapping[str, str]:
        """Return, by name, why a backend cannot be used and what to do."""
        with self._turn:
            if self._found is None:
                with Isolated(functions={"backends": f"{__name__}:looked_at"}) as child:
                    answer = child.call("backends", None, allowance_s=_ALLOWANCE_S, source="backends")
                self._found = cast("tuple[Mapping[str, str], Mapping[str, str]]", answer)
            reasons, kinds = self._found
            return {**without_environment(kinds), **reasons}


def looked_at(_: object) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Try to import every backend; called in the other process."""
    return EntryPointBackends().looked_at()
