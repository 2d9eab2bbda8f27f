"""Archives (ZIP) that are sent while they are made: nothing of them is kept, in memory or on the disk."""

import io
import zipfile
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

_AT = (1980, 1, 1, 0, 0, 0)
"""The moment of every entry: the same content gives the same archive."""


class _Sink(io.RawIOBase):
    """Takes what an archive writes until it is fetched; cannot be rewound, which the archive then does without."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._waiting: list[bytes] = []

    def writable(self) -> bool:
        """Say that it takes bytes."""
        return True

    def write(self, content: "Buffer", /) -> int:
        """Take bytes."""
        taken = bytes(content)
        self._waiting.append(taken)
        return len(taken)

    def taken(self) -> bytes:
        """Return what has come since the last call."""
        content = b"".join(self._waiting)
        self._waiting.clear()
        return content


def zipped(entries: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    """Yield an archive of entries, each a name and its content in parts; not compressed."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, parts in entries:
            with archive.open(zipfile.ZipInfo(name, _AT), "w", force_zip64=True) as entry:
                for part in parts:
                    entry.write(part)
                    yield sink.taken()
            yield sink.taken()
    yield sink.taken()
