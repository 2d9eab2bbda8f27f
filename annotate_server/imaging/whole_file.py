"""Files that are there whole or not at all."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from annotate_server.domain.errors import StorageFailed

PART_PREFIX = ".part-"
"""How the temporary names begin: what a killed process may leave behind, and nobody takes for a result."""


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a temporary name beside `target`; what was written there becomes `target` whole, or nothing does.

    The temporary name ends as the target's does, since some writers go by the suffix. On a clean exit the file is
    synced, renamed over `target`, and the folder is synced. On an exception the temporary file is removed and `target`
    is as it was. Missing folders are made. Raises StorageFailed where the disk refuses.
    """
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=PART_PREFIX, suffix=f"-{target.name[-40:]}", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary, os.O_RDWR)
        temporary.chmod(0o644)
        temporary.replace(target)
        _sync(target.parent, os.O_RDONLY)
    except OSError as error:
        raise StorageFailed(
            f"it could not be written ({error.strerror or error})", source=str(target), remedy="Free space or rights."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


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
