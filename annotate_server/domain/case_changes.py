"""Which cases changed lately, for those who keep something that was made from them."""

import threading
from collections.abc import Iterable


class CaseChanges:
    """The cases that a store wrote about, in this process, in the order of the newest change; thread-safe.

    Who keeps something reads `count` before the store and asks for what came `since` the next time: a change that falls
    between the two is heard of twice, never missed.
    """

    def __init__(self) -> None:
        """Begin without a change."""
        self._turn = threading.Lock()
        self._count = 0
        self._newest: dict[str, int] = {}

    @property
    def count(self) -> int:
        """Return how many changes there were: it grows with every one."""
        return self._count

    def note(self, case_ids: Iterable[str]) -> None:
        """Note that cases changed; called once the change is written."""
        with self._turn:
            for case_id in case_ids:
                self._count += 1
                self._newest.pop(case_id, None)
                self._newest[case_id] = self._count

    def since(self, count: int) -> tuple[str, ...]:
        """Return the cases that changed after the first `count` changes, the newest change last."""
        found = []
        with self._turn:
            for case_id, at in reversed(self._newest.items()):
                if at <= count:
                    break
                found.append(case_id)
        return tuple(reversed(found))
