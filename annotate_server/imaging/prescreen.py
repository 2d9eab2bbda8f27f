"""Judge the bytes of a DICOM file before a parser sees them: `prescreen_dicom`; and the limits of every format."""

import mmap
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from annotate_server.domain.errors import TooLarge, UnreadableFile, about
from annotate_server.imaging.dicom_walk import VOXEL_TAGS, Bytes, Element, Encoding, Tag, Walk
from annotate_server.imaging.packed_bytes import EXPORT_AGAIN, SLACK_BYTES, check_plain

MAX_VOXELS = 1 << 31
"""512 x 512 x 8,192: more than the longest whole-body CT."""
MAX_RATIO = 64
"""Intensities compress 2 to 10 fold; with an emptied background 50 fold."""
UNSUSPICIOUS_BYTES = 256 << 20
"""What may be inflated whatever the ratio: a small black volume compresses a thousandfold."""

_DEFLATED = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_MAX_DEFLATED_BYTES = 64 << 20

_ROWS, _COLUMNS, _SAMPLES = (0x0028, 0x0010), (0x0028, 0x0011), (0x0028, 0x0002)
_BITS, _FRAMES = (0x0028, 0x0100), (0x0028, 0x0008)
_NAMES = {_ROWS: "Rows", _COLUMNS: "Columns", _SAMPLES: "SamplesPerPixel", _BITS: "BitsAllocated"}


def prescreen_dicom(path: Path) -> None:
    """Refuse a DICOM file that a parser must not see; return for one that it may.

    Raises UnreadableFile (no DICOM, cut off, lengths that lie, voxels that are not there) or TooLarge (nested beyond 32
    levels, voxels beyond the limit, a deflate bomb). Objects without voxels pass: their use is not judged here.
    """
    with about(str(path)), _opened(path) as content:
        start, syntax = _meta(content)
        if syntax == _DEFLATED:
            _judge(_inflated(content, start), 0, syntax)
        else:
            _judge(content, start, syntax)


def check_voxels(shape: tuple[int, ...]) -> int:
    """Return the number of voxels of a declared shape; raises UnreadableFile or TooLarge."""
    count = 1
    for side in shape:
        if side < 1:
            raise UnreadableFile(f"its header declares the size {' x '.join(map(str, shape))}", remedy=EXPORT_AGAIN)
        count *= side
    if count > MAX_VOXELS:
        declared = " x ".join(map(str, shape))
        raise TooLarge(f"its header declares {declared} voxels, above the limit of {MAX_VOXELS}")
    return count


def check_ratio(declared_bytes: int, compressed_bytes: int) -> None:
    """Refuse compressed voxels that would inflate beyond anything that was ever scanned."""
    if declared_bytes > max(UNSUSPICIOUS_BYTES, MAX_RATIO * compressed_bytes):
        raise TooLarge(
            f"its {compressed_bytes / 1e6:.1f} MB would inflate to {declared_bytes / 1e6:.0f} MB, "
            f"more than {MAX_RATIO} fold, which no scan does",
            remedy="Save it without compression if it is honest.",
        )


@contextmanager
def _opened(path: Path) -> Iterator[mmap.mmap]:
    """Give the bytes of a file, mapped."""
    check_plain(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content
    except ValueError as error:
        raise UnreadableFile("the file is empty", remedy=EXPORT_AGAIN) from error
    except OSError as error:
        raise UnreadableFile(f"the file cannot be read ({error.strerror})") from error


def _meta(content: Bytes) -> tuple[int, str]:
    """Return where the data set begins and its transfer syntax, "" where the file does not say."""
    begin = 132 if content[128:132] == b"DICM" else 0
    if content[begin : begin + 2] != b"\x02\x00":
        return begin, ""
    walk, syntax = Walk(content, begin, Encoding(), group=0x0002), ""
    for element in walk:
        if element.tag == (0x0002, 0x0010):
            value = content[element.start : element.start + element.length]
            syntax = value.rstrip(b"\0 ").decode("ascii", "replace")
    return walk.position, syntax


def _encoding(content: Bytes, start: int, syntax: str) -> Encoding:
    """Return how the data set is written: as its first element shows, since some files say otherwise than they do."""
    head = content[start : start + 8]
    group = head[:2]
    if start == 0 and syntax == "" and group not in (b"\x08\x00", b"\x00\x08", b"\x02\x00"):
        raise UnreadableFile("it is no DICOM file")
    is_big = group == b"\x00\x08" if group in (b"\x08\x00", b"\x00\x08") else syntax == _BIG_ENDIAN
    return Encoding(is_implicit=not (head[4:6].isalpha() and head[4:6].isupper()), is_big_endian=is_big)


def _inflated(content: Bytes, start: int) -> bytearray:
    """Return a deflated data set inflated, as far as it can be honest."""
    inflater, inflated = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
    limit = max(_MAX_DEFLATED_BYTES, MAX_RATIO * (len(content) - start))
    try:
        for at in range(start, len(content), 1 << 16):
            inflated += inflater.decompress(content[at : at + (1 << 16)], limit + 1 - len(inflated))
            if len(inflated) > limit:
                raise TooLarge(f"it inflates to more than {MAX_RATIO} times its size")
    except zlib.error as error:
        raise UnreadableFile("its deflated data set is damaged", remedy=EXPORT_AGAIN) from error
    return inflated


@dataclass(frozen=True, slots=True)
class _Declared:
    """What the header says of the voxels."""

    rows: int
    columns: int
    frames: int
    samples: int
    bits: int

    @property
    def size_bytes(self) -> int:
        """Return how many bytes they take uncompressed."""
        return (self.rows * self.columns * self.frames * self.samples * self.bits + 7) // 8


def _judge(content: Bytes, start: int, syntax: str) -> None:
    """Refuse a data set that contradicts itself; the walk finds cut-off files and lengths that lie by itself."""
    walk = Walk(content, start, _encoding(content, start, syntax))
    found: dict[Tag, Element] = {}
    for element in walk:
        if element.tag in VOXEL_TAGS or element.tag in _NAMES or element.tag == _FRAMES:
            found.setdefault(element.tag, element)
    voxels = next((found[tag] for tag in VOXEL_TAGS if tag in found), None)
    if voxels is None:
        return
    numbers = {tag: _number(content, found[tag], walk.encoding) for tag in _NAMES if tag in found}
    if _ROWS not in numbers or _COLUMNS not in numbers:
        raise UnreadableFile("it holds voxels, and does not say how many rows and columns", remedy=EXPORT_AGAIN)
    frames = _frames(content, found.get(_FRAMES))
    samples, bits = numbers.get(_SAMPLES, 1), numbers.get(_BITS, 16)
    _check_declared(_Declared(numbers[_ROWS], numbers[_COLUMNS], frames, samples, bits), voxels)


def _check_declared(declared: _Declared, voxels: Element) -> None:
    """Compare what is declared with what is there."""
    check_voxels((declared.frames, declared.rows, declared.columns))
    what = f"{declared.frames} x {declared.rows} x {declared.columns} voxels of {declared.bits} bits"
    if voxels.fragments:
        if voxels.fragments < declared.frames:
            raise UnreadableFile(
                f"it declares {what} and holds {voxels.fragments} compressed frames", remedy=EXPORT_AGAIN
            )
        return
    if declared.samples != 1:
        return  # colour: subsampled encodings take less than their product, and no colour picture is annotated
    slack = min(SLACK_BYTES, max(1, declared.size_bytes // declared.frames // 8))
    if not declared.size_bytes <= voxels.length <= declared.size_bytes + slack:
        raise UnreadableFile(
            f"it declares {what}, {declared.size_bytes} bytes, and holds {voxels.length}", remedy=EXPORT_AGAIN
        )


def _number(content: Bytes, element: Element, encoding: Encoding) -> int:
    """Return an unsigned 16-bit number; raises UnreadableFile where the header writes something else there."""
    if element.vr not in (b"", b"US") or element.length != 2:
        raise UnreadableFile(f"its {_NAMES[element.tag]} is not written as the standard demands", remedy=EXPORT_AGAIN)
    return int(struct.unpack_from(encoding.order + "H", content, element.start)[0])


def _frames(content: Bytes, element: Element | None) -> int:
    """Return NumberOfFrames, which is written in digits."""
    if element is None or element.length == 0:
        return 1
    text = content[element.start : element.start + min(element.length, 16)].strip(b"\0 ")
    if not text.isdigit():
        raise UnreadableFile("its NumberOfFrames is no number", remedy=EXPORT_AGAIN)
    return int(text)
