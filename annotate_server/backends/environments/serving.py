"""The guest's side: runs in the foreign interpreter, started by `entry`; numpy and the standard library only.

The main thread computes, one call after the other; a second one listens: it takes the next call, hears that the
present one is no longer wanted, and ends the process with everything it started when the host is gone.
"""

import fcntl
import importlib
import os
import platform
import queue
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from annotate_server.backends.environments.messages import (
    PROTOCOL,
    Desk,
    GuestCall,
    GuestHello,
    GuestProgress,
    GuestReply,
    GuestSetup,
    GuestStop,
    read,
    written,
)
from annotate_server.domain.errors import AnnotateError, Cancelled
from annotate_server.imaging.channel import Channel, ChannelClosed
from annotate_server.imaging.wire import pack, unpack

_PROGRESS_EVERY_S = 0.1
_MOST_LETTERS = 300
_OOM_SCORE = "500"
"""Where memory runs out the kernel ends a guest, which is started again, rather than the web process."""


def serve(connection: int, lifeline: int) -> None:
    """Serve until the host is gone; the numbers are those of the socket and of the lifeline."""
    _end_with_host(lifeline)
    channel = Channel(socket.socket(fileno=connection))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    with suppress(ChannelClosed):
        channel.send(pack(GuestHello(PROTOCOL, platform.python_version(), np.__version__)))
        setup = unpack(channel.receive())
        if isinstance(setup, GuestSetup):
            _Guest(channel).work(setup)


def _end_with_host(lifeline: int) -> None:
    """Let the kernel end this process and those that it starts when the other end of a pipe closes."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the host, which ends this process itself
        signal.signal(number, signal.SIG_IGN)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


@dataclass
class _Guest:
    """The process: one channel, one desk, the call in progress."""

    channel: Channel
    calls: "queue.SimpleQueue[GuestCall]" = field(default_factory=queue.SimpleQueue)
    is_unwanted: threading.Event = field(default_factory=threading.Event)
    turn: threading.Lock = field(default_factory=threading.Lock)
    is_answering: bool = False
    reported_s: float = 0.0

    def work(self, setup: GuestSetup) -> None:
        """Set the desk up and answer calls until the host is gone."""
        desks: list[Desk] = []

        def opened() -> GuestReply:
            desks.append(importlib.import_module(setup.module).open(read(setup.words)))
            return GuestReply()

        self._answer(opened, None)
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        while desks:
            call = self.calls.get()
            self._answer(partial(self._asked, desks[0], call), call.scratch)

    def _listen(self) -> None:
        """Sort what comes in until the host is gone, and end the process group then."""
        with suppress(ChannelClosed, ValueError, TypeError, LookupError):
            while True:
                message = unpack(self.channel.receive())
                if isinstance(message, GuestStop):
                    self.is_unwanted.set()
                elif isinstance(message, GuestCall):
                    self.is_unwanted = threading.Event()
                    self.calls.put(message)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def _asked(self, desk: Desk, call: GuestCall) -> GuestReply:
        words, arrays = desk.answer(call.verb, read(call.words), call.arrays, self._report)
        return GuestReply(written(words), {name: np.asarray(array) for name, array in arrays.items()})

    def _report(self, fraction: float, sentence: str) -> None:
        """Tell the host how far the call is, unless that was told just now; raises Cancelled when nobody waits."""
        if self.is_unwanted.is_set():
            raise Cancelled("the work was stopped on request")
        now = time.monotonic()
        if self.is_answering and now - self.reported_s >= _PROGRESS_EVERY_S:
            self.reported_s = now
            self._send(GuestProgress(float(fraction), str(sentence)))

    def _answer(self, ask: Callable[[], GuestReply], scratch: str | None) -> None:
        """Send what comes of a question."""
        self.reported_s, self.is_answering = 0.0, True
        try:
            packed = pack(ask(), Path(scratch) if scratch else None)
        except AnnotateError as error:
            packed = pack(_refusal(error))
        except ChannelClosed:
            raise
        except (Exception, SystemExit) as error:  # the last handler: whatever foreign code throws, the next is answered
            traceback.print_exc()
            packed = pack(GuestReply(error_type="prediction-failed", detail=_said(error)))
        self.is_answering = False
        with self.turn:
            self.channel.send(packed)

    def _send(self, message: object) -> None:
        packed = pack(message)
        with self.turn:
            self.channel.send(packed)


def _refusal(error: AnnotateError) -> GuestReply:
    return GuestReply(error_type=error.type, detail=error.detail, source=error.source, remedy=error.remedy)


def _said(error: Exception | SystemExit) -> str:
    """Return the class of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}"[:_MOST_LETTERS] if lines else type(error).__name__
