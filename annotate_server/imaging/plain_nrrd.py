"""Plain NRRD out, plane by plane: volumes and labels for programs that read a grid of numbers and no more.

After the NRRD format definition (teem.sourceforge.net/nrrd/format.html). Light to import.
"""

import gzip
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Geometry

_TYPES = {
    "|i1": "int8",
    "|u1": "uint8",
    "<i2": "int16",
    "<u2": "uint16",
    "<i4": "int32",
    "<u4": "uint32",
    "<i8": "int64",
    "<u8": "uint64",
    "<f4": "float",
    "<f8": "double",
}

PART_BYTES = 1 << 18
"""Whoever sends the parts waits for a thread for each, so they are not small; nor large, since nobody else is answered
while one goes out."""


@dataclass(frozen=True)
class PlainGrid:
    """A grid of numbers to be written: its planes (j, i) in the order of k, each of `dtype`."""

    geometry: Geometry
    dtype: np.dtype[np.generic]
    planes: Iterable[NDArray[np.generic]]


def nrrd_parts(grid: PlainGrid) -> Iterator[bytes]:
    """Yield a NRRD file: the header, then the planes, not compressed; about a quarter of a megabyte at a time."""
    dtype = written_type(grid.dtype)
    yield _header(grid.geometry, dtype, "raw")
    _, j, i = grid.geometry.shape
    planes = iter(grid.planes)
    while some := list(islice(planes, max(1, PART_BYTES // (j * i * dtype.itemsize)))):
        part = np.empty((len(some), j, i), dtype)
        for n, plane in enumerate(some):
            part[n] = plane
        yield part.tobytes()


def nrrd_bytes(grid: PlainGrid) -> int:
    """Return how long `nrrd_parts` is in all."""
    dtype = written_type(grid.dtype)
    k, j, i = grid.geometry.shape
    return len(_header(grid.geometry, dtype, "raw")) + k * j * i * dtype.itemsize


def packed_nrrd(grid: PlainGrid) -> bytes:
    """Return a NRRD file whose numbers are compressed; the same bytes for the same numbers."""
    dtype, sink = written_type(grid.dtype), io.BytesIO()
    sink.write(_header(grid.geometry, dtype, "gzip"))
    with gzip.GzipFile(filename="", mode="wb", fileobj=sink, compresslevel=1, mtime=0) as packed:
        for plane in grid.planes:
            packed.write(np.ascontiguousarray(plane, dtype).tobytes())
    return sink.getvalue()


def written_type(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Return the type that numbers are written as: little endian, and one that NRRD has."""
    if dtype.kind == "b":
        return np.dtype("|u1")
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        return np.dtype("<f4" if dtype.itemsize < 4 else "<f8")
    return dtype.newbyteorder("<")


def _header(geometry: Geometry, dtype: np.dtype[np.generic], encoding: str) -> bytes:
    """Return the header: fastest axis first, LPS."""
    steps = (geometry.affine[:3, :3].T)[::-1]
    fields = [
        "NRRD0004",
        f"type: {_TYPES[dtype.str]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, geometry.shape[::-1]))}",
        f"space directions: {' '.join(_vector(step) for step in steps)}",
        "kinds: domain domain domain",
        "endian: little",
        f"encoding: {encoding}",
        f"space origin: {_vector(geometry.origin_mm)}",
    ]
    return "\n".join([*fields, "", ""]).encode()


def _vector(numbers: Iterable[float]) -> str:
    return f"({','.join(repr(float(x)) for x in numbers)})"
