"""News of jobs from any thread to event streams: each listener keeps only the newest state of each job."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from annotate_server.domain.compute import JobNews, JobWatchers
from annotate_server.domain.job import Job


@dataclass
class Listener:
    """One event stream: at most one waiting piece of news a job, so that a slow reader costs nothing."""

    job_id: str | None
    waiting: dict[str, Job] = field(default_factory=dict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    async def news(self, heartbeat_s: float) -> AsyncIterator[Job | None]:
        """Yield jobs as they change; None where nothing happened for a heartbeat, or where the room closes."""
        while True:
            try:
                await asyncio.wait_for(self.woken.wait(), heartbeat_s)
            except TimeoutError:
                yield None
                continue
            self.woken.clear()
            if not self.waiting:
                yield None
            while self.waiting:
                yield self.waiting.pop(next(iter(self.waiting)))


@dataclass
class Newsroom:
    """Everybody who listens; `opened` binds it to the running event loop."""

    watchers: JobWatchers
    is_closed: bool = False
    _listeners: dict[int, Listener] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Watch jobs from the running event loop for as long as the block lasts."""
        self._loop = asyncio.get_running_loop()
        self.watchers.watchers.append(self._tell)
        try:
            yield
        finally:
            self.watchers.watchers.remove(self._tell)

    @contextmanager
    def listening(self, job_id: str | None) -> Iterator[Listener]:
        """Give a listener to one job, or to all."""
        listener = Listener(job_id)
        self._listeners[id(listener)] = listener
        try:
            yield listener
        finally:
            del self._listeners[id(listener)]

    def close(self) -> None:
        """Let every stream end: the server is shutting down."""
        self.is_closed = True
        for listener in self._listeners.values():
            listener.woken.set()

    def _tell(self, news: JobNews) -> None:
        """Take a piece of news from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pass_on, news.job)

    def _pass_on(self, job: Job) -> None:
        for listener in self._listeners.values():
            if listener.job_id in (None, job.id):
                listener.waiting[job.id] = job
                listener.woken.set()
