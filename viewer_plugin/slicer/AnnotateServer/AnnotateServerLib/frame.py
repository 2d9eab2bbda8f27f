"""The frame: a box of a draft on the wire, and the box itself.

"ANF1", the length of the header (u32, little endian), the header (JSON), then the voxels of the box, i fastest.
"""

from __future__ import annotations

import json
import struct
from typing import NamedTuple

import numpy as np

from AnnotateServerLib.problem import Problem
from AnnotateServerLib.segments import Segment, segment_of

MEDIA_TYPE = "application/x-annotate-frame"
_MAGIC = b"ANF1"
_DTYPES = {"uint8": "u1", "uint16": "<u2"}
Triple = tuple[int, int, int]


class Box(NamedTuple):
    """Voxels (k, j, i): from start, up to but without stop."""

    start: Triple
    stop: Triple

    @property
    def shape(self) -> Triple:
        """Return the lengths of the sides."""
        k, j, i = (b - a for a, b in zip(self.start, self.stop))
        return k, j, i

    @property
    def is_empty(self) -> bool:
        """Say whether there is no voxel in it."""
        return min(self.shape) <= 0

    @property
    def slices(self) -> tuple:
        """Return what an array is indexed with."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop))


class Frame(NamedTuple):
    """A box of a draft as the server has it; `segments` is there where they changed."""

    revision: int
    box: Box
    voxels: np.ndarray
    geometry: str
    segments: tuple[Segment, ...] | None
    notes: tuple[str, ...]
    can_undo: bool
    can_redo: bool


def decoded(content: bytes) -> Frame:
    """Return the frame of some bytes; the voxels are a read-only view of them. Raises Problem."""
    if content[:4] != _MAGIC or len(content) < 8:
        raise _damaged("it does not begin with ANF1")
    (length,) = struct.unpack("<I", content[4:8])
    if 8 + length > len(content):
        raise _damaged("it ends within its header")
    try:
        header = json.loads(content[8 : 8 + length].decode("utf-8"))
        start, stop = header["box_kji"]
        box, dtype = Box(tuple(start), tuple(stop)), np.dtype(_DTYPES[header["dtype"]])
        voxels = np.frombuffer(content, dtype, offset=8 + length).reshape(box.shape)
        told = header.get("segments")
        return Frame(
            revision=int(header["revision"]),
            box=box,
            voxels=voxels,
            geometry=header.get("geometry", ""),
            segments=None if told is None else tuple(segment_of(each) for each in told),
            notes=tuple(header.get("notes", ())),
            can_undo=header.get("can_undo") is True,
            can_redo=header.get("can_redo") is True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(str(error)) from error


def encoded_edit(box: Box, voxels: np.ndarray, revision: int, geometry: str) -> bytes:
    """Return an edit: the voxels of a box as they shall be, made on a revision."""
    header = {
        "revision": revision,
        "box_kji": [list(box.start), list(box.stop)],
        "dtype": voxels.dtype.name,
        "geometry": geometry,
    }
    text = json.dumps(header).encode("utf-8")
    wire = np.ascontiguousarray(voxels, _DTYPES[voxels.dtype.name])
    return b"".join((_MAGIC, struct.pack("<I", len(text)), text, wire.tobytes()))


def _damaged(why: str) -> Problem:
    remedy = "Is there a proxy in between that changes what passes?"
    return Problem(f"The server's answer cannot be read: {why}.", remedy)
