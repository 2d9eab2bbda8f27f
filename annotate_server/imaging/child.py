"""A process of our own interpreter and this side's ends of what connects it: how it is started, how it is ended."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from annotate_server.imaging.channel import Channel

PATIENCE_S = 2.0
"""How long a process that closed its end of the socket may take to end."""


@dataclass(frozen=True)
class Launch:
    """How a process is started: its command without the numbers that are added, and where what it prints goes.

    `environment` and `folder` are None for those of this process.
    """

    command: tuple[str, ...]
    stdout: int = subprocess.DEVNULL
    stderr: int | None = None
    environment: Mapping[str, str] | None = None
    folder: str | None = None


@dataclass(frozen=True)
class Child:
    """A running process; it ends by itself when this side's end of the lifeline closes."""

    process: subprocess.Popen[bytes]
    channel: Channel
    lifeline: int

    @classmethod
    def start(cls, module: str, *, is_silent: bool, environment: Mapping[str, str] | None = None) -> Self:
        """Start a module of ours in our interpreter.

        It has no standard input and output; one that `is_silent` has no standard error either.
        """
        command = (sys.executable, "-P", "-m", module)
        return cls.launched(Launch(command, stderr=subprocess.DEVNULL if is_silent else None, environment=environment))

    @classmethod
    def launched(cls, launch: Launch) -> Self:
        """Start a process in a session of its own; raises OSError where it cannot be run.

        The numbers of its ends of a socket and of the lifeline are its last two arguments; it has no standard input.
        """
        mine, theirs = socket.socketpair()
        watched, lifeline = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: S603  commands of ours, no word from outside
                [*launch.command, str(theirs.fileno()), str(watched)],
                pass_fds=(theirs.fileno(), watched),
                stdin=subprocess.DEVNULL,
                stdout=launch.stdout,
                stderr=launch.stderr,
                env=launch.environment,
                cwd=launch.folder,
                start_new_session=True,
            )
        except OSError:
            mine.close()
            os.close(lifeline)
            raise
        finally:
            theirs.close()
            os.close(watched)
        return cls(process, Channel(mine), lifeline)

    @property
    def is_alive(self) -> bool:
        """Say whether the process still runs."""
        return self.process.poll() is None

    def end(self, patience_s: float = 0.0) -> int:
        """End the process and return how it ended: its exit code, negative for a signal.

        One that is ending by itself is given `patience_s` to say how.
        """
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
        code = self.process.wait()
        self.channel.connection.close()
        os.close(self.lifeline)
        return code
