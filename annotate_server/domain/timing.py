"""Where the time of one request goes: its parts are timed where they happen, for whoever began to count."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_PARTS: ContextVar[dict[str, float] | None] = ContextVar("parts", default=None)


@contextmanager
def counted_parts() -> Iterator[Mapping[str, float]]:
    """Give the seconds of each part of what happens within the block, also in threads that take its context along."""
    parts: dict[str, float] = {}
    token = _PARTS.set(parts)
    try:
        yield parts
    finally:
        _PARTS.reset(token)


@contextmanager
def part(name: str) -> Iterator[None]:
    """Count the block as a part, by a name of one word; costs nothing where nobody counts."""
    parts = _PARTS.get()
    begun = time.perf_counter()
    try:
        yield
    finally:
        if parts is not None:
            parts[name] = parts.get(name, 0.0) + time.perf_counter() - begun
