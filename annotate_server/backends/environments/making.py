"""Making an environment: a virtual environment, pip, and a mark when everything in it can be imported."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from annotate_server.backends.environments.environment import (
    READY_MARK,
    Environment,
    environment_path,
    interpreter,
)
from annotate_server.backends.environments.recipes import LEAST_PYTHON, EnvironmentRecipe, PipStep
from annotate_server.domain.errors import BackendUnavailable, NoSpace, StateError, StorageFailed
from annotate_server.domain.ports import Control

_KEPT_LINES = 200
_TOLD_LINES = 3
_MOST_LETTERS = 300
_PIP_FULL = "no space left on device"


@dataclass(frozen=True)
class EnvironmentState:
    """What there is of an environment; `state` is a word or two, `remedy` is empty where nothing is to be done."""

    kind: str
    purpose: str
    folder: Path
    state: str
    remedy: str = ""
    python: str = ""
    packages: Mapping[str, str] | None = None

    @property
    def is_ready(self) -> bool:
        """Say whether a guest can be started in it."""
        return self.packages is not None


def state_of(recipe: EnvironmentRecipe) -> EnvironmentState:
    """Return what there is of an environment; nothing is started."""
    folder = environment_path(recipe.kind)
    command = f"annotate models env {recipe.kind}"
    if not folder.is_dir():
        size = f"{recipe.gigabytes:.1f} GB"
        return EnvironmentState(recipe.kind, recipe.purpose, folder, f"not made ({size})", command)
    try:
        mark = json.loads((folder / READY_MARK).read_text())
        packages, python, digest = dict(mark["packages"]), str(mark["python"]), str(mark["recipe"])
    except (OSError, ValueError, KeyError, TypeError):
        return EnvironmentState(recipe.kind, recipe.purpose, folder, "not finished", command)
    if not interpreter(folder).is_file():
        return EnvironmentState(recipe.kind, recipe.purpose, folder, "its interpreter is gone", f"{command} --again")
    is_current = digest == recipe.digest
    state, remedy = ("ready", "") if is_current else ("ready, of an older recipe", f"{command} --again")
    return EnvironmentState(recipe.kind, recipe.purpose, folder, state, remedy, python, packages)


@dataclass(frozen=True)
class EnvironmentOrder:
    """What a person asked for: another interpreter than ours, further packages, and whether to begin from nothing."""

    recipe: EnvironmentRecipe
    python: Path | None = None
    extra: tuple[str, ...] = ()
    again: bool = False


def make_environment(order: EnvironmentOrder, control: Control) -> Environment:
    """Make an environment, or go on where an earlier attempt stopped; pip's own configuration holds.

    Raises BackendUnavailable with the last lines of what failed, StateError while another process makes it, NoSpace.
    """
    folder = environment_path(order.recipe.kind)
    with _only_one(folder):
        if order.again and folder.exists():
            control.report(0.0, "Removing the old one")
            shutil.rmtree(folder)
        (folder / READY_MARK).unlink(missing_ok=True)
        python = interpreter(folder)
        if not python.is_file():
            control.report(0.0, "Making the virtual environment")
            _run([str(order.python or sys.executable), "-m", "venv", "--clear", str(folder)], control, 0.0)
        version = _checked_version(python, control)
        steps = (*order.recipe.steps, *((PipStep(order.extra),) if order.extra else ()))
        for number, step in enumerate(steps):
            alone = ["--no-deps"] if step.alone else []
            fraction = 0.05 + 0.9 * number / len(steps)
            _run([*_pip(python), "install", "--progress-bar", "off", *alone, *step.requirements], control, fraction)
        _write_stand_ins(order.recipe, python, control)
        control.report(0.95, "Trying what was installed")
        _run([str(python), "-I", "-c", f"import {', '.join(order.recipe.modules)}"], control, 0.95)
        _mark(folder, order.recipe, version, _packages(python, control))
    control.report(1.0, "Ready")
    return Environment.named(order.recipe.kind)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Refuse a second process that makes the same environment."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / f"{folder.name}.lock").open("w")
    except OSError as error:
        raise StorageFailed(f"the folder cannot be written to ({error.strerror})", source=str(folder.parent)) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateError("another process is making this environment", source=folder.name) from error
        yield


def _checked_version(python: Path, control: Control) -> str:
    """Return the version of an interpreter; BackendUnavailable where it is too old for what runs in it."""
    version = _run([str(python), "-I", "-c", "import platform; print(platform.python_version())"], control, 0.05)[-1]
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        raise BackendUnavailable(
            f"Python {version} is too old: {least} or a newer one is needed",
            source=str(python),
            remedy="Name another with --python, and add --again.",
        )
    return version


def _pip(python: Path) -> list[str]:
    return [str(python), "-I", "-m", "pip", "--no-input", "--disable-pip-version-check"]


def _write_stand_ins(recipe: EnvironmentRecipe, python: Path, control: Control) -> None:
    """Write the stand-ins whose packages are not installed."""
    if not recipe.stand_ins:
        return
    packages = Path(
        _run([str(python), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], control)[-1]
    )
    present = {name for name in recipe.stand_ins if (packages / name.split("/", maxsplit=1)[0]).is_dir()}
    for name, text in recipe.stand_ins.items():
        if name not in present:
            (packages / name).parent.mkdir(parents=True, exist_ok=True)
            (packages / name).write_text(text)


_LISTING = (
    "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions() if d.name}))"
)


def _packages(python: Path, control: Control) -> dict[str, str]:
    """Return what is installed, by name."""
    packages: dict[str, str] = json.loads(_run([str(python), "-I", "-c", _LISTING], control, 0.98)[-1])
    return packages


def _mark(folder: Path, recipe: EnvironmentRecipe, python: str, packages: Mapping[str, str]) -> None:
    """Say that an environment is complete."""
    text = json.dumps({"recipe": recipe.digest, "python": python, "packages": packages}, indent=1)
    partial = folder / f"{READY_MARK}.partial"
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / READY_MARK)


def _run(command: list[str], control: Control, fraction: float = 0.0) -> list[str]:
    """Run a program and return the last lines of what it printed; raises BackendUnavailable, NoSpace, Cancelled."""
    try:
        process = subprocess.Popen(  # noqa: S603  an interpreter that the administrator named, with words of ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_variables(),
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise BackendUnavailable(f"it cannot be run ({error.strerror})", source=command[0]) from error
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        for line in cast("IO[str]", process.stdout):
            if text := line.strip():
                lines.append(text)
                control.report(fraction, text[:_MOST_LETTERS])
            control.check()
        code = process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        cast("IO[str]", process.stdout).close()
    if code:
        raise _failed(lines, code)
    return list(lines) or [""]


def _failed(lines: deque[str], code: int) -> BackendUnavailable | NoSpace:
    """Return why a program failed, with the lines that say so."""
    if any(_PIP_FULL in line.lower() for line in lines):
        return NoSpace("there is no space left for the environment", remedy="Free some, then run it again.")
    told = [line for line in lines if line.startswith(("ERROR", "error:"))] or list(lines)
    said = " / ".join(line[:_MOST_LETTERS] for line in told[-_TOLD_LINES:]) or f"exit code {code}"
    return BackendUnavailable(
        f"the environment could not be made: {said}",
        remedy="Run it again when that is mended: it goes on where it stopped. "
        "pip's own configuration says where packages come from.",
    )


def _variables() -> dict[str, str]:
    """Return the variables for pip: its own configuration holds, ours and our interpreter's do not."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("ANNOTATE_", "PYTHON", "VIRTUAL_ENV"))
    }
