"""Where the frames of a DICOM file lie, found without decoding one."""

import struct
from collections.abc import Sequence
from typing import BinaryIO

from pydicom.dataset import Dataset

from annotate_server.domain.errors import UnreadableFile
from annotate_server.imaging.dicom_instances import FramePlaces, Ranges
from annotate_server.imaging.dicom_values import count

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_ITEM, _UNDEFINED = (0xFFFE, 0xE000), 0xFFFFFFFF


def frame_places(file: BinaryIO, dataset: Dataset, frames: int, *, is_implicit: bool, size_bytes: int) -> FramePlaces:
    """Return where the frames lie in a little-endian file that stands before its voxels.

    Raises UnreadableFile where the file ends within them.
    """
    if file.read(4) != _PIXEL_DATA:
        return FramePlaces()
    head = file.read(4 if is_implicit else 8)
    length = int.from_bytes(head[-4:], "little")
    if length == _UNDEFINED:
        return FramePlaces(ranges=_compressed(file, frames, size_bytes))
    bits = count(dataset, "Rows") * count(dataset, "Columns") * (count(dataset, "SamplesPerPixel") or 1)
    bits *= count(dataset, "BitsAllocated") or 16
    start = file.tell()
    if bits % 8 or frames * (bits // 8) > min(length, size_bytes - start):
        return FramePlaces()
    return FramePlaces(start, bits // 8)


def _compressed(file: BinaryIO, frames: int, size_bytes: int) -> tuple[Ranges, ...]:
    """Return the fragments of each frame (PS3.5 A.4); none where neither their number nor a table tells."""
    items = _items(file, size_bytes)
    table, fragments = items[0], items[1:]
    if frames == 1:
        return (tuple(fragments),)
    if len(fragments) == frames:
        return tuple((fragment,) for fragment in fragments)
    return _by_table(file, table, fragments, frames)


def _items(file: BinaryIO, size_bytes: int) -> list[tuple[int, int]]:
    """Return offset and length of the values of all items: the table of offsets, then the fragments."""
    items: list[tuple[int, int]] = []
    while len(head := file.read(8)) == 8:
        group, number, length = struct.unpack("<HHI", head)
        if (group, number) != _ITEM:
            break
        start = file.tell()
        if length > size_bytes - start:
            raise UnreadableFile("its compressed voxels end within a fragment: the file was cut off")
        items.append((start, length))
        file.seek(length, 1)
    if len(items) < 2:
        raise UnreadableFile("it holds no compressed voxels")
    return items


def _by_table(
    file: BinaryIO, table: tuple[int, int], fragments: Sequence[tuple[int, int]], frames: int
) -> tuple[Ranges, ...]:
    """Return the fragments by the basic offset table, which counts from the first fragment's item."""
    start, length = table
    if length != 4 * frames:
        return ()
    file.seek(start)
    begins = struct.unpack(f"<{frames}I", file.read(length))
    first = fragments[0][0] - 8
    places = {offset - 8 - first: number for number, (offset, _) in enumerate(fragments)}
    numbers = [places.get(begin, -1) for begin in begins]
    if numbers[0] != 0 or numbers != sorted(set(numbers)):
        return ()
    ends = (*numbers[1:], len(fragments))
    return tuple(tuple(fragments[a:b]) for a, b in zip(numbers, ends, strict=True))
