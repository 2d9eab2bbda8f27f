"""One server a workspace: a lock that the system takes back by itself when its holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from annotate_server.domain.errors import StateError
from annotate_server.imaging.whole_file import make_folder, refused_by_disk

LOCK_NAME = "server.lock"


@contextmanager
def workspace_lock(workspace: Path) -> Iterator[None]:
    """Hold the workspace for this process; StateError where another server has it, and which process that is.

    The file stays when the lock is given back: removing it would let two holders each lock a file of their own.
    """
    path = workspace / LOCK_NAME
    with refused_by_disk(path):
        make_folder(workspace)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        raise StateError(
            f"another server uses this workspace (process {holder})",
            source=str(path.parent),
            remedy="Stop it, or name another workspace.",
        ) from error
    with refused_by_disk(path):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
