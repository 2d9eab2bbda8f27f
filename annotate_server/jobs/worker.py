"""A worker: a process that computes, started by `worker_process`, never by a person.

Its main thread computes, one call after the other, so that models stay loaded and libraries that keep things by thread
find them again. A second thread listens: it takes the next call, hears that the present one is no longer wanted, and
ends the process when the server is gone.
"""

import importlib
import logging
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.ports import Control
from annotate_server.imaging.channel import Channel, ChannelClosed
from annotate_server.imaging.isolated_child import die_with_caller
from annotate_server.imaging.isolated_process import Raised
from annotate_server.imaging.wire import pack, unpack
from annotate_server.jobs.freed_memory import give_freed_back
from annotate_server.jobs.messages import WorkerAnswer, WorkerCall, WorkerProgress, WorkerSetup, WorkerStop

log = logging.getLogger(__name__)

Function = Callable[[object, Control], object]
PROGRESS_EVERY_S = 0.1
_AT_REST_S = 1.0
"""Seconds without a call after which a worker counts as at rest: between two clicks it does not."""
_OOM_SCORE = "500"
"""Where memory runs out the kernel ends a worker, which is replaced, rather than the web process."""


def main(arguments: list[str]) -> None:
    """Work until the server is gone; `arguments` are the numbers of the socket and the lifeline."""
    connection, lifeline = (int(number) for number in arguments)
    die_with_caller(lifeline)
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the server, which lets this process finish, or ends it
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    channel = Channel(socket.socket(fileno=connection))
    with suppress(ChannelClosed):
        setup = unpack(channel.receive())
        if isinstance(setup, WorkerSetup):
            _work(channel, setup)


@dataclass
class _Inbox:
    """Listens to the server, in a thread of its own."""

    channel: Channel
    calls: "queue.SimpleQueue[_Call]" = field(default_factory=queue.SimpleQueue)

    def next_call(self) -> "_Call":
        """Return the next call, waiting for it; a worker at rest keeps no memory that it has freed."""
        try:
            return self.calls.get(timeout=_AT_REST_S)
        except queue.Empty:
            give_freed_back()
            return self.calls.get()

    def listen(self) -> None:
        """Sort what comes in until the server is gone, and end the process then."""
        present = _Call(None)
        with suppress(ChannelClosed):
            while True:
                message = self._next()
                if isinstance(message, WorkerStop):
                    present.is_unwanted.set()
                else:
                    present = _Call(message)
                    self.calls.put(present)
        os._exit(0)  # whatever the main thread computes, nobody will hear of it

    def _next(self) -> object:
        """Return the next message, or why it cannot be read: an answer is owed to it all the same."""
        packed = self.channel.receive()
        try:
            return unpack(packed)
        except (AnnotateError, ValueError, TypeError, LookupError) as error:
            return error


@dataclass
class _Call:
    """A call in progress, or the error that it could not be read for."""

    message: object
    is_unwanted: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Outbox:
    """Speaks to the server; a model may report its progress from any thread."""

    channel: Channel
    scratch: Path | None
    turn: threading.Lock = field(default_factory=threading.Lock)
    reported_s: float = 0.0

    def send(self, message: object) -> None:
        """Send a message."""
        packed = pack(message, self.scratch)
        with self.turn:
            self.channel.send(packed)

    def report(self, fraction: float, message: str) -> None:
        """Send a report of progress, unless one was sent just now."""
        now = time.monotonic()
        if now - self.reported_s >= PROGRESS_EVERY_S:
            self.reported_s = now
            self.send(WorkerProgress(float(fraction), message))


def _work(channel: Channel, setup: WorkerSetup) -> None:
    """Set up and answer calls; raises ChannelClosed when the server is gone."""
    outbox = _Outbox(channel, Path(setup.scratch) if setup.scratch else None)
    os.nice(setup.nice)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    functions: Mapping[str, Function] = {}
    try:
        functions = _functions(setup)
        ready = WorkerAnswer()
    except AnnotateError as error:
        ready = WorkerAnswer(raised=_raised(error))
    except Exception as error:
        ready = _failure(error, "setup")
    outbox.send(ready)
    inbox = _Inbox(channel)
    threading.Thread(target=inbox.listen, name="listen", daemon=True).start()
    while True:
        _answer(functions, inbox.next_call(), outbox)


def _functions(setup: WorkerSetup) -> Mapping[str, Function]:
    """Return what this worker can do, by name."""
    module, name = setup.factory.split(":")
    functions: Mapping[str, Function] = getattr(importlib.import_module(module), name)(setup.settings)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return functions


def _answer(functions: Mapping[str, Function], call: _Call, outbox: _Outbox) -> None:
    """Send what comes of a call."""
    name = call.message.function if isinstance(call.message, WorkerCall) else "call"
    outbox.reported_s = 0.0
    try:
        if isinstance(call.message, AnnotateError):
            raise call.message
        if not isinstance(call.message, WorkerCall):
            raise TypeError(f"a {type(call.message).__name__} is no call")
        control = Control(report=outbox.report, is_cancelled=call.is_unwanted.is_set)
        control.check()
        outbox.send(WorkerAnswer(functions[name](call.message.argument, control)))
    except AnnotateError as error:
        outbox.send(WorkerAnswer(raised=_raised(error)))
    except ChannelClosed:
        raise
    except Exception as error:  # the last handler: whatever a model throws, the next call is answered
        outbox.send(_failure(error, name))


def _raised(error: AnnotateError) -> Raised:
    return Raised(error.type, error.detail, error.source, error.remedy)


def _failure(error: Exception, action: str) -> WorkerAnswer:
    """Log where an unforeseen exception came from and return it, both without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    log.error("%s failed with %s\n%s", action, type(error).__name__, "".join(_where(error)).rstrip())
    return WorkerAnswer(failure=type(error).__name__, place=place)


def _where(error: BaseException) -> Iterator[str]:
    """Yield the frames of an exception and of those that led to it; no message of theirs."""
    cause = error.__cause__ or error.__context__
    if cause is not None:
        yield from _where(cause)
        yield f"{type(cause).__name__}, which led to\n"
    yield from traceback.format_tb(error.__traceback__)


if __name__ == "__main__":
    main(sys.argv[1:])
