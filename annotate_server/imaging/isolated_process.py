"""The process that parses, seen from its caller: start it, ask it, end it."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from annotate_server.domain.errors import AnnotateError, ParserFailed, error_class
from annotate_server.imaging.channel import Channel, ChannelClosed, ChannelTimeout
from annotate_server.imaging.wire import pack, sendable, unpack

START_S = 60.0
"""A busy machine takes seconds to import an imaging library; the clock of a call starts after that."""

PATIENCE_S = 2.0
"""How long a process that closed its end of the socket may take to end."""


@sendable
@dataclass(frozen=True)
class Limits:
    """What the process that parses may take.

    `memory_bytes` is its address space (RLIMIT_AS), `file_bytes` the largest file it may write (RLIMIT_FSIZE).
    `scratch` is the folder for voxels on their way, None for the system's own; it needs room for one volume.
    """

    memory_bytes: int = 8 << 30
    file_bytes: int = 8 << 30
    scratch: Path | None = None


@sendable
@dataclass(frozen=True)
class Setup:
    """The first message to the process."""

    limits: Limits
    functions: Mapping[str, str]


@sendable
@dataclass(frozen=True)
class Request:
    """A function of the table, to be called once for each item of the message that follows.

    The items come after the function's module is loaded: it may have made their classes sendable.
    """

    function: str


@sendable
@dataclass(frozen=True)
class Raised:
    """A domain error on its way."""

    type: str
    detail: str
    source: str | None
    remedy: str | None

    def error(self, source: str) -> AnnotateError:
        """Return the error as the class that it was; `source` is what it is about if it does not say so itself."""
        return error_class(self.type)(self.detail, source=self.source or source, remedy=self.remedy)


@sendable
@dataclass(frozen=True)
class Answer:
    """What came of one item: a value, a domain error, or the name of an unforeseen exception and where it was raised.

    The message of an unforeseen exception stays behind: it may quote the file, and so the patient.
    """

    value: object = None
    raised: Raised | None = None
    failure: str | None = None
    place: str = ""


@dataclass
class ChildProcess:
    """A running process and this side's ends of what connects it; `served` counts its answers."""

    process: subprocess.Popen[bytes]
    channel: Channel
    lifeline: int
    served: int = 0

    @classmethod
    def start(cls, limits: Limits, functions: Mapping[str, str]) -> Self:
        """Return a process that is ready; it ends by itself when the caller's end of the lifeline closes."""
        mine, theirs = socket.socketpair()
        watched, lifeline = os.pipe()
        command = [sys.executable, "-P", "-m", "annotate_server.imaging.isolated_child"]
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: S603  our own interpreter and module, no word from outside
                    [*command, str(theirs.fileno()), str(watched)],
                    pass_fds=(theirs.fileno(), watched),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_environment(),
                    start_new_session=True,
                )
            finally:
                os.close(watched)
        child = cls(process, Channel(mine), lifeline)
        try:
            child._begun(Setup(limits, functions))
        except (ChannelClosed, ChannelTimeout) as error:
            code = child.end(PATIENCE_S)
            raise ParserFailed(f"the process that reads files did not start (exit code {code})") from error
        return child

    @property
    def is_alive(self) -> bool:
        """Say whether the process still runs."""
        return self.process.poll() is None

    def ask(self, function: str, items: Sequence[object], scratch: Path | None) -> None:
        """Send the items and return once the function is loaded; an answer follows for each."""
        self._begun(Request(function))
        self.channel.send(pack(tuple(items), scratch))

    def answer(self, allowance_s: float) -> Answer:
        """Return the next answer; raises ChannelTimeout or ChannelClosed."""
        answer = unpack(self.channel.receive(allowance_s))
        if not isinstance(answer, Answer):
            raise ChannelClosed
        self.served += 1
        return answer

    def end(self, patience_s: float = 0.0) -> int:
        """End the process and return how it ended: its exit code, negative for a signal.

        One that is ending by itself is given `patience_s` to say how.
        """
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience_s)
        self.process.kill()
        code = self.process.wait()
        self.channel.connection.close()
        os.close(self.lifeline)
        return code

    def _begun(self, message: Setup | Request) -> None:
        """Send a message and wait until the process is at work; raises ChannelClosed or ChannelTimeout."""
        self.channel.send(pack(message))
        answer = unpack(self.channel.receive(START_S))
        if not isinstance(answer, Answer) or answer.failure is not None:
            failure = answer.failure if isinstance(answer, Answer) else "no answer"
            raise ParserFailed(f"the process that reads files cannot load its parser ({failure})")


def _environment() -> dict[str, str]:
    """Return the environment of the process: few threads, because each of them takes address space."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    return {**os.environ, **dict.fromkeys(threads, "2"), "PYTHONWARNINGS": "ignore"}
