"""Volumes as plain NRRD: out for an upload, in from a download; no temporary files, nothing compressed."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from AnnotateServerLib.places import Grid, flipped, grid_of_matrix
from AnnotateServerLib.problem import Problem

_NAMES = {
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
_AT_ONCE_BYTES = 4 << 20
_TYPES = {name: dtype for dtype, name in _NAMES.items()}


class Plain(NamedTuple):
    """Voxels (k, j, i) on a grid."""

    voxels: np.ndarray
    grid: Grid


def packed_in_steps(plain: Plain) -> Generator:
    """Return a NRRD file; in steps, so that the window breathes."""
    dtype = plain.voxels.dtype.newbyteorder("<")
    planes = max(1, _AT_ONCE_BYTES // max(1, plain.voxels[0].nbytes))
    parts = [_header(plain.grid, dtype)]
    for first in range(0, len(plain.voxels), planes):
        parts.append(np.ascontiguousarray(plain.voxels[first : first + planes], dtype).tobytes())
        yield None
    return b"".join(parts)


def _header(grid: Grid, dtype: np.dtype) -> bytes:
    fields = [
        "NRRD0004",
        f"type: {_NAMES[dtype.str]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, grid.shape[::-1]))}",
        f"space directions: {' '.join(map(_vector, grid.steps_mm[::-1]))}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: raw",
        f"space origin: {_vector(grid.origin_mm)}",
    ]
    return "\n".join([*fields, "", ""]).encode()


def unpacked(content: bytes) -> Plain:
    """Return what the server's NRRD file holds; the voxels are a read-only view. Raises Problem."""
    end = content.find(b"\n\n", 0, 1 << 20)
    try:
        lines = content[: max(end, 0)].decode("ascii").splitlines()
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        shape = tuple(int(size) for size in fields["sizes"].split())[::-1]
        steps = [_numbers(each) for each in fields["space directions"].split(") (")]
        matrix = np.eye(4)
        matrix[:3, :3] = flipped(steps).T
        matrix[:3, 3] = flipped(_numbers(fields["space origin"]))
        voxels = np.frombuffer(content, _TYPES[fields["type"]], offset=end + 2).reshape(shape)
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise Problem(f"The volume that the server sent cannot be read ({error}).", "Try it again.") from error
    return Plain(voxels, grid_of_matrix(matrix, shape))


def _vector(numbers: tuple) -> str:
    return f"({','.join(repr(float(number)) for number in numbers)})"


def _numbers(text: str) -> list:
    return [float(number) for number in text.strip("() ").split(",")]
