"""A layer of a label in the store: a `.seg.nrrd` of one layer, read back plane by plane without an imaging library."""

import gzip
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.labelmap import LabelVoxels

_MOST_HEADER_BYTES = 16 << 20
_TYPES: Mapping[bytes, np.dtype[np.uint8] | np.dtype[np.uint16]] = {
    b"unsigned char": np.dtype("u1"),
    b"unsigned short": np.dtype("<u2"),
}


def read_layer_into(path: Path, voxels: LabelVoxels) -> None:
    """Fill `voxels` (k, j, i) with the layer that `write_seg_nrrd` wrote at `path`; they must have its shape.

    Raises StorageFailed where the file is not what was written.
    """
    with path.open("rb") as file:
        stored = _number_type(file.readline)
        plane_bytes = voxels[0].size * stored.itemsize
        try:
            with gzip.GzipFile(fileobj=file, mode="rb") as packed:
                for plane in voxels:
                    content = packed.read(plane_bytes)
                    plane[...] = np.frombuffer(content, stored).reshape(plane.shape)
                if packed.read(1):
                    raise ValueError("more voxels than expected")
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise StorageFailed(f"a stored labelmap is damaged ({error})", source=path.name) from error


def read_word(path: Path, key: str) -> str | None:
    """Return what the header of a stored layer says under a key; None where it says nothing of it."""
    start, read = f"{key}:=".encode(), 0
    with path.open("rb") as file:
        while (line := file.readline(_MOST_HEADER_BYTES)) not in (b"\n", b"") and read <= _MOST_HEADER_BYTES:
            read += len(line)
            if line.startswith(start):
                return line[len(start) :].decode(errors="replace").rstrip("\n")
    return None


def _number_type(next_line: Callable[[int], bytes]) -> np.dtype[np.generic]:
    """Read the header to its end and return the type of the voxels."""
    found, read = None, 0
    while (line := next_line(_MOST_HEADER_BYTES)) not in (b"\n", b""):
        read += len(line)
        if line.startswith(b"type: "):
            found = _TYPES.get(line[6:].strip())
        if read > _MOST_HEADER_BYTES:
            break
    if found is None:
        raise StorageFailed("a stored labelmap is damaged: its header does not say its type")
    return found
