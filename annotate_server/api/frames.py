"""Frames out and in: gzip level 1 where the client takes it, the revision as ETag, a cap on what comes in."""

import math
import zlib
from collections.abc import Iterable, Iterator

from fastapi import Request
from starlette.responses import Response

from annotate_server.domain.annotation import Session
from annotate_server.domain.timing import part
from annotate_server.imaging.frame import MEDIA_TYPE, Frame, frame_parts

_LEVEL = 1
_STEP = 4 << 20
_LEAST_WORTH_BYTES = 512
HEADER_BYTES = 4 << 20
"""What a frame may hold beside its voxels."""


def frame_response(frame: Frame, request: Request) -> Response:
    """Return a frame as a response."""
    parts = frame_parts(frame)
    headers = {"ETag": f'"{frame.revision}"', "Vary": "Accept-Encoding"}
    is_worth = sum(map(len, parts)) >= _LEAST_WORTH_BYTES
    if is_worth and takes_gzip(request.headers.get("accept-encoding", "")):
        headers["Content-Encoding"] = "gzip"
        with part("gzip"):
            content = b"".join(_deflated(parts))
        return Response(content, media_type=MEDIA_TYPE, headers=headers)
    return Response(b"".join(parts), media_type=MEDIA_TYPE, headers=headers)


def takes_gzip(accepted: str) -> bool:
    """Say whether an Accept-Encoding allows gzip."""
    for each in accepted.lower().split(","):
        name, _, weight = each.strip().partition(";")
        if name.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def most_frame_bytes(session: Session, limit_bytes: int) -> int:
    """Return how large an edit of a session can be: its whole grid at two bytes a voxel, and a header."""
    return min(limit_bytes, 2 * math.prod(session.geometry.shape) + HEADER_BYTES)


def _deflated(parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Yield the parts as gzip without a time stamp: the same frame is the same bytes."""
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS + 16)
    for each in parts:
        for start in range(0, len(each), _STEP):
            yield deflater.compress(each[start : start + _STEP])
    yield deflater.flush()
