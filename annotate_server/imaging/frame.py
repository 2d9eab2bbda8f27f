"""The frame: a box of a draft on the wire (`application/x-annotate-frame`), the same container in both directions.

`b"ANF1"`, the length of the header (u32, little endian), the header (JSON, UTF-8), then the voxels of the box,
i fastest. Compression is left to the transport (content encoding gzip).
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from annotate_server.domain.errors import AnnotateError, InvalidRequest
from annotate_server.domain.geometry import Box, Shape
from annotate_server.domain.labelmap import LabelVoxels, Segment
from annotate_server.imaging.segment_json import segment_as_json, segment_of_json

MEDIA_TYPE = "application/x-annotate-frame"
MAGIC = b"ANF1"
_LENGTH = struct.Struct("<I")
_MOST_HEADER_BYTES = 4 << 20
_DTYPES: Mapping[str, np.dtype[np.uint8] | np.dtype[np.uint16]] = {"uint8": np.dtype("u1"), "uint16": np.dtype("<u2")}


@dataclass(frozen=True)
class Frame:
    """A box of a draft.

    `voxels` is (k, j, i) of the box's shape, uint8 or uint16, absolute values (no difference). `revision` is that of
    the draft with these voxels in it; in an edit, that of the draft which the edit was made on. `geometry` is the
    digest of the grid (`Geometry.digest`). `segments` is there where they changed, and in the first frame. `notes` are
    sentences for a person.
    """

    case_id: str
    session_id: str
    revision: int
    box: Box
    voxels: LabelVoxels
    geometry: str
    segments: tuple[Segment, ...] | None = None
    notes: tuple[str, ...] = ()
    can_undo: bool = False
    can_redo: bool = False


def encode_frame(frame: Frame) -> bytes:
    """Return a frame as bytes."""
    return b"".join(frame_parts(frame))


def frame_parts(frame: Frame) -> tuple[bytes, memoryview]:
    """Return a frame as two parts, one behind the other: the second are the voxels, which are not copied."""
    header = {
        "case": frame.case_id,
        "session": frame.session_id,
        "revision": frame.revision,
        "box_kji": [list(frame.box.start), list(frame.box.stop)],
        "shape": list(frame.box.shape),
        "dtype": frame.voxels.dtype.name,
        "geometry": frame.geometry,
        "segments": None if frame.segments is None else [segment_as_json(s) for s in frame.segments],
        "notes": list(frame.notes),
        "can_undo": frame.can_undo,
        "can_redo": frame.can_redo,
    }
    text = json.dumps(header, ensure_ascii=False, allow_nan=False).encode()
    wire = np.ascontiguousarray(frame.voxels, dtype=_DTYPES[frame.voxels.dtype.name])
    return b"".join((MAGIC, _LENGTH.pack(len(text)), text)), wire.reshape(-1).view(np.uint8).data


def decode_frame(content: bytes) -> Frame:
    """Return the frame of some bytes; the voxels are a read-only view of them. Raises InvalidRequest."""
    header, voxels = _split(content)
    try:
        box = Box(_shape(header["box_kji"][0]), _shape(header["box_kji"][1]))
        dtype = _DTYPES[header["dtype"]]
        if math.prod(box.shape) * dtype.itemsize != len(voxels):
            raise InvalidRequest(f"a box of {box.shape} voxels does not have {len(voxels)} bytes of {dtype}")
        segments = header.get("segments")
        return Frame(
            case_id=str(header.get("case", "")),
            session_id=str(header.get("session", "")),
            revision=_whole(header["revision"]),
            box=box,
            voxels=cast("LabelVoxels", np.frombuffer(voxels, dtype).reshape(box.shape)),
            geometry=str(header.get("geometry", "")),
            segments=None if segments is None else tuple(segment_of_json(each) for each in segments),
            notes=tuple(str(note) for note in header.get("notes", ())),
            can_undo=header.get("can_undo") is True,
            can_redo=header.get("can_redo") is True,
        )
    except AnnotateError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InvalidRequest(f"the header of the frame is not valid ({type(error).__name__}: {error})") from error


def _split(content: bytes) -> tuple[Mapping[str, Any], memoryview]:
    """Return header and voxels."""
    view = memoryview(content)
    if bytes(view[:4]) != MAGIC or len(view) < 8:
        raise InvalidRequest("the body is no frame: it does not begin with ANF1")
    (length,) = _LENGTH.unpack(view[4:8])
    if length > min(_MOST_HEADER_BYTES, len(view) - 8):
        raise InvalidRequest(f"the frame announces a header of {length} bytes and is {len(view)} bytes long")
    try:
        header = json.loads(bytes(view[8 : 8 + length]))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the header of the frame is not JSON") from error
    if not isinstance(header, dict):
        raise InvalidRequest("the header of the frame is no JSON object")
    return header, view[8 + length :]


def _shape(numbers: object) -> Shape:
    k, j, i = (_whole(number) for number in cast("list[object]", numbers))
    if min(k, j, i) < 0:
        raise InvalidRequest(f"the box has a negative corner {(k, j, i)}")
    return k, j, i


def _whole(number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise InvalidRequest(f"{number!r} is no whole number")
    return number
