"""Files that are there whole or not at all."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from annotate_server.domain.errors import NoSpace, StorageFailed

PART_PREFIX = ".part-"
"""How the temporary names begin: what a killed process may leave behind, and nobody takes for a result."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a temporary name beside `target`; what was written there becomes `target` whole, or nothing does.

    The temporary name ends as the target's does, since some writers go by the suffix. On a clean exit the file is
    synced, renamed over `target`, and the folder is synced. On an exception the temporary file is removed and `target`
    is as it was. Missing folders are made, and are on the disk too. Raises NoSpace, or StorageFailed where the disk
    refuses otherwise.
    """
    with refused_by_disk(target):
        make_folder(target.parent)
        with part_file(target.parent, target.name) as temporary:
            yield temporary
            settle(temporary, target)


@contextmanager
def part_file(folder: Path, name: str = "") -> Iterator[Path]:
    """Give a temporary file in `folder` that is removed at the end, unless it was given another name."""
    handle, made = tempfile.mkstemp(prefix=PART_PREFIX, suffix=f"-{name[-40:]}", dir=folder)
    os.close(handle)
    temporary = Path(made)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def settle(temporary: Path, target: Path) -> None:
    """Give a finished file its name: sync it, rename it, sync the folder, in this order."""
    _sync(temporary, os.O_RDWR)
    temporary.chmod(0o644)
    temporary.replace(target)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; each new one's entry is on the disk when this returns."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Bring the entries of a folder to the disk."""
    _sync(folder, os.O_RDONLY)


@contextmanager
def refused_by_disk(target: Path) -> Iterator[None]:
    """Turn what the operating system says into NoSpace or StorageFailed about `target`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoSpace("the disk is full", source=str(target), remedy="Free space on it and try again.") from error
        raise StorageFailed(
            f"it could not be written ({error.strerror or error})", source=str(target), remedy="Free space or rights."
        ) from error


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 (hex) of a file's bytes; None where there is no such file."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
