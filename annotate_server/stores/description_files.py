"""What was found out about DICOM series, as files: bounded, readable by the owner only, always to be made again."""

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path

from annotate_server.imaging.whole_file import PART_PREFIX

log = logging.getLogger(__name__)
_EVERY = 64
"""Files that are written between two looks at how much there is."""


class DescriptionFiles:
    """Fulfils `dicom_series.Descriptions` below a folder; what was used longest ago goes first.

    The files name patients, as the series do.
    """

    def __init__(self, folder: Path, most_bytes: int = 1 << 30) -> None:
        """Make the folder where it is not there."""
        self._folder = folder
        self._most_bytes = most_bytes
        self._written = 0
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        for left in folder.glob(f"{PART_PREFIX}*"):
            left.unlink(missing_ok=True)

    def get(self, key: str) -> bytes | None:
        """Return what was kept under a key, whole; None where it is not there or damaged."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        digest, text = content[:32], content[32:]
        return text if hashlib.sha256(text).digest() == digest else None

    def put(self, key: str, content: bytes) -> None:
        """Keep something under a key; a disk that refuses costs no more than making it again."""
        path = self._path(key)
        temporary = path.with_name(f"{PART_PREFIX}{os.urandom(6).hex()}")
        try:
            with open(temporary, "xb", opener=_for_owner) as file:
                file.write(hashlib.sha256(content).digest() + content)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            log.warning("a description could not be kept: %s", error.strerror, extra={"action": "describe"})
            return
        self._written += 1
        if self._written % _EVERY == 1:
            self._make_room()

    def _path(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()

    def _make_room(self) -> None:
        entries = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                facts = path.stat()
                entries.append((facts.st_mtime, facts.st_size, path))
        excess = sum(size for _, size, _ in entries) - self._most_bytes
        for _, size, path in sorted(entries):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
