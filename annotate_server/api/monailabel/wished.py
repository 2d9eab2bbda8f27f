"""Names that clients gave to volumes which they sent in, and by which they go on asking: no client reads our answer.

They are kept in memory only, a while: a name that a program gives to a volume may be that of a patient.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

_MOST = 1000


@dataclass
class WishedNames:
    """Cases by who sent them in and what they called them; thread-safe. What was sent in last counts."""

    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)
    _cases: OrderedDict[tuple[str, str], str] = field(default_factory=OrderedDict, init=False)

    def remember(self, person: str, name: str, case_id: str) -> None:
        """Keep a name."""
        if not name:
            return
        with self._turn:
            self._cases.pop((person, name), None)
            self._cases[person, name] = case_id
            while len(self._cases) > _MOST:
                self._cases.popitem(last=False)

    def find(self, person: str, name: str) -> str | None:
        """Return the case that a person means by a name; None where they sent none in under it."""
        with self._turn:
            return self._cases.get((person, name))
