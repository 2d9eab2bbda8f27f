"""Walk through the bytes of a DICOM data set without a parser: no recursion, no allocation, no value believed.

Rules of DICOM PS3.5 section 7. A defined-length item or sequence that contradicts itself is left where it claims to
end, as every reader does; what contradicts the file as a whole raises UnreadableFile.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import mmap

from annotate_server.domain.errors import TooLarge, UnreadableFile

MAX_DEPTH = 32
"""Objects in use nest below ten deep; DCMTK refuses above 64; parsers that recurse crash from some fifty on."""
MAX_ELEMENTS = 1_000_000
"""A multi-frame object of 5,000 frames has half a million; the walk takes 4 s for this many."""

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
VOXEL_TAGS = {(0x7FE0, 0x0008), (0x7FE0, 0x0009), (0x7FE0, 0x0010)}
_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}

Tag = tuple[int, int]
Bytes = mmap | bytes | bytearray


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are written: with or without their value representation, and the order of bytes."""

    is_implicit: bool = False
    is_big_endian: bool = False

    @property
    def order(self) -> str:
        """Return the prefix for `struct`."""
        return ">" if self.is_big_endian else "<"


@dataclass(frozen=True, slots=True)
class Element:
    """One element of the outermost data set.

    `vr` is empty where it is not written. `start` and `length` are those of the value; `fragments` counts compressed
    frames (or parts of them).
    """

    tag: Tag
    vr: bytes
    start: int
    length: int
    fragments: int = 0


@dataclass(slots=True)
class _Level:
    """A sequence or item that the walk is in; `end` is where it must stop, `is_open` that a delimiter ends it."""

    end: int
    is_open: bool
    is_implicit: bool
    is_sequence: bool = False


class _Contradiction(Exception):
    """A length or tag that cannot be."""


@dataclass
class Walk:
    """A walk through a data set in `content` from `position`; iterate over it once for the outermost elements.

    With `group` it stops before the first outermost element of another group; `position` is then where that begins.
    """

    content: Bytes
    position: int
    encoding: Encoding
    group: int | None = None
    _levels: list[_Level] = field(default_factory=list, init=False)

    def __iter__(self) -> Iterator[Element]:
        """Yield the outermost elements in order; raises UnreadableFile or TooLarge."""
        size = len(self.content)
        self._levels = [_Level(size, is_open=False, is_implicit=self.encoding.is_implicit)]
        for _ in range(MAX_ELEMENTS):
            self._leave_ended()
            if self.position >= size or self._is_elsewhere() or self._is_padding():
                break
            try:
                element = self._step()
            except _Contradiction as contradiction:
                self._recover(str(contradiction))
                continue
            if element is not None and len(self._levels) == 1:
                yield element
        else:
            raise TooLarge(f"it holds more than {MAX_ELEMENTS} elements")
        if any(level.is_open for level in self._levels):
            raise UnreadableFile("it ends within a sequence: the file was cut off")

    def _leave_ended(self) -> None:
        """Leave the levels that end by their length."""
        while len(self._levels) > 1 and not self._levels[-1].is_open and self.position >= self._levels[-1].end:
            self._levels.pop()

    def _is_elsewhere(self) -> bool:
        """Say whether the group that was asked for ends here."""
        if self.group is None or len(self._levels) > 1:
            return False
        return self.content[self.position : self.position + 2] != struct.pack(self.encoding.order + "H", self.group)

    def _is_padding(self) -> bool:
        """Say whether nothing but zeros follows."""
        if len(self._levels) > 1 or any(self.content[self.position : self.position + 8]):
            return False
        return not self.content[self.position :].strip(b"\0")

    def _recover(self, contradiction: str) -> None:
        """Go on behind the innermost level whose end is known, or give up."""
        while len(self._levels) > 1:
            level = self._levels.pop()
            if not level.is_open:
                self.position = level.end
                return
        raise UnreadableFile(contradiction)

    def _step(self) -> Element | None:
        """Go past one element, or into it if it holds others; return it if it has a value of its own."""
        tag, vr, length = self._header()
        if tag in (ITEM_END, SEQUENCE_END):
            self._close(tag)
            return None
        level = self._levels[-1]
        if tag == ITEM:
            self._open(length, is_implicit=level.is_implicit)
            return None
        start = self.position
        if length == UNDEFINED and tag in VOXEL_TAGS:
            fragments = self._past_fragments(level.end)
            return Element(tag, vr, start, self.position - start, fragments)
        if vr == b"SQ" or length == UNDEFINED or (not vr and self._looks_like_items(length, level.end)):
            self._open(length, is_implicit=level.is_implicit or vr == b"UN", is_sequence=True)
            return None
        if length > level.end - start:
            raise _Contradiction(
                f"the element ({tag[0]:04X},{tag[1]:04X}) claims {length} bytes and {level.end - start} follow: "
                "the file was cut off or damaged"
            )
        self.position = start + length
        return Element(tag, vr, start, length)

    def _header(self) -> tuple[Tag, bytes, int]:
        """Read a tag, its value representation ("" where it is not written) and length; go to the value."""
        level, order = self._levels[-1], self.encoding.order
        if level.end - self.position < 8:
            raise _Contradiction("it ends within an element: the file was cut off")
        group, number = struct.unpack_from(order + "HH", self.content, self.position)
        vr = bytes(self.content[self.position + 4 : self.position + 6])
        if group == ITEM[0] or level.is_implicit or not _is_vr(vr):
            (length,) = struct.unpack_from(order + "I", self.content, self.position + 4)
            self.position += 8
            return (group, number), b"", length
        if vr not in _LONG_VRS:
            (length,) = struct.unpack_from(order + "H", self.content, self.position + 6)
            self.position += 8
            return (group, number), vr, length
        if level.end - self.position < 12:
            raise _Contradiction("it ends within an element: the file was cut off")
        (length,) = struct.unpack_from(order + "I", self.content, self.position + 8)
        self.position += 12
        return (group, number), vr, length

    def _open(self, length: int, *, is_implicit: bool, is_sequence: bool = False) -> None:
        """Go into a sequence or item."""
        outer, is_open = self._levels[-1], length == UNDEFINED
        end = outer.end if is_open else self.position + length
        if end > outer.end:
            raise _Contradiction(f"a sequence claims {length} bytes and {outer.end - self.position} follow")
        self._levels.append(_Level(end, is_open, is_implicit, is_sequence))
        if sum(level.is_sequence for level in self._levels) > MAX_DEPTH:
            raise TooLarge(f"its sequences are nested deeper than {MAX_DEPTH} levels")

    def _close(self, tag: Tag) -> None:
        """Leave the innermost level that a delimiter ends; one that ends nothing is passed over."""
        level = self._levels[-1]
        if level.is_open and level.is_sequence == (tag == SEQUENCE_END):
            self._levels.pop()

    def _looks_like_items(self, length: int, end: int) -> bool:
        """Say whether a value without a value representation can be a sequence of defined length."""
        if not 8 <= length <= end - self.position:
            return False
        group, number, first = struct.unpack_from(self.encoding.order + "HHI", self.content, self.position)
        return (group, number) == ITEM and (first == UNDEFINED or first <= length - 8)

    def _past_fragments(self, end: int) -> int:
        """Go past encapsulated voxels and return how many fragments there are after the offset table."""
        count = -1
        while end - self.position >= 8:
            group, number, length = struct.unpack_from(self.encoding.order + "HHI", self.content, self.position)
            self.position += 8
            if (group, number) == SEQUENCE_END:
                return max(0, count)
            if (group, number) != ITEM or length > end - self.position:
                break
            self.position += length
            count += 1
        raise UnreadableFile("its compressed voxels end within a fragment: the file was cut off")


def _is_vr(vr: bytes) -> bool:
    """Say whether two bytes can be a value representation."""
    return vr.isalpha() and vr.isupper()
