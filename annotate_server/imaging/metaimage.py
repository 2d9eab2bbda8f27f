"""MetaImage in (.mha, and .mhd with its file of voxels), as ITK writes it: world coordinates are LPS mm."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import UnreadableFile, UnsupportedInput, UntrustedGeometry, about
from annotate_server.domain.geometry import Shape
from annotate_server.domain.volume import Volume
from annotate_server.imaging.grid_file import GridFile, affine_of, neighbour, volume_of
from annotate_server.imaging.header_words import MAX_HEADER_BYTES, is_true, real_numbers, whole_numbers
from annotate_server.imaging.packed_bytes import EXPORT_AGAIN, opened
from annotate_server.imaging.prescreen import check_voxels

_NUMBERS = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_NO_DIRECTION = (
    "The file does not say how the volume lies in the patient (TransformMatrix); its axes were taken for left, "
    "posterior and superior."
)


def read_metaimage(stored: StoredVolume) -> Volume:
    """Return the volume of a MetaImage file, voxels (k, j, i).

    Raises an InputError that names the file and the defect.
    """
    with about(stored.key):
        return volume_of(read_metaimage_header(stored.files[0]), stored)


def read_metaimage_header(path: Path) -> GridFile:
    """Return the header of a MetaImage file.

    Raises UnreadableFile where it contradicts itself, UnsupportedInput for what is no volume of intensities or whose
    voxels are elsewhere than in this file or beside it, UntrustedGeometry, TooLarge.
    """
    words, length = _words(path)
    shape, layers = _shape(words)
    packed = is_true(words.get("CompressedData", "False"))
    data, offset = _data(path, words, length)
    affine, remarks = _affine(words, len(whole_numbers("DimSize", words["DimSize"])))
    if packed and offset is None:
        raise UnsupportedInput("its voxels are compressed and it does not say where they begin (HeaderSize -1)")
    return GridFile(
        data=data,
        offset=offset,
        shape=shape,
        layers=layers,
        dtype=_dtype(words),
        affine=affine,
        is_packed=packed,
        warnings=remarks,
    )


def _words(path: Path) -> tuple[Mapping[str, str], int]:
    """Return the fields of the header and its length in bytes."""
    with opened(path, is_packed=False) as source:
        head = source.take(MAX_HEADER_BYTES)
    words: dict[str, str] = {}
    at = 0
    while "ElementDataFile" not in words:
        end = head.find(b"\n", at)
        key, equals, value = head[at : end if end >= 0 else len(head)].partition(b"=")
        if not equals or not key.strip().isascii():
            raise UnreadableFile("it is no MetaImage file or its header was cut off", remedy=EXPORT_AGAIN)
        words[key.strip().decode()] = value.strip().decode("utf-8", "replace")
        at = end + 1 if end >= 0 else len(head)
    for needed in ("NDims", "DimSize", "ElementType"):
        if needed not in words:
            raise UnreadableFile(f"its header does not say its `{needed}`", remedy=EXPORT_AGAIN)
    return words, at


def _shape(words: Mapping[str, str]) -> tuple[Shape, int]:
    """Return the shape (k, j, i) and how many numbers each voxel has."""
    sizes = whole_numbers("DimSize", words["DimSize"])
    if whole_numbers("NDims", words["NDims"]) != (len(sizes),):
        raise UnreadableFile(f"its header declares NDims {words['NDims']} and {len(sizes)} sizes", remedy=EXPORT_AGAIN)
    check_voxels(sizes)
    if len(sizes) < 3:
        raise UnsupportedInput(f"it holds no volume but a picture of {' x '.join(map(str, sizes))} points")
    if np.prod(sizes[3:]) > 1:
        raise UnsupportedInput(
            f"it holds {np.prod(sizes[3:])} volumes", remedy="Save the one to be annotated as a file of its own."
        )
    (channels,) = whole_numbers("ElementNumberOfChannels", words.get("ElementNumberOfChannels", "1")) or (1,)
    check_voxels((channels, *sizes))
    return (sizes[2], sizes[1], sizes[0]), channels


def _dtype(words: Mapping[str, str]) -> np.dtype[np.generic]:
    """Return the type of the numbers, in the file's byte order."""
    name = words["ElementType"].removesuffix("_ARRAY")
    if name not in _NUMBERS:
        raise UnsupportedInput(f"its voxels are of the type {name[:40]}, which is no intensity")
    if not is_true(words.get("BinaryData", "True")):
        raise UnsupportedInput("its voxels are written as text", remedy="Save it as binary.")
    swapped = words.get("BinaryDataByteOrderMSB", words.get("ElementByteOrderMSB", "False"))
    return np.dtype(_NUMBERS[name]).newbyteorder(">" if is_true(swapped) else "<")


def _data(path: Path, words: Mapping[str, str], length: int) -> tuple[Path, int | None]:
    """Return the file of the voxels and where they begin, None for its last bytes."""
    name = words["ElementDataFile"]
    if name.upper() == "LOCAL":
        return path, length
    if name.upper().startswith("LIST") or "%" in name:
        raise UnsupportedInput("its voxels are spread over several files", remedy="Save it as one .mha file.")
    sizes = whole_numbers("HeaderSize", words.get("HeaderSize", "0"))
    if len(sizes) != 1 or sizes[0] < -1:
        raise UnreadableFile("its header has no size in `HeaderSize`", remedy=EXPORT_AGAIN)
    return neighbour(path, name), None if sizes[0] == -1 else sizes[0]


def _affine(words: Mapping[str, str], dimensions: int) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the affine (k, j, i, 1) to LPS mm and what a person should know about it."""
    spacing_key = next((key for key in ("ElementSpacing", "ElementSize") if key in words), None)
    if spacing_key is None:
        raise UntrustedGeometry("its header does not say how large a voxel is (ElementSpacing)", remedy=EXPORT_AGAIN)
    spacing = real_numbers(spacing_key, words[spacing_key], dimensions)[:3]
    if (spacing <= 0).any():
        raise UntrustedGeometry(f"its voxel spacing is {' x '.join(f'{value:g}' for value in spacing)} mm")
    origin_key = next((key for key in ("Offset", "Position", "Origin") if key in words), None)
    origin = real_numbers(origin_key, words[origin_key], dimensions)[:3] if origin_key else np.zeros(3)
    axes_key = next((key for key in ("TransformMatrix", "Rotation", "Orientation") if key in words), None)
    if axes_key is None:
        return affine_of(np.diag(spacing), origin), (_NO_DIRECTION,)
    axes = real_numbers(axes_key, words[axes_key], dimensions**2).reshape(dimensions, dimensions)[:3, :3]
    return affine_of(axes * spacing[:, None], origin), ()
