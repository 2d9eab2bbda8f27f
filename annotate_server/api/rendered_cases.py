"""Cases as the JSON that answers give: rendered once, and again when the store says that they changed."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from annotate_server.domain.case_changes import CaseChanges
from annotate_server.domain.store_ports import CaseStore
from annotate_server.domain.stored import KnownCase

_MOST = 20_000
"""About 20 MB; beyond that all are given up and rendered again as they are asked for."""


@dataclass
class RenderedCases:
    """Each case by itself, kept while it stays as it is; thread-safe."""

    cases: CaseStore
    render: Callable[[KnownCase], bytes]
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)
    _at: int = field(default=0, init=False)
    _kept: dict[str, bytes] = field(default_factory=dict, init=False)

    def of(self, case_ids: Sequence[str]) -> tuple[bytes, ...]:
        """Return known cases in the order in which they are named."""
        changed: CaseChanges = self.cases.changed
        with self._turn:
            at = changed.count
            for case_id in changed.since(self._at):
                self._kept.pop(case_id, None)
            self._at = at
            missing = [case_id for case_id in case_ids if case_id not in self._kept]
            if len(self._kept) + len(missing) > _MOST:
                self._kept.clear()
                missing = list(case_ids)
            if missing:
                self._kept |= {known.id: self.render(known) for known in self.cases.those(missing)}
            return tuple(self._kept[case_id] for case_id in case_ids)
