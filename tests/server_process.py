"""A real server in a process of its own, on a free port of the loopback address, for the tests that need one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import psutil

from annotate_server.client import AnnotateClient

COMMAND = (sys.executable, "-m", "annotate_server.cli.main", "serve", "--json")
START_S = 120.0


@dataclass
class ServerProcess:
    """`annotate serve`, which can be killed as a power cut would, and started again on the same workspace."""

    workspace: Path
    studies: Path | str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    """Where it listens; 0 takes a free port. Set between two starts it is where a browser finds the server again."""
    url: str = ""
    process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start it and wait until it listens."""
        studies = [] if self.studies is None else ["--studies", str(self.studies)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **self.settings}
        log = (self.workspace.parent / f"{self.workspace.name}.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [*COMMAND, "--port", str(self.port), "--workspace", str(self.workspace), *studies],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server did not start:\n{self.log()}"
        self.url = json.loads(line)["url"]
        return self

    def log(self) -> str:
        return (self.workspace.parent / f"{self.workspace.name}.log").read_text(errors="replace")[-4000:]

    def wait_until_ready(self) -> Self:
        """Wait until the workers are there."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health/ready").status_code == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(f"the server was not ready in time:\n{self.log()}")

    def wait_for_cases(self, count: int, token: str | None = None) -> Self:
        """Wait until the studies were looked through; `token` is asked with where there are users."""
        deadline = time.monotonic() + START_S
        with self.client(token=token) as client:
            while time.monotonic() < deadline:
                if len(list(client.cases())) >= count:
                    return self
                time.sleep(0.05)
        raise AssertionError(f"there were not {count} cases in time:\n{self.log()}")

    def client(self, name: str = "ann", token: str | None = None) -> AnnotateClient:
        return AnnotateClient(self.url, token=token, name=None if token else name)

    def kill(self) -> None:
        """End it as a power cut would: no process of it gets to do anything more."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._close()

    def terminate(self) -> int:
        """Ask it to end, and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(60)
        self._close()
        return code

    def workers(self) -> list[psutil.Process]:
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "annotate_server.jobs.worker" in " ".join(child.cmdline())]

    def _close(self) -> None:
        assert self.process is not None
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None


@contextmanager
def running(
    workspace: Path, studies: Path | str | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """Give a server that listens; it is ended with the block, whatever happens."""
    server = ServerProcess(workspace, studies, settings or {}).start()
    try:
        yield server
    finally:
        if server.process is not None:
            server.kill()
