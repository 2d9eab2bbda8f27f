"""What a parser may do to the process that it runs in: for the tests of the isolation only."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from annotate_server.domain.errors import UntrustedGeometry
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.volume import Volume


def echo(value: object) -> object:
    return value


def process_id(_: object) -> int:
    return os.getpid()


def crash(_: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def crash_on_bad(item: str) -> str:
    if item.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if item.startswith("hang"):
        hang(None)
    if item.startswith("refuse"):
        raise UntrustedGeometry("the axes are not at right angles", source=item, remedy="Export it again.")
    return item.upper()


def crash_once(marker: str) -> str:
    path = Path(marker)
    if not path.exists():
        path.touch()
        crash(None)
    return "survived"


def hang(_: object) -> None:
    """Hold the interpreter's lock for ever, as a parser in C does."""
    while True:
        time.sleep(0)


def swallow_memory(_: object) -> int:
    return int(np.ones(1 << 34, np.uint8).sum())


def fail(_: object) -> None:
    raise ValueError("Doe^Jane is no number")


def print_a_lot(lines: int) -> int:
    for _ in range(lines):
        os.write(1, b"noise on the standard output\n" * 100)
        os.write(2, b"noise on the standard error\n" * 100)
    return lines


def make_volume(side: int) -> Volume:
    geometry = Geometry((side, side + 1, side + 2), (1.5, 1.0, 0.5), ((0, 0, 1), (0, 1, 0), (1, 0, 0)), (1.0, 2.0, 3.0))
    return Volume(np.arange(np.prod(geometry.shape), dtype=np.int32).reshape(geometry.shape), geometry)


def peak_bytes(_: object) -> int:
    """Return the most memory that this process ever held.

    Not `getrusage`: Linux hands its maximum down from the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak) * 1024
