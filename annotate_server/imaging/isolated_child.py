"""The process that parses untrusted files: started by `isolation`, never by a person.

It limits itself, says that it is ready, and answers requests until its caller is gone. Whatever a library prints is
thrown away: it may quote the file, and so the patient.
"""

import fcntl
import importlib
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from annotate_server.domain.errors import AnnotateError
from annotate_server.imaging.channel import Channel, ChannelClosed
from annotate_server.imaging.isolated_process import Answer, Limits, Raised, Request, Setup
from annotate_server.imaging.wire import pack, unpack


def main(arguments: list[str]) -> None:
    """Serve until the caller is gone; `arguments` are the numbers of the socket and the lifeline."""
    connection, lifeline = (int(number) for number in arguments)
    die_with_caller(lifeline)
    channel = Channel(socket.socket(fileno=connection))
    try:
        setup = unpack(channel.receive())
        if not isinstance(setup, Setup):
            return
        _restrict(setup.limits)
        channel.send(pack(Answer()))
        while True:
            _serve(channel, setup)
    except ChannelClosed:
        return


def die_with_caller(lifeline: int) -> None:
    """Let the kernel end this process, whatever it is doing, when the other end of a pipe closes.

    A signal to the owner of the descriptor (F_SETOWN, O_ASYNC) needs no thread and no interpreter lock; the death
    signal of prctl would come already when the *thread* ends that started this process.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _restrict(limits: Limits) -> None:
    """Take the limits that no library can get rid of."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))


def _serve(channel: Channel, setup: Setup) -> None:
    """Answer one request."""
    request = unpack(channel.receive())
    if not isinstance(request, Request):
        raise ChannelClosed
    try:
        module, name = setup.functions[request.function].split(":")
        function = getattr(importlib.import_module(module), name)
    except Exception as error:
        channel.send(pack(_failure(error)))
        return
    channel.send(pack(Answer()))
    items = unpack(channel.receive())
    if not isinstance(items, tuple):
        raise ChannelClosed
    for item in items:
        _answer(channel, function, item, setup.limits.scratch)


def _answer(channel: Channel, function: Callable[[object], object], item: object, scratch: Path | None) -> None:
    """Send what the function makes of one item."""
    try:
        packed = pack(Answer(function(item)), scratch)
    except AnnotateError as error:
        packed = pack(Answer(raised=Raised(error.type, error.detail, error.source, error.remedy)))
    except Exception as error:  # the last handler: whatever a parser throws at a damaged file
        packed = pack(_failure(error))
    channel.send(packed)


def _failure(error: Exception) -> Answer:
    """Return an unforeseen exception without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    name = "MemoryError" if isinstance(error, MemoryError) else type(error).__name__
    return Answer(failure=name, place=place)


if __name__ == "__main__":
    main(sys.argv[1:])
