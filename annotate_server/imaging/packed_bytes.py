"""The bytes of a volume file, plain or compressed, read forwards and never further than was asked for."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import UnreadableFile

SLACK_BYTES = 4096
"""What may follow the voxels that a header promises, if it is less than a slice: writers pad to a block."""
MAX_SKIPPED_BYTES = 64 << 20
"""What may lie between header and voxels where it has to be inflated to be passed over."""
_CHUNK = 1 << 18
EXPORT_AGAIN = "Copy or export it again from where it came."
GZIP_MAGIC = b"\x1f\x8b"
_GZIP, _ANY = zlib.MAX_WBITS + 16, zlib.MAX_WBITS + 32


@dataclass
class PackedBytes:
    """A source of bytes; `is_packed` says that they are compressed (gzip, of one or several members, or zlib)."""

    file: BinaryIO
    is_packed: bool
    _inflater: "zlib._Decompress" = field(default_factory=lambda: zlib.decompressobj(_ANY), init=False)
    _waiting: bytes = field(default=b"", init=False)
    taken: int = field(default=0, init=False)

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer at the end; raises UnreadableFile for damaged compression."""
        target = bytearray(count)
        return bytes(target[: self.take_into(memoryview(target))])

    def take_into(self, target: memoryview) -> int:
        """Fill a buffer as far as there are bytes and return how many there were."""
        filled = 0
        while filled < len(target):
            part = self._next(min(len(target) - filled, _CHUNK))
            if not part:
                break
            target[filled : filled + len(part)] = part
            filled += len(part)
            self.taken += len(part)
        return filled

    def skip_to(self, offset: int) -> None:
        """Go forwards to a position; raises UnreadableFile where the file ends before or it is out of reason."""
        if self.is_packed and offset > MAX_SKIPPED_BYTES:
            raise UnreadableFile(f"its header lets the voxels begin at byte {offset}", remedy=EXPORT_AGAIN)
        while self.taken < offset:
            if not self.take(min(offset - self.taken, _CHUNK)):
                raise UnreadableFile(f"it ends before its voxels begin, at byte {offset}", remedy=EXPORT_AGAIN)

    def take_array(self, count: int, dtype: np.dtype[np.generic], slack_bytes: int) -> NDArray[np.generic]:
        """Return the next `count` numbers and demand that no more than `slack_bytes` follow them.

        Raises UnreadableFile where there are fewer, where more follows, or where the compression is damaged.
        """
        array = np.empty(count, dtype)
        found = self.take_into(array.view(np.uint8).data)
        if found < array.nbytes:
            raise UnreadableFile(
                f"its header promises {array.nbytes} bytes of voxels and {found} are there: the file was cut off",
                remedy=EXPORT_AGAIN,
            )
        if len(self.take(slack_bytes + 1)) > slack_bytes:
            raise UnreadableFile(
                f"more follows than the {array.nbytes} bytes of voxels that its header promises", remedy=EXPORT_AGAIN
            )
        return array

    def _next(self, most: int) -> bytes:
        """Return at most `most` further bytes, none at the end."""
        if not self.is_packed:
            return self.file.read(most)
        try:
            return self._inflated(most)
        except zlib.error as error:
            raise UnreadableFile(
                f"its compressed bytes are damaged after {self.taken} bytes", remedy=EXPORT_AGAIN
            ) from error

    def _inflated(self, most: int) -> bytes:
        """Return at most `most` inflated bytes; a member that ends early is a cut-off file."""
        while True:
            if self._inflater.eof:
                self._waiting = self._inflater.unused_data or self.file.read(_CHUNK)
                if not self._waiting.startswith(GZIP_MAGIC):
                    return b""
                self._inflater = zlib.decompressobj(_GZIP)
            elif not self._waiting:
                self._waiting = self.file.read(_CHUNK)
            ended = not self._waiting
            part = self._inflater.decompress(self._waiting, most)
            self._waiting = self._inflater.unconsumed_tail
            if part:
                return part
            if ended and not self._inflater.eof:
                raise UnreadableFile(
                    f"its compressed bytes end after {self.taken} bytes: it was cut off", remedy=EXPORT_AGAIN
                )


@contextmanager
def opened(path: Path, offset: int = 0, *, is_packed: bool | None = None) -> Iterator[PackedBytes]:
    """Give the bytes of a file from `offset` on; whether they are compressed is seen by their first two if not told."""
    check_plain(path)
    try:
        with path.open("rb") as file:
            file.seek(offset)
            if is_packed is None:
                is_packed = file.read(2) == GZIP_MAGIC
                file.seek(offset)
            yield PackedBytes(file, is_packed)
    except OSError as error:
        raise UnreadableFile(f"it cannot be read ({os.strerror(error.errno or 0)})", source=path.name) from error


def check_plain(path: Path) -> None:
    """Refuse what is no plain file: opening a pipe or a device can wait for ever; raises UnreadableFile."""
    try:
        if not S_ISREG(path.stat().st_mode):
            raise UnreadableFile("it is no plain file", source=path.name)
    except OSError as error:
        raise UnreadableFile(f"it cannot be read ({os.strerror(error.errno or 0)})", source=path.name) from error
