"""Content-addressed files: a blob's name is its SHA-256, so it can be neither overwritten nor silently changed."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from annotate_server.domain.errors import StorageFailed
from annotate_server.imaging.whole_file import (
    PART_PREFIX,
    digest_of,
    make_folder,
    part_file,
    refused_by_disk,
    settle,
    sync_folder,
    whole_file,
)

_CHUNK_BYTES = 1 << 20


class BlobInTheMaking:
    """Fulfils `store_ports.AddedBlob`: `sha256` is empty until the blob is kept."""

    def __init__(self, path: Path) -> None:
        """Offer `path` to be written at."""
        self.path = path
        self.sha256 = ""


class BlobFolder:
    """Blobs below one folder, as `ab/abcdef…`; fulfils `store_ports.Blobs`.

    A blob is there whole or not at all: it is written under a temporary name, synced, renamed, and the folder is
    synced, in this order, before it counts as added. A blob that is there intact is not written again.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`; it is made when the first blob comes."""
        self._folder = folder
        self._synced: set[Path] = set()
        self._making = threading.Lock()

    def path(self, sha256: str) -> Path:
        """Return where the blob lies or would lie."""
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise StorageFailed(f"{sha256!r} is no SHA-256 digest")
        return self._folder / sha256[:2] / sha256

    def has(self, sha256: str, size_bytes: int) -> bool:
        """Say whether the blob is there with the size that it should have (cheap; `is_intact` reads it)."""
        path = self.path(sha256)
        return path.is_file() and path.stat().st_size == size_bytes

    def is_intact(self, sha256: str) -> bool:
        """Say whether the blob is there and its bytes still have its digest."""
        return digest_of(self.path(sha256)) == sha256

    def read(self, sha256: str) -> bytes:
        """Return the bytes; StorageFailed where they are gone or no longer have their digest."""
        try:
            content = self.path(sha256).read_bytes()
        except OSError as error:
            raise StorageFailed(f"the blob is gone ({error.strerror})", source=sha256, remedy=_REPAIR) from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise StorageFailed("the blob was changed on the disk", source=sha256, remedy=_REPAIR)
        return content

    def add(self, source: Path, sha256: str) -> Path:
        """Copy a file in, verify it against its digest on the way, and return where it lies."""
        target = self.path(sha256)
        if self._is_kept(sha256):
            return target
        with whole_file(target) as temporary, source.open("rb") as reading, temporary.open("wb") as writing:
            state = hashlib.sha256()
            while chunk := reading.read(_CHUNK_BYTES):
                state.update(chunk)
                writing.write(chunk)
            if state.hexdigest() != sha256:
                raise StorageFailed("the file changed while it was copied", source=str(source))
        return target

    def add_bytes(self, content: bytes) -> str:
        """Keep bytes and return their digest; they are on the disk, folder entry included, when this returns."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self._is_kept(sha256):
            with whole_file(self.path(sha256)) as temporary:
                temporary.write_bytes(content)
        return sha256

    @contextmanager
    def adding(self) -> Iterator[BlobInTheMaking]:
        """Give a path to write a file at; on a clean exit it is kept under its digest, which is then in `.sha256`."""
        with refused_by_disk(self._folder):
            make_folder(self._folder)
            with part_file(self._folder) as temporary:
                blob = BlobInTheMaking(temporary)
                yield blob
                sha256 = digest_of(temporary)
                if sha256 is None:
                    raise StorageFailed("what was written is gone", source=str(temporary))
                if not self._is_kept(sha256):
                    settle(temporary, self.path(sha256))
                blob.sha256 = sha256

    def all(self) -> Iterator[str]:
        """Yield the digest of every blob, in no order."""
        for path in self._folder.glob("[0-9a-f][0-9a-f]/*"):
            if len(path.name) == 64 and not set(path.name) - set("0123456789abcdef"):
                yield path.name

    def sweep(self) -> int:
        """Remove what a killed process left half-written and return how many; nobody may be writing meanwhile."""
        leftovers = [*self._folder.glob(f"{PART_PREFIX}*"), *self._folder.glob(f"*/{PART_PREFIX}*")]
        with refused_by_disk(self._folder):
            for leftover in leftovers:
                leftover.unlink(missing_ok=True)
        return len(leftovers)

    def _is_kept(self, sha256: str) -> bool:
        """Say whether the blob is there intact, and make sure that its folder is on the disk either way.

        Whoever renamed it there may have been killed before the folder was synced: seeing it is not enough.
        """
        target = self.path(sha256)
        with refused_by_disk(target):
            self._sync_once(target.parent)
            if not self.is_intact(sha256):
                return False
            sync_folder(target.parent)
            return True

    def _sync_once(self, folder: Path) -> None:
        """Make a folder of blobs; its own entry is synced once a process, even where somebody else made it."""
        with self._making:
            if folder not in self._synced:
                make_folder(folder.parent)
                folder.mkdir(exist_ok=True)
                sync_folder(folder.parent)
                self._synced.add(folder)


_REPAIR = "Run `annotate workspace check` and restore it from a backup."
