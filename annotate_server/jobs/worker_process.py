"""A worker seen from the server: start it, ask it, stop what it does, replace it."""

import logging
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from annotate_server.domain.errors import Cancelled, PredictionFailed, WorkerDied
from annotate_server.domain.ports import Control
from annotate_server.imaging.channel import ChannelClosed, ChannelTimeout
from annotate_server.imaging.child import PATIENCE_S, Child
from annotate_server.imaging.wire import pack, unpack
from annotate_server.jobs.messages import WorkerAnswer, WorkerCall, WorkerProgress, WorkerSetup, WorkerStop

log = logging.getLogger(__name__)

START_S = 120.0
"""A busy machine takes long to import a deep-learning library."""
TICK_S = 0.1
"""How long it takes at most until a cancelled call is noticed."""
_AGAIN = "It is replaced: ask again."


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker is made.

    `factory` is "module:function", `settings` the JSON that it gets (`worker.Function` says what it returns). `nice`
    is added to the nice level. `scratch` is the folder for arrays on their way, None for the system's own. A call that
    does not end within `stop_s` of being cancelled, or within `longest_s` at all (None for no limit), ends the process.
    """

    factory: str
    settings: str = "{}"
    nice: int = 0
    scratch: Path | None = None
    stop_s: float = 5.0
    longest_s: float | None = None


@dataclass
class WorkerProcess:
    """A worker that is started when it is first needed and replaced when it died; for one thread at a time.

    Only `kill`, `is_alive` and `deaths` may be used while another thread asks.
    """

    options: WorkerOptions
    deaths: int = 0
    _child: Child | None = field(default=None, init=False, repr=False)

    @property
    def is_alive(self) -> bool:
        """Say whether the process runs."""
        child = self._child
        return child is not None and child.is_alive

    @property
    def process_id(self) -> int | None:
        """Return the number of the process, None where none runs."""
        child = self._child
        return child.process.pid if child is not None and child.is_alive else None

    def start(self) -> None:
        """Start the process and wait until it takes calls; nothing where it runs already.

        Raises the domain error of its factory, WorkerDied where it does not start.
        """
        if self._child is not None and self._child.is_alive:
            return
        if self._child is not None:
            log.warning("%s; it is replaced", _how(self._discard()))
            self.deaths += 1
        self._child = Child.start("annotate_server.jobs.worker", is_silent=False)
        options = self.options
        scratch = str(options.scratch) if options.scratch else None
        setup = WorkerSetup(options.factory, options.settings, options.nice, scratch)
        try:
            self._child.channel.send(pack(setup))
            ready = unpack(self._child.channel.receive(START_S))
        except (ChannelClosed, ChannelTimeout) as error:
            self.deaths += 1
            raise WorkerDied(
                f"{_how(self._discard(PATIENCE_S))} at its start", remedy="See the server's log."
            ) from error
        if not isinstance(ready, WorkerAnswer) or ready.failure is not None or ready.raised is not None:
            self._discard()
            if isinstance(ready, WorkerAnswer) and ready.raised is not None:
                raise ready.raised.error("")
            raise WorkerDied("the process that computes cannot be set up", remedy="See the server's log.")

    def ask(self, function: str, argument: object, control: Control) -> object:
        """Return what a function of the worker answers; progress and cancelling go by `control`.

        Raises the function's own AnnotateError; PredictionFailed for an exception that is none; Cancelled; WorkerDied
        where the process ended over it or took longer than it may. TypeError for what does not cross.
        """
        packed = pack(WorkerCall(function, argument), self.options.scratch)
        self.start()
        child = cast("Child", self._child)
        try:
            child.channel.send(packed)
            answer = self._awaited(child, control)
        except (ChannelClosed, ChannelTimeout) as error:
            self.deaths += 1
            raise WorkerDied(f"{_how(self._discard(PATIENCE_S))} over it", remedy=_AGAIN) from error
        except BaseException:
            self._discard()  # it is in the midst of a call to which nobody listens any more
            raise
        if answer.raised is not None:
            raise answer.raised.error("")
        if answer.failure is not None:
            raise _unforeseen(answer)
        return answer.value

    def kill(self) -> None:
        """End the process at once, whatever it does: who asks it is told that it died."""
        child = self._child
        if child is not None:
            child.process.kill()

    def end(self) -> None:
        """End the process; the next call would start another."""
        self._discard()

    def _awaited(self, child: Child, control: Control) -> WorkerAnswer:
        """Return the answer to the call that was sent; raises Cancelled or WorkerDied for one that takes too long."""
        begun = time.monotonic()
        stopped: float | None = None
        while True:
            if child.channel.has_message(TICK_S):
                message = unpack(child.channel.receive(START_S))
                if isinstance(message, WorkerAnswer):
                    return message
                if isinstance(message, WorkerProgress):
                    control.report(message.fraction, message.message)
            now = time.monotonic()
            if stopped is None and control.is_cancelled():
                stopped = now
                child.channel.send(pack(WorkerStop()))
            if stopped is not None and now - stopped > self.options.stop_s:
                log.warning("a call did not stop when asked: its worker is replaced")
                raise Cancelled("the work was stopped on request")
            if self.options.longest_s is not None and now - begun > self.options.longest_s:
                self.deaths += 1
                raise WorkerDied(f"it did not end within {self.options.longest_s:.0f} s", remedy=_AGAIN)

    def _discard(self, patience_s: float = 0.0) -> int:
        """End the process, if there is one, and return how it ended."""
        child, self._child = self._child, None
        return child.end(patience_s) if child is not None else 0


def _unforeseen(answer: WorkerAnswer) -> PredictionFailed:
    if answer.failure == "MemoryError":
        return PredictionFailed("it takes more memory than there is")
    return PredictionFailed(f"it stopped with {answer.failure} in {answer.place}", remedy="See the server's log.")


def _how(code: int) -> str:
    """Say how a process ended. Nobody but the kernel sends SIGKILL of its own, and it does so when memory runs out."""
    if code == -signal.SIGKILL:
        return "the process that computes was ended (SIGKILL: the memory has run out, as a rule)"
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the process that computes ended ({how})"
