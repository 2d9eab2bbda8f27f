"""What one event changed: the voxels of its box before and after, compressed; the blob that undo and redo apply.

`b"ANC1"`, u32 little-endian header length, JSON {shape, dtype, before_bytes}, then both blocks, deflated.
"""

import json
import struct
import zlib
from dataclasses import dataclass
from typing import cast

import numpy as np

from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.labelmap import LabelVoxels

_MAGIC = b"ANC1"
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Change:
    """A box before and after an event; both (k, j, i), of one shape and type."""

    before: LabelVoxels
    after: LabelVoxels


def encode_change(change: Change) -> bytes:
    """Return a change as bytes."""
    before, after = (_deflated(voxels) for voxels in (change.before, change.after))
    header = {"shape": change.before.shape, "dtype": change.before.dtype.name, "before_bytes": len(before)}
    text = json.dumps(header).encode()
    return b"".join((_MAGIC, _LENGTH.pack(len(text)), text, before, after))


def decode_change(content: bytes) -> Change:
    """Return the change of some bytes; raises StorageFailed where they are none."""
    try:
        if content[:4] != _MAGIC:
            raise ValueError("it does not begin with ANC1")
        (length,) = _LENGTH.unpack(content[4:8])
        header = json.loads(content[8 : 8 + length])
        dtype, shape = np.dtype(header["dtype"]), tuple(header["shape"])
        start = 8 + length
        middle = start + int(header["before_bytes"])
        before, after = (
            np.frombuffer(zlib.decompress(part), dtype).reshape(shape)
            for part in (content[start:middle], content[middle:])
        )
    except (ValueError, KeyError, TypeError, struct.error, zlib.error) as error:
        raise StorageFailed(f"a stored change is damaged ({error})") from error
    return Change(cast("LabelVoxels", before), cast("LabelVoxels", after))


def _deflated(voxels: LabelVoxels) -> bytes:
    packer = zlib.compressobj(1)
    parts = [packer.compress(np.ascontiguousarray(plane).data) for plane in voxels]
    return b"".join((*parts, packer.flush()))
