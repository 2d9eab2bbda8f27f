"""NRRD in (.nrrd, and .nhdr with its file of voxels), after teem.sourceforge.net/nrrd/format.html."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import UnreadableFile, UnsupportedInput, UntrustedGeometry, about
from annotate_server.domain.geometry import Shape
from annotate_server.domain.volume import Volume
from annotate_server.imaging.grid_file import GridFile, affine_of, neighbour, volume_of
from annotate_server.imaging.header_words import MAX_HEADER_BYTES, real_numbers, whole_numbers
from annotate_server.imaging.packed_bytes import EXPORT_AGAIN, opened
from annotate_server.imaging.prescreen import check_voxels

_NUMBERS = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPES = {name: code for code, names in _NUMBERS.items() for name in names}
_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
}
"""The signs that turn a space's axes into LPS."""
_NO_SPACE = (
    "The file does not say in which space the volume lies (space); its axes were taken for left, posterior and "
    "superior."
)


def read_nrrd(stored: StoredVolume) -> Volume:
    """Return the volume of an NRRD file, voxels (k, j, i).

    Raises an InputError that names the file and the defect.
    """
    with about(stored.key):
        return volume_of(read_nrrd_header(stored.files[0]), stored)


def read_nrrd_header(path: Path) -> GridFile:
    """Return the header of an NRRD file; `words` are its key/value pairs (`key:=value`).

    Raises UnreadableFile where it contradicts itself, UnsupportedInput for what is no volume of intensities or whose
    voxels are elsewhere than in this file or beside it, UntrustedGeometry, TooLarge.
    """
    header = _header(path)
    axes, layers, shape = _axes(header)
    dtype = _dtype(header)
    affine, remarks = _affine(header, axes)
    data, start = _data(path, header)
    packed = _is_packed(header)
    skip = _count(header, "byte skip")
    if skip < -1 or (skip == -1 and packed):
        raise UnreadableFile("its header has no size in `byte skip`", remedy=EXPORT_AGAIN)
    return GridFile(
        data=data,
        offset=None if skip == -1 else start,
        skip=max(0, skip),
        shape=shape,
        layers=layers,
        dtype=dtype,
        affine=affine,
        is_packed=packed,
        warnings=remarks,
        words=header.words,
    )


@dataclass(frozen=True)
class _Header:
    """The fields (`key: value`, keys in lower case), the key/value pairs and where they end."""

    fields: Mapping[str, str]
    words: Mapping[str, str]
    length: int


def _header(path: Path) -> _Header:
    """Return what a header says, not yet judged."""
    with opened(path, is_packed=False) as source:
        head = source.take(MAX_HEADER_BYTES)
    ends = [at + len(mark) for mark in (b"\n\n", b"\n\r\n") if (at := head.find(mark)) >= 0]
    length = min(ends, default=len(head))
    if not head.startswith(b"NRRD000") or (not ends and len(head) == MAX_HEADER_BYTES):
        raise UnreadableFile("it is no NRRD file", remedy=EXPORT_AGAIN)
    fields, words = {}, {}
    for line in head[:length].decode("utf-8", "replace").replace("\r\n", "\n").split("\n")[1:]:
        if line.startswith("#"):
            continue
        word, is_word, value = line.partition(":=")
        key, is_field, text = line.partition(": ")
        if is_field and len(key) < len(word):
            fields[key.strip().lower()] = text.strip()
        elif is_word:
            words[word] = re.sub(r"\\([n\\])", lambda mark: "\n" if mark[1] == "n" else "\\", value)
    for key in ("type", "dimension", "sizes", "encoding"):
        if key not in fields:
            raise UnreadableFile(f"its header does not say its `{key}`", remedy=EXPORT_AGAIN)
    return _Header(fields, words, length)


def _axes(header: _Header) -> tuple[tuple[int, ...], int, Shape]:
    """Return which axes of the file are those of space, how many numbers each voxel has, and the shape (k, j, i)."""
    sizes = whole_numbers("sizes", header.fields["sizes"])
    if whole_numbers("dimension", header.fields["dimension"]) != (len(sizes),):
        raise UnreadableFile("its header has another dimension than it has sizes", remedy=EXPORT_AGAIN)
    check_voxels(sizes)
    spatial = _spatial(header, len(sizes))
    if len(spatial) == 4 and sizes[spatial[3]] == 1:
        spatial = spatial[:3]
    if len(spatial) < 3:
        raise UnsupportedInput(f"it holds no volume but an array of {' x '.join(map(str, sizes))} numbers")
    rest = [axis for axis in range(len(sizes)) if axis not in spatial and sizes[axis] > 1]
    if len(spatial) > 3 or any(axis > spatial[0] for axis in rest):
        raise UnsupportedInput(
            f"it holds more than one volume ({' x '.join(map(str, sizes))} numbers)",
            remedy="Save the one to be annotated as a file of its own.",
        )
    i, j, k = (sizes[axis] for axis in spatial)
    return tuple(spatial), math.prod(sizes[axis] for axis in rest), (k, j, i)


def _spatial(header: _Header, count: int) -> list[int]:
    """Return the axes of space: those that have a direction, or else those of a kind that has a place."""
    directions = _vectors(header)
    kinds = header.fields.get("kinds", "").lower().split() or ["domain"] * count
    if len(kinds) != count or len(directions) not in (0, count):
        raise UnreadableFile("its header has another number of axes than of sizes", remedy=EXPORT_AGAIN)
    if directions:
        return [axis for axis in range(count) if directions[axis] != "none"]
    return [axis for axis in range(count) if kinds[axis] in ("domain", "space", "???")]


def _vectors(header: _Header) -> list[str]:
    """Return the space directions, `none` for an axis that has none."""
    return re.findall(r"none|\([^()]*\)", header.fields.get("space directions", ""))


def _dtype(header: _Header) -> np.dtype[np.generic]:
    """Return the type of the numbers, in the file's byte order."""
    name = header.fields["type"].lower()
    if name not in _TYPES:
        raise UnsupportedInput(f"its voxels are of the type {name[:40]}, which is no intensity")
    dtype: np.dtype[np.generic] = np.dtype(_TYPES[name])
    endian = header.fields.get("endian", "").lower()
    if dtype.itemsize > 1 and endian not in ("little", "big"):
        raise UnreadableFile("its header does not say the order of bytes (endian)", remedy=EXPORT_AGAIN)
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _is_packed(header: _Header) -> bool:
    """Say whether the voxels are compressed."""
    encoding = header.fields["encoding"].lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise UnsupportedInput(f"its voxels are encoded as {encoding[:20]}", remedy="Save it as raw or gzip.")
    return encoding != "raw"


def _affine(header: _Header, axes: tuple[int, ...]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the affine (k, j, i, 1) to LPS mm and what a person should know about it."""
    space = header.fields.get("space", "").lower().removesuffix("-time")
    signs = np.array(_SPACES.get(space, (1.0, 1.0, 1.0)))
    steps = _steps(header, axes) * signs
    origin = np.zeros(3)
    if "space origin" in header.fields:
        origin = real_numbers("space origin", _unbracketed(header.fields["space origin"]), 3) * signs
    is_known = space in _SPACES and "space directions" in header.fields
    return affine_of(steps, origin), () if is_known else (_NO_SPACE,)


def _steps(header: _Header, axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the steps (3, 3) along i, j and k in the file's own space, one in each row."""
    if vectors := _vectors(header):
        return np.array([real_numbers("space directions", _unbracketed(vectors[axis]), 3) for axis in axes])
    if "spacings" in header.fields:
        words = header.fields["spacings"].split()
        if len(words) <= max(axes):
            raise UntrustedGeometry("its header has fewer spacings than sizes", remedy=EXPORT_AGAIN)
        spacing = real_numbers("spacings", " ".join(words[axis] for axis in axes), 3)
        if (spacing <= 0).any():
            raise UntrustedGeometry(f"its voxel spacing is {' x '.join(f'{value:g}' for value in spacing)} mm")
        return np.diag(spacing)
    raise UntrustedGeometry("its header does not say how large a voxel is", remedy=EXPORT_AGAIN)


def _unbracketed(vector: str) -> str:
    """Return the numbers of `(x,y,z)` with spaces between them."""
    return vector.replace("(", " ").replace(")", " ").replace(",", " ").strip()


def _data(path: Path, header: _Header) -> tuple[Path, int]:
    """Return the file of the voxels and where its lines that are to be skipped end."""
    name = header.fields.get("data file", header.fields.get("datafile"))
    if name is None:
        return path, header.length
    if name.upper().startswith("LIST") or "%" in name:
        raise UnsupportedInput("its voxels are spread over several files", remedy="Save it as one .nrrd file.")
    data, lines = neighbour(path, name), _count(header, "line skip")
    with opened(data, is_packed=False) as source:
        head = source.take(MAX_HEADER_BYTES) if lines else b""
    start = 0
    for _ in range(lines):
        start = head.find(b"\n", start) + 1
        if start == 0:
            raise UnreadableFile("its header skips more lines than there are (line skip)", remedy=EXPORT_AGAIN)
    return data, start


def _count(header: _Header, key: str) -> int:
    """Return a number that is 0 where the header does not give it."""
    numbers = whole_numbers(key, header.fields.get(key, header.fields.get(key.replace(" ", ""), "0")))
    return numbers[0] if numbers else 0
