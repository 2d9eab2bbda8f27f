"""The process of a guest: how it is started, what it may see of our surroundings, what it printed last, its end."""

import logging
import os
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self, cast

import annotate_server
from annotate_server.backends.environments import entry
from annotate_server.backends.environments.environment import Environment
from annotate_server.imaging.channel import Channel
from annotate_server.imaging.child import Child, Launch

log = logging.getLogger(__name__)

_LAST_LINES_S = 1.0
"""How long the lines that a process printed last are waited for: it may have ended before they were read."""
_KEPT_LINES = 40
_TOLD_LINES = 3
_MOST_LETTERS = 300
_OWN_VARIABLES = ("ANNOTATE_", "PYTHON", "PIP_", "VIRTUAL_ENV", "CONDA_")
"""Beginnings of the variables that speak about this program and this interpreter, or hold its secrets."""


@dataclass
class GuestProcess:
    """A running guest and this side's ends of what connects it; it ends by itself when this process does."""

    child: Child
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    _listener: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        """Listen to what it prints."""
        self._listener = threading.Thread(target=self._listen, name="guest-output", daemon=True)
        self._listener.start()

    @classmethod
    def start(cls, environment: Environment) -> Self:
        """Start the interpreter on our entry script; raises OSError where it cannot be run.

        What it prints is kept, the last lines of it: it cannot disturb what crosses, which goes over a socket.
        """
        package = str(Path(annotate_server.__file__).parent)
        launch = Launch(
            (str(environment.python), "-I", "-u", entry.__file__, package),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            environment=surroundings(environment, os.environ),
            folder=tempfile.gettempdir(),
        )
        return cls(Child.launched(launch))

    @property
    def channel(self) -> Channel:
        """Return this side's end of what connects it."""
        return self.child.channel

    @property
    def is_alive(self) -> bool:
        """Say whether the process still runs."""
        return self.child.is_alive

    def end(self, patience_s: float = 0.0) -> int:
        """End the process and all that it started; return how it ended: its exit code, negative for a signal.

        One that is ending by itself is given `patience_s` to say how.
        """
        with suppress(subprocess.TimeoutExpired):
            self.child.process.wait(patience_s)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.process.pid, signal.SIGKILL)
        code = self.child.end()
        self._listener.join(_LAST_LINES_S)
        return code

    def last_lines(self) -> str:
        """Return what it printed last, as one line; empty where it printed nothing."""
        lines = [line for line in self._lines.copy() if line.strip()][-_TOLD_LINES:]
        return " / ".join(line.strip()[:_MOST_LETTERS] for line in lines)

    def _listen(self) -> None:
        with cast("BinaryIO", self.child.process.stdout) as printed:
            for line in printed:
                text = line.decode(errors="replace").rstrip()
                self._lines.append(text)
                log.debug("%d: %s", self.child.process.pid, text)


def surroundings(environment: Environment, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a guest gets: all but those about this program and this interpreter."""
    kept = {name: value for name, value in variables.items() if not name.startswith(_OWN_VARIABLES)}
    binaries = environment.python.parent
    path = os.pathsep.join((str(binaries), kept.get("PATH", os.defpath)))
    return {**kept, "PATH": path, "VIRTUAL_ENV": str(binaries.parent)}
