"""How many requests are in flight: of everybody, and of one person, so that nobody crowds the others out."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from annotate_server.api.services import Limits
from annotate_server.domain.errors import ShuttingDown, TooBusy, TryLater


@dataclass
class Flow:
    """Counts; used from the event loop alone."""

    limits: Limits
    is_draining: bool = False
    requests: int = 0
    of_person: Counter[str] = field(default_factory=Counter)

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

    @contextmanager
    def by(self, person: str, *, is_stream: bool) -> Iterator[None]:
        """Count a request of a person, an event stream apart; TooBusy where too many of theirs are in flight."""
        key = f"{'stream' if is_stream else 'request'} {person}"
        most = self.limits.person_streams if is_stream else self.limits.person_requests
        if self.of_person[key] >= most:
            raise TooBusy(f"{most} requests of yours are in flight already", remedy="Wait for their answers.")
        self.of_person[key] += 1
        try:
            yield
        finally:
            self.of_person[key] -= 1
            if not self.of_person[key]:
                del self.of_person[key]
