"""Volumes that were read before, as files that workers map: by digest, bounded, and always to be made again."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.volume import Acquisition, Modality, Volume
from annotate_server.imaging.whole_file import PART_PREFIX, whole_file
from annotate_server.imaging.wire import Packed, mapped, pack, sendable, unpack

log = logging.getLogger(__name__)

_HEX = frozenset("0123456789abcdef")
_PART_LEFT_S = 3600.0
"""A temporary file older than this was left by a process that was killed."""


@sendable
@dataclass(frozen=True)
class VolumeWords:
    """What the cache keeps of a volume beside its voxels."""

    geometry: Geometry
    modality: Modality | None
    unit: str
    acquisition: Acquisition


class FolderVolumeCache:
    """Fulfils `ports.VolumeCache` below one folder that several processes may use: `<digest>.npy` and `<digest>.json`.

    When more than `most_bytes` are kept, the volumes that were asked for longest ago go, but neither one that a
    process has mapped (the mapping holds a shared lock on its file) nor the newest.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Use `folder`; it is made when the first volume comes."""
        self._folder = folder
        self._most_bytes = most_bytes

    def get(self, digest: str) -> Volume | None:
        """Return the volume, voxels mapped read-only; None where it is not there whole."""
        voxels, words = self._paths(digest)
        try:
            described = unpack(Packed(words.read_bytes()))
            with voxels.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)  # the mapping holds a duplicate of the descriptor, and so the lock
                array = mapped(cast("BinaryIO", file))
            os.utime(voxels)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, LookupError, AnnotateError) as error:
            log.warning("a volume in the cache cannot be used (%s)", type(error).__name__, extra={"digest": digest})
            return None
        if not isinstance(described, VolumeWords):
            return None
        volume = Volume(array, described.geometry, described.modality, described.unit, described.acquisition)
        return volume.known_as(digest)

    def put(self, volume: Volume) -> None:
        """Keep a volume; raises StorageFailed where the disk refuses.

        It is synced although it could be made again: after a power cut, a file that was renamed before its bytes
        reached the disk would hold zeros that nothing tells from voxels.
        """
        voxels, words = self._paths(volume.digest)
        described = VolumeWords(volume.geometry, volume.modality, volume.unit, volume.acquisition)
        if self.get(volume.digest) is None:
            with whole_file(voxels) as temporary, temporary.open("wb") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(volume.voxels), allow_pickle=False)
        with whole_file(words) as temporary:
            temporary.write_bytes(pack(described).text)
        self._make_room(voxels)

    def _paths(self, digest: str) -> tuple[Path, Path]:
        if len(digest) != 64 or not _HEX.issuperset(digest):
            raise ValueError(f"{digest!r} is no SHA-256 digest")
        return self._folder / f"{digest}.npy", self._folder / f"{digest}.json"

    def _make_room(self, newest: Path) -> None:
        """Remove the least recently used volumes, and what killed processes left."""
        kept = sorted(_sizes(self._folder.glob("*.npy")), key=lambda entry: entry[1].st_mtime)
        excess = sum(stat.st_size for _, stat in kept) - self._most_bytes
        for path, stat in kept:
            if excess <= 0:
                break
            if path != newest and _removed(path):
                excess -= stat.st_size
        for path, stat in _sizes(self._folder.glob(f"{PART_PREFIX}*")):
            if time.time() - stat.st_mtime > _PART_LEFT_S:
                path.unlink(missing_ok=True)


def _sizes(paths: Iterator[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files that are there, with what the folder says of them; another process may remove some meanwhile."""
    for path in paths:
        with suppress(FileNotFoundError):
            yield path, path.stat()


def _removed(path: Path) -> bool:
    """Remove a volume unless a process has it mapped, and say whether it is gone."""
    with suppress(FileNotFoundError), _alone(path) as is_alone:
        if is_alone:
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
        return is_alone
    return True


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Say whether nobody else holds a lock on a file, and hold it meanwhile."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
