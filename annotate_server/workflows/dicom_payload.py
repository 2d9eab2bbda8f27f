"""What is sent of an instance: bytes, or parts of a file that are read while they are sent."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from annotate_server.domain.errors import TryLater
from annotate_server.imaging.dicom_instances import FileInstance, Ranges

_STEP = 1 << 18


@dataclass(frozen=True)
class Payload:
    """One part of an answer in a transfer syntax: `content`, or where it is None the `ranges` of a file."""

    syntax: str
    content: bytes | memoryview | None = None
    instance: FileInstance | None = None
    ranges: Ranges = ()

    @property
    def size_bytes(self) -> int:
        """Return how many bytes it is."""
        return len(self.content) if self.content is not None else sum(length for _, length in self.ranges)

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes; raises TryLater where the file is no longer the one that was described."""
        if self.content is not None:
            yield bytes(self.content)
        elif self.instance is not None:
            yield from _read(self.instance, self.ranges)


def _read(instance: FileInstance, ranges: Ranges) -> Iterator[bytes]:
    try:
        file = instance.path.open("rb")
    except OSError as error:
        raise changed(instance) from error
    with file:
        facts = os.fstat(file.fileno())
        if (facts.st_size, facts.st_mtime_ns) != (instance.size_bytes, instance.mtime_ns):
            raise changed(instance)
        for start, length in ranges:
            file.seek(start)
            left = length
            while left and (part := file.read(min(left, _STEP))):
                left -= len(part)
                yield part


def changed(instance: FileInstance) -> TryLater:
    """Return the error for a file that is not what it was."""
    return TryLater("the file has changed since it was looked into", source=instance.path.name)
