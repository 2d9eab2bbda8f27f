"""What the benchmarks of the server share: a server over a folder, a client that notes what it waits for, figures."""

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the server of the tests is the one that is measured

from server_process import ServerProcess, running

from annotate_server.client import AnnotateClient

__all__ = [
    "Measured",
    "Noted",
    "ServerProcess",
    "machine",
    "memory_mb",
    "noting",
    "peak_mb",
    "running",
    "say",
    "studies_of",
]

Answer = TypeVar("Answer")


@dataclass
class Measured:
    """Milliseconds that something took, each time."""

    name: str
    milliseconds: list[float] = field(default_factory=list)

    def time(self, what: Callable[[], Answer]) -> Answer:
        """Do something and note how long it took."""
        begun = time.perf_counter()
        answer = what()
        self.milliseconds.append((time.perf_counter() - begun) * 1e3)
        return answer

    def at(self, percent: float) -> float:
        """Return a percentile; not a number where nothing was measured."""
        return float(np.percentile(self.milliseconds, percent)) if self.milliseconds else float("nan")

    def line(self) -> str:
        """Return the figures."""
        count, most = len(self.milliseconds), self.at(100)
        return f"{self.name:24} n {count:4}  p50 {self.at(50):6.0f}  p95 {self.at(95):6.0f}  most {most:6.0f} ms"


@dataclass
class Noted:
    """What came back over the wire: bytes of each body as sent, and the parts of the server's time where it says so."""

    wire_bytes: list[int] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)

    def __call__(self, response: httpx.Response) -> None:
        """Note one answer."""
        self.wire_bytes.append(int(response.headers.get("content-length", 0)))
        for entry in filter(None, response.headers.get("server-timing", "").split(",")):
            name, _, milliseconds = entry.strip().partition(";dur=")
            self.parts.setdefault(name, []).append(float(milliseconds))


def noting(client: AnnotateClient, note: Callable[[httpx.Response], None]) -> None:
    """Let somebody look at every answer that a client gets."""
    client._connection._http.event_hooks["response"].append(note)


@contextmanager
def studies_of(folder: Path, parts: Mapping[str, Path]) -> Iterator[Path]:
    """Give a folder of copies of studies under names of their own; a server follows no links."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in parts.items():
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, folder / name)
    yield folder


def memory_mb(process: int | psutil.Process) -> float:
    """Return the resident memory of a process."""
    found = process if isinstance(process, psutil.Process) else psutil.Process(process)
    return float(found.memory_info().rss) / 1e6


def peak_mb(pid: int) -> float:
    """Return the most resident memory that a process has had."""
    line = next(each for each in _lines(Path(f"/proc/{pid}/status")) if each.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def machine() -> str:
    """Return what the figures were measured on."""
    models = [line.split(":")[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    name = models[0] if models else platform.processor()
    return f"{len(os.sched_getaffinity(0))} cores, {name}; load averages 1, 5, 15 min: {load}"


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201  a script for people


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
