"""Lanes: workers with a line of callers before each of them, first come, first served."""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from annotate_server.domain.compute import Answered, HelpOrder, PromptOrder, VolumePlace
from annotate_server.domain.errors import AnnotateError, ShuttingDown, TooBusy, WorkerDied
from annotate_server.domain.ports import Control
from annotate_server.domain.stored import VolumeFacts
from annotate_server.domain.timing import part
from annotate_server.jobs.worker_process import WorkerProcess

log = logging.getLogger(__name__)

WARM_UP = "warm_up"
_START_AGAIN_S = 10.0
"""A worker that cannot be made ready is not started again at every look."""


@dataclass
class Lane:
    """A worker and who waits for it; thread-safe.

    `warm_up` is the argument of the worker's function `warm_up`, which is called in every new process, before anybody
    in line; None for none. Of those who ask, `most_waiting` may wait: who comes then is told to come back.
    """

    worker: WorkerProcess
    warm_up: object = None
    most_waiting: int = 32
    _line: deque[object] = field(default_factory=deque, init=False, repr=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False)
    _is_closed: bool = field(default=False, init=False)
    _warm: int | None = field(default=None, init=False)
    """The number of the process that is warmed up."""
    _is_starting: bool = field(default=False, init=False)
    _started_s: float = field(default=0.0, init=False)

    @property
    def waiting(self) -> int:
        """Return how many are in line, the one that is served included."""
        return len(self._line)

    @property
    def is_ready(self) -> bool:
        """Say whether the worker runs and is warmed up; one that has died meanwhile is replaced from here on."""
        pid = self.worker.process_id
        is_ready = pid is not None and pid == self._warm
        if not is_ready and time.monotonic() - self._started_s > _START_AGAIN_S:
            self.start()
        return is_ready

    def start(self) -> None:
        """Start the worker and warm it up, in the background; who asks meanwhile waits in line for it."""
        with self._changed:
            if self._is_starting or self._is_closed:
                return
            self._is_starting, self._started_s = True, time.monotonic()
            ticket = object()
            self._line.appendleft(ticket) if not self._line else self._line.insert(1, ticket)
        threading.Thread(target=self._started, args=(ticket,), name="start worker", daemon=True).start()

    def ask(self, function: str, argument: object, control: Control | None = None) -> object:
        """Return what the worker answers, once it is the caller's turn.

        Raises what `WorkerProcess.ask` raises; TooBusy where too many wait already, ShuttingDown after `close`.
        """
        with self._turn():
            try:
                with part("worker"):
                    return self.worker.ask(function, argument, control or Control())
            except WorkerDied:
                if self._is_closed:
                    raise ShuttingDown("the server is shutting down") from None
                self.start()
                raise

    def close(self, timeout_s: float = 0.0) -> None:
        """Send everybody in line away, give the call in progress `timeout_s` to end, then end the worker."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._line, timeout_s)
        deadline = time.monotonic() + 10.0
        while self._line and time.monotonic() < deadline:
            self.worker.kill()  # a start in progress may make a process after the first of these
            with self._changed:
                self._changed.wait_for(lambda: not self._line, 0.1)
        self.worker.end()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait in line."""
        ticket = object()
        with self._changed:
            if self._is_closed:
                raise ShuttingDown("the server is shutting down")
            if len(self._line) > self.most_waiting:
                raise TooBusy(f"{len(self._line)} requests wait for the models already", remedy="Try again shortly.")
            self._line.append(ticket)
        with self._held(ticket):
            if self._is_closed:
                raise ShuttingDown("the server is shutting down")
            yield

    @contextmanager
    def _held(self, ticket: object) -> Iterator[None]:
        """Wait until a ticket is the first in line, or the lane is closed, and take it out at the end."""
        try:
            with part("line"), self._changed:
                self._changed.wait_for(lambda: self._line[0] is ticket or self._is_closed)
            yield
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _started(self, ticket: object) -> None:
        """Start and warm up; what goes wrong is logged, and shows again when somebody asks."""
        try:
            with self._held(ticket):
                if self._is_closed:
                    return
                if self.warm_up is None:
                    self.worker.start()
                else:
                    self.worker.ask(WARM_UP, self.warm_up, Control())
                self._warm = self.worker.process_id
        except AnnotateError as error:
            if not self._is_closed:
                log.warning("a worker could not be made ready: %s", error)
        finally:
            self._is_starting = False


@dataclass(frozen=True)
class WorkerPool:
    """Fulfils `compute.Compute` on one lane, whose worker does what `workflows.answer` names."""

    prompts: Lane

    def facts(self, volume: VolumePlace) -> VolumeFacts:
        """Read a volume into the cache and return what it tells."""
        return cast("VolumeFacts", self.prompts.ask("facts", volume))

    def prompt(self, order: PromptOrder) -> Answered:
        """Answer the newest prompt."""
        return cast("Answered", self.prompts.ask("prompt", order))

    def help(self, order: HelpOrder) -> Answered:
        """Carry out a helper."""
        return cast("Answered", self.prompts.ask("help", order))
