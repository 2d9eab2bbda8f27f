"""The forms of an answer: parts for Slicer, a bare volume for OHIF, JSON; numbers go out plane by plane."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response, StreamingResponse

from annotate_server.api.monailabel.translate import EXTENSION, Json
from annotate_server.imaging.plain_nrrd import PlainGrid, nrrd_bytes, nrrd_parts, packed_nrrd

_OCTETS = "application/octet-stream"


@dataclass(frozen=True)
class Inferred:
    """What an inference gave: the numbers of every voxel, and what is said of them."""

    grid: PlainGrid
    words: Json
    is_packed: bool = False


def inferred_response(inferred: Inferred, output: str) -> Response:
    """Return an inference in the form that was asked for: `image`, `json`, else both in parts."""
    if output == "json":
        return JSONResponse(inferred.words)
    name = f"label-{secrets.token_hex(4)}{EXTENSION}"
    length, content = _content(inferred)
    if output == "image":
        headers = {"Content-Disposition": _attached(name), "Content-Length": str(length)}
        return StreamingResponse(content, media_type=_OCTETS, headers=headers)
    boundary = secrets.token_hex(16)
    words = json.dumps(inferred.words)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n'
        f'{words}\r\n--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        f"Content-Type: {_OCTETS}\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()

    def parts() -> Iterator[bytes]:
        yield head
        yield from content
        yield tail

    headers = {"Content-Length": str(len(head) + length + len(tail))}
    return StreamingResponse(parts(), media_type=f"multipart/form-data; boundary={boundary}", headers=headers)


def _content(inferred: Inferred) -> tuple[int, Iterator[bytes]]:
    if inferred.is_packed:
        packed = packed_nrrd(inferred.grid)
        return len(packed), iter((packed,))
    return nrrd_bytes(inferred.grid), nrrd_parts(inferred.grid)


def _attached(name: str) -> str:
    return f'attachment; filename="{name}"'
