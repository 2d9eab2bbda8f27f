"""What the workers of the tests do: small functions, good and bad."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from annotate_server.domain.errors import InvalidApp, InvalidPrompt
from annotate_server.domain.ports import Control

Functions = Mapping[str, Callable[[object, Control], object]]


def functions(settings: str) -> Functions:
    """Return everything below."""
    return {
        "echo": lambda argument, _: argument,
        "settings": lambda _, __: settings,
        "process": lambda _, __: (os.getpid(), os.nice(0)),
        "thread": lambda _, __: threading.get_ident(),
        "double": lambda array, _: np.asarray(array) * 2,
        "large": lambda side, _: np.arange(int(str(side)) ** 3, dtype=np.uint16).reshape((int(str(side)),) * 3),
        "count": _count,
        "sleep": _sleep,
        "stubborn": lambda seconds, _: time.sleep(float(str(seconds))),
        "touch_and_sleep": _touch_and_sleep,
        "die": lambda _, __: os.kill(os.getpid(), signal.SIGKILL),
        "exit": lambda _, __: os._exit(7),
        "crash": lambda _, __: ctypes.string_at(1),
        "die_once": _die_once,
        "refuse": _refuse,
        "stumble": _stumble,
        "starve": _starve,
        "bytes": lambda _, __: b"no noun",
        "warm_up": lambda path, _: Path(str(path)).write_text(str(os.getpid())),
        "warmth": lambda path, _: Path(str(path)).read_text(),
        "threads_report": _threads_report,
    }


def broken(settings: str) -> Functions:
    """Refuse to be set up."""
    raise InvalidApp("its settings are wrong")


def exploding(settings: str) -> Functions:
    """Fail to be set up, in a way that nobody foresaw."""
    raise RuntimeError(settings)


def _count(steps: object, control: Control) -> object:
    """Report every step."""
    number = int(str(steps))
    for step in range(number):
        control.check()
        control.report(step / number, f"Step {step}")
        time.sleep(0.01)
    return number


def _sleep(seconds: object, control: Control) -> object:
    """Wait, as work does that can be stopped."""
    until = time.monotonic() + float(str(seconds))
    while time.monotonic() < until:
        control.check()
        time.sleep(0.01)
    return "slept"


def _touch_and_sleep(path: object, control: Control) -> object:
    """Say that it began, by a file, and wait until somebody stops it or writes into that file."""
    Path(str(path)).touch()
    while not Path(str(path)).read_text():
        control.check()
        control.report(0.5, "Half way")
        time.sleep(0.01)
    return "told to go on"


def _die_once(path: object, control: Control) -> object:
    if not Path(str(path)).exists():
        Path(str(path)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def _refuse(argument: object, control: Control) -> object:
    raise InvalidPrompt("it lies elsewhere", source=str(argument), remedy="Draw it again.")


def _stumble(argument: object, control: Control) -> object:
    try:
        raise KeyError(argument)
    except KeyError as error:
        raise RuntimeError(f"no {argument}") from error


def _starve(argument: object, control: Control) -> object:
    raise MemoryError


def _threads_report(argument: object, control: Control) -> object:
    """Report from several threads at once."""
    threads = [threading.Thread(target=lambda: [control.report(0.5, "x" * 500) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return "done"
