"""The process that parses, seen from its caller: start it, ask it, end it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from annotate_server.domain.errors import AnnotateError, ParserFailed, error_class
from annotate_server.imaging.channel import ChannelClosed, ChannelTimeout
from annotate_server.imaging.child import PATIENCE_S, Child
from annotate_server.imaging.wire import pack, sendable, unpack

START_S = 60.0
"""A busy machine takes seconds to import an imaging library; the clock of a call starts after that."""


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
    """A process that parses; `served` counts its answers."""

    child: Child
    served: int = 0

    @classmethod
    def start(cls, limits: Limits, functions: Mapping[str, str]) -> Self:
        """Return a process that is ready; it ends by itself when the caller's end of the lifeline closes."""
        child = Child.start("annotate_server.imaging.isolated_child", is_silent=True, environment=_environment())
        parser = cls(child)
        try:
            parser._begun(Setup(limits, functions))
        except (ChannelClosed, ChannelTimeout) as error:
            code = child.end(PATIENCE_S)
            raise ParserFailed(f"the process that reads files did not start (exit code {code})") from error
        return parser

    def ask(self, function: str, items: Sequence[object], scratch: Path | None) -> None:
        """Send the items and return once the function is loaded; an answer follows for each."""
        self._begun(Request(function))
        self.child.channel.send(pack(tuple(items), scratch))

    def answer(self, allowance_s: float) -> Answer:
        """Return the next answer; raises ChannelTimeout or ChannelClosed."""
        answer = unpack(self.child.channel.receive(allowance_s))
        if not isinstance(answer, Answer):
            raise ChannelClosed
        self.served += 1
        return answer

    def _begun(self, message: Setup | Request) -> None:
        """Send a message and wait until the process is at work; raises ChannelClosed or ChannelTimeout."""
        self.child.channel.send(pack(message))
        answer = unpack(self.child.channel.receive(START_S))
        if not isinstance(answer, Answer) or answer.failure is not None:
            failure = answer.failure if isinstance(answer, Answer) else "no answer"
            raise ParserFailed(f"the process that reads files cannot load its parser ({failure})")


def _environment() -> dict[str, str]:
    """Return the environment of the process: few threads, because each of them takes address space."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    return {**os.environ, **dict.fromkeys(threads, "2"), "PYTHONWARNINGS": "ignore"}
