"""Content-addressed files: a blob's name is its SHA-256, so it can be neither overwritten nor silently changed."""

import hashlib
from pathlib import Path

from annotate_server.domain.errors import StorageFailed
from annotate_server.imaging.whole_file import digest_of, whole_file

_CHUNK_BYTES = 1 << 20


class BlobFolder:
    """Blobs below one folder, as `ab/abcdef…`.

    A blob is there whole or not at all: it is written under a temporary name, synced, renamed, and the folder is
    synced, in this order, before `add` returns.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`; it is made when the first blob comes."""
        self._folder = folder

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

    def add(self, source: Path, sha256: str) -> Path:
        """Copy a file in, verify it against its digest on the way, and return where it lies."""
        target = self.path(sha256)
        with whole_file(target) as temporary, source.open("rb") as reading, temporary.open("wb") as writing:
            state = hashlib.sha256()
            while chunk := reading.read(_CHUNK_BYTES):
                state.update(chunk)
                writing.write(chunk)
            if state.hexdigest() != sha256:
                raise StorageFailed("the file changed while it was copied", source=str(source))
        return target
