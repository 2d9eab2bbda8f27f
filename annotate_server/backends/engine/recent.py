"""What was computed for the last few volumes: the next prompt on one of them finds it again."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by digest; the one that was not asked for longest makes room. Used from one thread."""

    def __init__(self, capacity: int) -> None:
        """Keep at most `capacity` values, at least one."""
        self._capacity = max(1, capacity)
        self._values: OrderedDict[str, Value] = OrderedDict()

    def get(self, digest: str, compute: Callable[[], Value]) -> Value:
        """Return the value of a digest, computed the first time; whoever gets it must not change it."""
        if digest not in self._values:
            value = compute()
            while len(self._values) >= self._capacity:
                self._values.popitem(last=False)
            self._values[digest] = value
        self._values.move_to_end(digest)
        return self._values[digest]

    def clear(self) -> None:
        """Give the memory back."""
        self._values.clear()
