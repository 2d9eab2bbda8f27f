"""Private folders of running apps: they go with the process that made them, or with the next one if that was killed.

A volume lies in one as a file while a question is answered, so that none may stay.
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

_PREFIX = "annotate-app-"
_LOCK = "lock"


@dataclass(frozen=True)
class PrivatePlace:
    """A folder that nobody else may read, locked as long as its process lives."""

    folder: Path
    _directory: "TemporaryDirectory[str]"
    _lock: IO[str]

    @classmethod
    def made(cls) -> "PrivatePlace":
        """Make a folder, and remove those whose processes were killed."""
        _sweep(Path(tempfile.gettempdir()))
        directory = TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
        lock = (Path(directory.name) / _LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return cls(Path(directory.name), directory, lock)

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        self._directory.cleanup()
        self._lock.close()


def _sweep(shared: Path) -> None:
    """Remove the folders of ours that nobody locks any more; one without a lock is only just being made."""
    for folder in shared.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
