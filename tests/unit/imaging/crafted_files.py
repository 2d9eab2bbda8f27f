"""Volume files made byte by byte, right ones and wrong ones, for the tests of the readers."""

import gzip
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.case import Format, PatientKey, StoredVolume

NAN, INF = float("nan"), float("inf")
Change = Callable[[bytearray], None]


def stored_as(path: Path, kind: Format = Format.NIFTI) -> StoredVolume:
    return StoredVolume(path.name, kind, (path,), PatientKey("", "p"))


def numbers(shape: tuple[int, int, int] = (5, 6, 7), dtype: str = "<i2") -> NDArray[np.generic]:
    """Return an array (k, j, i) in which every value is different."""
    return (np.arange(np.prod(shape)).reshape(shape) - 20).astype(dtype)


def nifti_bytes(values: NDArray[np.generic]) -> bytearray:
    """Return a NIfTI-1 file of an array (k, j, i): 2 x 3 x 4 mm, sform only, little-endian unless the array is not."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    code = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
    header = bytearray(352)
    put(header, 0, "i", 348, order=order)
    put(header, 40, "8h", 3, *values.shape[::-1], 1, 1, 1, 1, order=order)
    put(header, 70, "2h", code[values.dtype.str[1:]], values.dtype.itemsize * 8, order=order)
    put(header, 76, "8f", 1, 2, 3, 4, 1, 1, 1, 1, order=order)
    put(header, 108, "3f", 352, 1, 0, order=order)
    header[123] = 2
    put(header, 252, "2h", 0, 1, order=order)
    put(header, 280, "12f", 2, 0, 0, 10, 0, 3, 0, 20, 0, 0, 4, 30, order=order)
    header[344:348] = b"n+1\0"
    return header + values.tobytes()


def put(content: bytearray, at: int, layout: str, *values: float, order: str = "<") -> None:
    """Write numbers into bytes."""
    packed = struct.pack(order + layout, *values)
    content[at : at + len(packed)] = packed


def written(at: int, layout: str, *values: float) -> Change:
    """Return a change that writes numbers into a header."""
    return lambda content: put(content, at, layout, *values)


def nifti_file(folder: Path, *changes: Change, values: NDArray[np.generic] | None = None, name: str = "v.nii") -> Path:
    """Write a NIfTI file with changes to its bytes; compressed if the name says so."""
    content = nifti_bytes(numbers() if values is None else values)
    for change in changes:
        change(content)
    path = folder / name
    path.write_bytes(gzip.compress(bytes(content)) if name.endswith(".gz") else bytes(content))
    return path


def text_headed(folder: Path, name: str, fields: Mapping[str, str], body: bytes, *, mark: str) -> Path:
    """Write a file with a header of lines `key<mark>value` and what follows them."""
    lines = "".join(f"{key}{mark}{value}\n" for key, value in fields.items())
    path = folder / name
    path.write_bytes(lines.encode() + body)
    return path


def header_of(path: Path, least: int = 400) -> bytes:
    """Return the first bytes of a file."""
    return path.read_bytes()[:least]
