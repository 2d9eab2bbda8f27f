"""A copy of a workspace, consistent while the server works on it."""

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from annotate_server.domain.errors import StateError, StorageFailed
from annotate_server.domain.ports import Control
from annotate_server.imaging.whole_file import PART_PREFIX, make_folder, refused_by_disk, whole_file
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.database import FILE_NAME, copy_database, open_database
from annotate_server.stores.workspace_check import named_blobs

BLOBS_NAME = "blobs"
_NOBODY_ASKED = Control()


@dataclass(frozen=True)
class Contents:
    """What belongs to a backup beside the database and its blobs.

    `weights` are digests of installed weights; `folders` are names of folders of the workspace whose files are written
    once, such as uploaded studies and apps.
    """

    weights: Collection[str] = ()
    folders: Collection[str] = ()


@dataclass(frozen=True)
class Copied:
    """What a backup holds."""

    blobs: int
    files: int
    size_bytes: int


def back_up(workspace: Path, target: Path, contents: Contents, control: Control = _NOBODY_ASKED) -> Copied:
    """Copy a workspace that may be in use into an empty folder, every blob verified on the way.

    The database comes first: whatever it names is there by then, since a blob is on the disk before its row is.
    Raises StateError where the folder is not empty, StorageFailed where something is damaged, NoSpace.
    """
    _must_be_empty(target)
    control.report(0.0, "Copying the database")
    copy_database(workspace / FILE_NAME, target / FILE_NAME)
    source, copy = BlobFolder(workspace / BLOBS_NAME), BlobFolder(target / BLOBS_NAME)
    names = [*_named(target / FILE_NAME), *(digest for digest in contents.weights if source.path(digest).is_file())]
    files = [file for folder in contents.folders for file in _files(workspace / folder)]
    size, total = 0, len(names) + len(files)
    for position, digest in enumerate(names):
        control.check()
        control.report(position / total, f"Copying blob {position + 1} of {len(names)}")
        size += _copy_blob(source, copy, digest)
    for position, file in enumerate(files, len(names)):
        control.check()
        control.report(position / total, f"Copying file {position + 1 - len(names)} of {len(files)}")
        with whole_file(target / file.relative_to(workspace)) as temporary:
            shutil.copyfile(file, temporary)
        size += file.stat().st_size
    control.report(1.0, "Copied")
    return Copied(len(names), len(files), size)


def _copy_blob(source: BlobFolder, copy: BlobFolder, digest: str) -> int:
    path = source.path(digest)
    if not path.is_file():
        raise StorageFailed("the blob is gone", source=digest, remedy="Run `annotate workspace check`.")
    return copy.add(path, digest).stat().st_size


def _named(path: Path) -> list[str]:
    """Return the blobs that the copied database names."""
    database = open_database(path)
    try:
        with database.reading() as connection:
            return list(named_blobs(connection))
    finally:
        database.close()


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (Path(root, name) for name in sorted(names) if not name.startswith(PART_PREFIX))


def _must_be_empty(target: Path) -> None:
    with refused_by_disk(target):
        make_folder(target)
        if any(target.iterdir()):
            raise StateError("the folder is not empty", source=str(target), remedy="Name a new one.")
