"""How many requests are in flight: of everybody, and of one person, so that nobody crowds the others out."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from annotate_server.api.services import Limits
from annotate_server.domain.errors import ShuttingDown, TooBusy, TryLater


class Flowing(StrEnum):
    """What a request is counted with: one that holds its place for long must not take those of the quick ones.

    Clients that send no name all count as one person: while a model works for each of them, they still ask what else
    there is.
    """

    QUICK = "request"
    PREDICTION = "prediction"
    STREAM = "stream"


@dataclass
class Flow:
    """Counts; used from the event loop alone.

    A viewer behind a proxy that speaks HTTP/2 asks for dozens of frames at once: those of one person beyond the limit
    wait their turn, a while, and are not counted among the requests in flight meanwhile.
    """

    limits: Limits
    is_draining: bool = False
    requests: int = 0
    of_person: Counter[str] = field(default_factory=Counter)
    _lines: dict[str, deque[asyncio.Future[None]]] = field(default_factory=dict, init=False)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count a request; TryLater where too many are in flight, ShuttingDown while the server drains."""
        if self.is_draining:
            raise ShuttingDown("the server is shutting down")
        if self.requests >= self.limits.all_requests:
            raise TryLater("the server has too many requests in flight")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @asynccontextmanager
    async def by(self, person: str, kind: Flowing = Flowing.QUICK) -> AsyncIterator[None]:
        """Count a request of a person, each kind by itself.

        Raises TooBusy for a stream too many at once; for a request where too many of theirs wait already, or its turn
        does not come.
        """
        key = f"{kind} {person}"
        most = self.limits.person_streams if kind is Flowing.STREAM else self.limits.person_requests
        if self.of_person[key] < most:
            self.of_person[key] += 1
        elif kind is Flowing.STREAM:
            raise _too_many(most)
        else:
            await self._turn(key)
        try:
            yield
        finally:
            self._leave(key)

    async def _turn(self, key: str) -> None:
        """Wait in line for the place of a request that ends."""
        line = self._lines.setdefault(key, deque())
        if len(line) >= self.limits.person_waiting:
            raise _too_many(self.limits.person_requests + len(line))
        place = asyncio.get_running_loop().create_future()
        line.append(place)
        self.requests -= 1
        try:
            await asyncio.wait_for(asyncio.shield(place), self.limits.person_wait_s)
        except BaseException as error:
            if place.done():
                self._leave(key)
            else:
                line.remove(place)
                self._tidy(key)
            if isinstance(error, TimeoutError):
                raise _too_many(self.limits.person_requests) from None
            raise
        finally:
            self.requests += 1

    def _leave(self, key: str) -> None:
        """Give the place of a request to the one that has waited longest, if one waits."""
        line = self._lines.get(key)
        if line:
            line.popleft().set_result(None)
            self._tidy(key)
            return
        self.of_person[key] -= 1
        if not self.of_person[key]:
            del self.of_person[key]

    def _tidy(self, key: str) -> None:
        if not self._lines[key]:
            del self._lines[key]


def _too_many(count: int) -> TooBusy:
    return TooBusy(f"{count} requests of yours are in flight already", remedy="Wait for their answers.")
