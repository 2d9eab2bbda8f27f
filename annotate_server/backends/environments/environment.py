"""Where the environments of backends lie: `<folder>/<kind>/bin/python`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import platformdirs

from annotate_server.domain.errors import BackendUnavailable

READY_MARK = "annotate-environment.json"
"""Written into an environment when everything in it is installed."""
_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass
class _Place:
    folder: Path | None = None


_place = _Place()


def use_folder(folder: Path) -> None:
    """Look for environments in `folder` from now on, in this process; `bootstrap` says it once."""
    _place.folder = folder.absolute()


def environments_folder() -> Path:
    """Return the folder of the environments."""
    return _place.folder or Path(platformdirs.user_data_dir("annotate-server", appauthor=False)) / "environments"


@runtime_checkable
class RunsElsewhere(Protocol):
    """A backend whose models need an environment of this kind."""

    environment: str


@dataclass(frozen=True)
class Environment:
    """An interpreter with the libraries of one kind of backend."""

    kind: str
    python: Path

    @classmethod
    def named(cls, kind: str) -> "Environment":
        """Return the environment of a kind; raises BackendUnavailable with the command that makes it."""
        folder = environment_path(kind)
        python = interpreter(folder)
        if not python.is_file() or not (folder / READY_MARK).is_file():
            state = "is not finished" if folder.is_dir() else "has not been made yet"
            raise BackendUnavailable(
                f"the environment {kind} {state}", remedy=f"Run: annotate models env {kind}", source=str(folder)
            )
        return cls(kind, python)


def environment_path(kind: str) -> Path:
    """Return the folder that an environment of this kind has or would have."""
    if not _KIND.fullmatch(kind):
        raise BackendUnavailable(f"{kind!r} is no name of an environment")
    return environments_folder() / kind


def interpreter(folder: Path) -> Path:
    """Return where the interpreter of a virtual environment lies."""
    return folder / "bin" / "python"
