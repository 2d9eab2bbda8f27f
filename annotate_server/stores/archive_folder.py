"""Instances of an archive as files: a folder a series, bounded in size, and always to be fetched again."""

import os
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from annotate_server.imaging.whole_file import PART_PREFIX, make_folder, refused_by_disk, sync_folder

_LEAST_KEPT_S = 120.0
"""A series that was used so lately is kept whatever its size: a worker may be about to read it."""


class ArchiveFolder:
    """Series below one folder, used from several threads; the ones that were used longest ago go first."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Make the folder, readable by its owner only: the files name patients."""
        self.folder = folder
        self.most_bytes = most_bytes
        self._turn = threading.Lock()
        self._held: Counter[str] = Counter()
        self._fetching: dict[str, threading.Lock] = {}
        with refused_by_disk(folder):
            make_folder(folder)
            folder.chmod(0o700)
        for left in folder.glob(f"{PART_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def held(self, name: str) -> Iterator[Path]:
        """Give the folder of a series, whether it is there or not, and keep it for the block."""
        with self._turn:
            self._held[name] += 1
        try:
            with suppress(OSError):
                os.utime(self.folder / name)
            yield self.folder / name
        finally:
            with self._turn:
                self._held[name] -= 1
                if not self._held[name]:
                    del self._held[name]

    def turn(self, name: str) -> threading.Lock:
        """Return what only one thread holds at a time that fetches a series."""
        with self._turn:
            return self._fetching.setdefault(name, threading.Lock())

    @contextmanager
    def made(self, name: str) -> Iterator[Path]:
        """Give an empty folder; on a clean exit it takes the place of the series' folder, else nothing of it stays."""
        part = self.folder / f"{PART_PREFIX}{secrets.token_hex(8)}"
        target = self.folder / name
        with refused_by_disk(target):
            try:
                part.mkdir()
                yield part
                sync_folder(part)
                if target.exists():
                    target.rename(self.folder / f"{part.name}-old")
                part.rename(target)
                sync_folder(self.folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
                shutil.rmtree(self.folder / f"{part.name}-old", ignore_errors=True)
        self._make_room(name)

    def _make_room(self, newest: str) -> None:
        """Remove series until the rest is within the bound; neither one that is held nor one that was just used."""
        kept = []
        for each in self.folder.iterdir():
            with suppress(FileNotFoundError):
                size = sum(file.stat().st_size for file in each.iterdir())
                kept.append((each.stat().st_mtime, size, each))
        excess = sum(size for _, size, _ in kept) - self.most_bytes
        for used, size, each in sorted(kept):
            if excess <= 0:
                break
            is_fresh = time.time() - used < _LEAST_KEPT_S
            with self._turn:
                if each.name == newest or self._held[each.name] or is_fresh or each.name.startswith(PART_PREFIX):
                    continue
                gone = each.rename(each.with_name(f"{PART_PREFIX}{secrets.token_hex(8)}"))
            shutil.rmtree(gone, ignore_errors=True)
            excess -= size
