"""A real server with real workers, in the environment of the server: this one holds Slicer's core only."""

import json
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

ROOT = pathlib.Path(__file__).parents[2]
START_S = 90.0


def program():
    """Return the interpreter of the server's environment."""
    return os.environ.get("SERVER_PYTHON", str(ROOT / ".venv/bin/python"))


def server_environment():
    """Return the variables of the server's processes: those of these tests are not for it."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "QT_QPA_PLATFORM")}


class Server:
    """`annotate serve`; it can be killed, and started again on the same workspace and port."""

    def __init__(self, workspace, studies=None, settings=None):
        self.workspace, self.studies, self.settings = pathlib.Path(workspace), studies, settings or {}
        self.url, self.process, self._port = "", None, 0

    def start(self):
        studies = [] if self.studies is None else ["--studies", str(self.studies)]
        command = [program(), "-m", "annotate_server.cli.main", "serve", "--port", str(self._port), "--json"]
        log = (self.workspace.parent / f"{self.workspace.name}.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [*command, "--workspace", str(self.workspace), *studies],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**server_environment(), "OMP_NUM_THREADS": "1", **self.settings},
                cwd=self.workspace.parent,
                start_new_session=True,
            )
        line = self.process.stdout.readline()
        assert line, f"the server did not start:\n{self.log()}"
        self.url = json.loads(line)["url"]
        self._port = int(self.url.rpartition(":")[2])
        return self

    def log(self):
        return (self.workspace.parent / f"{self.workspace.name}.log").read_text(errors="replace")[-4000:]

    def ready(self, cases=0):
        """Wait until the workers are there, and as many cases."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"{self.url}/health/ready").close()
                if self.get("/api/v1/cases?limit=1")["total"] >= cases:
                    return self
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.05)
        raise AssertionError(f"the server was not ready in time:\n{self.log()}")

    def get(self, path, name="ann"):
        return json.loads(self.ask("GET", path, name=name))

    def ask(self, method, path, body=None, name="ann", **headers):
        """Return the bytes of an answer: what another window, as the browser's, would get."""
        told = {"X-Annotate-Name": name, **{key.replace("_", "-"): value for key, value in headers.items()}}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            told.setdefault("Content-Type", "application/json")
        asked = urllib.request.Request(self.url + path, body, told, method=method)
        with urllib.request.urlopen(asked) as answer:
            return answer.read()

    def kill(self):
        """End it as a power cut would."""
        if self.process is not None:
            if self.process.poll() is None:
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()
            self.process = None


@contextmanager
def running(workspace, studies=None, settings=None, cases=0):
    """Give a server that is ready; it ends with the block."""
    server = Server(workspace, studies, settings)
    try:
        yield server.start().ready(cases)
    finally:
        server.kill()
