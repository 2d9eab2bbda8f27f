"""A guest: code of ours in another interpreter, seen from the side that asks it."""

import logging
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from annotate_server.backends.environments.environment import Environment
from annotate_server.backends.environments.guest_process import GuestProcess
from annotate_server.backends.environments.messages import (
    NO_NUMPY,
    PROTOCOL,
    TOO_OLD,
    Arrays,
    GuestCall,
    GuestHello,
    GuestProgress,
    GuestReply,
    GuestSetup,
    GuestStop,
    Json,
    Words,
    read,
    written,
)
from annotate_server.domain.errors import AnnotateError, BackendUnavailable, Cancelled, PredictionFailed, error_class
from annotate_server.domain.ports import Control
from annotate_server.imaging.channel import ChannelClosed, ChannelTimeout
from annotate_server.imaging.wire import pack, unpack

__all__ = ["Environment", "Guest", "GuestAnswer", "Patience"]
log = logging.getLogger(__name__)

_TICK_S = 0.1
"""How long it takes at most until a cancelled call is noticed."""
_LAST_WORDS_S = 2.0
_MEMORY = Path("/dev/shm")  # noqa: S108  files in it have no name (see `imaging.wire`)


@dataclass(frozen=True)
class Patience:
    """How long a guest may take: to start, to stop when asked, and to give no sign of life during a call."""

    start_s: float = 300.0
    stop_s: float = 10.0
    silence_s: float = 1800.0


@dataclass(frozen=True)
class GuestAnswer:
    """What a desk answered: words as JSON has them, arrays read-only and mapped."""

    words: dict[str, Json]
    arrays: Arrays


@dataclass
class Guest:
    """Code of ours in another interpreter; for one thread at a time.

    `module` is the full name of a module of ours that defines `open(words) -> messages.Desk`. A guest that died is
    started again by the next call, and knows nothing of earlier ones then: `starts` tells.
    """

    environment: Environment
    module: str
    words: Words
    patience: Patience = Patience()
    starts: int = field(default=0, init=False)
    _process: GuestProcess | None = field(default=None, init=False, repr=False)

    @classmethod
    def start(cls, environment: Environment, module: str, words: Words, patience: Patience = Patience()) -> Self:
        """Return a guest whose desk is open.

        Raises BackendUnavailable where the interpreter, numpy or the module's libraries do not work over there, and
        the AnnotateError that `open` raised.
        """
        guest = cls(environment, module, words, patience)
        guest._started()
        return guest

    @property
    def is_alive(self) -> bool:
        """Say whether the process runs."""
        return self._process is not None and self._process.is_alive

    def call(self, verb: str, words: Words, arrays: Arrays, control: Control) -> GuestAnswer:
        """Return what the desk answers; progress and cancelling go by `control`.

        Raises the AnnotateError that the desk raised, PredictionFailed for anything else that it raised and for a
        guest that died or gave no sign of life, Cancelled; what `start` raises where it has to be started again.
        """
        control.check()
        process = self._started()
        scratch = _scratch(arrays, control.scratch)
        packed = pack(GuestCall(verb, written(words), dict(arrays), str(scratch) if scratch else None), scratch)
        try:
            process.channel.send(packed)
            reply = self._awaited(process, control)
        except (ChannelClosed, ChannelTimeout) as error:
            raise self._died(process) from error
        except BaseException:
            self.close()  # it is in the midst of a call to which nobody listens any more
            raise
        if reply.error_type is not None:
            raise self._error_of(reply)
        return GuestAnswer(read(reply.words), reply.arrays)

    def close(self) -> None:
        """End the process and all that it started."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _started(self) -> GuestProcess:
        """Return the process, started where none runs."""
        if self._process is not None and self._process.is_alive:
            return self._process
        if self._process is not None:
            log.warning("%s; it is started again", self._died(self._process).detail)
        process = self._begun()
        try:
            reply = self._opened(process)
        except (ChannelClosed, ChannelTimeout) as error:
            raise self._not_started(process, error) from error
        except BaseException:
            process.end()
            raise
        if reply.error_type is not None:
            process.end()
            raise self._refused(reply)
        self._process = process
        self.starts += 1
        return process

    def _begun(self) -> GuestProcess:
        try:
            return GuestProcess.start(self.environment)
        except OSError as error:
            raise BackendUnavailable(
                f"its interpreter cannot be run ({error.strerror})",
                source=self.environment.kind,
                remedy=self._remake(),
            ) from error

    def _opened(self, process: GuestProcess) -> GuestReply:
        """Greet the guest and open its desk; raises ChannelClosed and ChannelTimeout."""
        deadline = time.monotonic() + self.patience.start_s
        hello = unpack(process.channel.receive(self.patience.start_s))
        if not isinstance(hello, GuestHello) or hello.protocol != PROTOCOL:
            raise BackendUnavailable(
                "the guest is of another version than the server", remedy="Start the server again: it was upgraded."
            )
        log.info("environment %s: Python %s, numpy %s", self.environment.kind, hello.python, hello.numpy)
        process.channel.send(pack(GuestSetup(self.module, written(self.words))))
        reply = unpack(process.channel.receive(deadline - time.monotonic()))
        if not isinstance(reply, GuestReply):
            raise ChannelClosed
        return reply

    def _awaited(self, process: GuestProcess, control: Control) -> GuestReply:
        """Return the reply to the call that was sent; raises Cancelled, ChannelClosed, ChannelTimeout for silence."""
        heard, stopped = time.monotonic(), 0.0
        while True:
            if process.channel.has_message(_TICK_S):
                message = unpack(process.channel.receive(self.patience.silence_s))
                heard = time.monotonic()
                if isinstance(message, GuestReply):
                    return message
                if isinstance(message, GuestProgress):
                    control.report(min(1.0, max(0.0, message.fraction)), message.sentence)
            now = time.monotonic()
            if not stopped and control.is_cancelled():
                stopped = now
                process.channel.send(pack(GuestStop()))
            if stopped and now - stopped > self.patience.stop_s:
                log.warning("the guest %s did not stop when asked: it is ended", self.environment.kind)
                raise Cancelled("the work was stopped on request")
            if now - heard > self.patience.silence_s:
                raise ChannelTimeout

    def _error_of(self, reply: GuestReply) -> AnnotateError:
        """Return what a desk raised, as what it was."""
        kind = error_class(reply.error_type or "")
        return kind(reply.detail, source=reply.source or self.environment.kind, remedy=reply.remedy)

    def _refused(self, reply: GuestReply) -> AnnotateError:
        """Return why a desk was not opened; anything that is no error of ours is a library that does not work."""
        error = self._error_of(reply)
        if isinstance(error, PredictionFailed):
            return BackendUnavailable(error.detail, source=error.source, remedy=self._remake())
        return error

    def _died(self, process: GuestProcess) -> PredictionFailed:
        """End what is left of a guest and return the error that says how it ended."""
        was_silent = process.is_alive and not process.channel.has_message(0.0)
        code = process.end(0.0 if was_silent else _LAST_WORDS_S)
        self._process = None
        if was_silent:
            how = f"it gave no sign of life for {self.patience.silence_s:.0f} s and was ended"
        else:
            how = f"it ended {ending(code)}"
        return PredictionFailed(
            _with_lines(how, process), source=self.environment.kind, remedy="It is started again: ask again."
        )

    def _not_started(self, process: GuestProcess, error: Exception) -> BackendUnavailable:
        """End a guest that did not come up and return the error that says why."""
        is_late = isinstance(error, ChannelTimeout)
        code = process.end(0.0 if is_late else _LAST_WORDS_S)
        if is_late:
            how = f"it did not start within {self.patience.start_s:.0f} s"
        elif code in (TOO_OLD, NO_NUMPY):
            how = "its interpreter cannot be used"
        else:
            how = f"it ended at its start {ending(code)}"
        return BackendUnavailable(_with_lines(how, process), source=self.environment.kind, remedy=self._remake())

    def _remake(self) -> str:
        return f"Make the environment again: annotate models env {self.environment.kind} --again"


def ending(code: int) -> str:
    """Say how a process ended. Nobody but the kernel sends SIGKILL of its own, and it does so when memory runs out."""
    if code == -signal.SIGKILL:
        return "(SIGKILL: the memory has run out, as a rule)"
    return f"({signal.Signals(-code).name})" if code < 0 else f"(exit code {code})"


def _with_lines(how: str, process: GuestProcess) -> str:
    lines = process.last_lines()
    return f"{how}; it said last: {lines}" if lines else how


def _scratch(arrays: Arrays, scratch: Path | None) -> Path | None:
    """Return the folder for arrays on their way: memory where there is plenty, else the caller's."""
    wanted = 4 * sum(array.nbytes for array in arrays.values()) + (256 << 20)
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > wanted and free_memory_bytes() > wanted:
        return _MEMORY
    return scratch


def free_memory_bytes() -> int:
    """Return how much memory programs can still get; 0 where the system does not say."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) << 10
    return 0
