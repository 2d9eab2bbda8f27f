"""Answers of DICOMweb: parts one after the other while they are read, JSON that is kept compressed, 304 where known."""

import gzip
import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from annotate_server.api.dicomweb.media_types import JSON_TYPE, Form
from annotate_server.api.frames import takes_gzip
from annotate_server.imaging.related_parts import RELATED
from annotate_server.workflows.dicom_payload import Payload

_ALWAYS_ASK = "private, no-cache"
_FOR_AN_HOUR = "private, max-age=3600"
_VARY = "Accept, Accept-Encoding, Authorization, Cookie"
_SMALL_BYTES = 1 << 12


def etag(*words: object) -> str:
    """Return the tag of an answer that depends on nothing but these words."""
    return f'"{hashlib.sha256(repr(words).encode()).hexdigest()[:32]}"'


def unchanged(request: Request, tag: str) -> Response | None:
    """Return a 304 where the client has this answer already."""
    known = request.headers.get("if-none-match", "")
    if tag in [word.strip().removeprefix("W/") for word in known.split(",")] or known.strip() == "*":
        return Response(status_code=304, headers=_headers(tag, _ALWAYS_ASK))
    return None


def json_response(request: Request, packed: bytes, tag: str) -> Response:
    """Return gzipped JSON, as it is to who takes gzip."""
    headers = _headers(tag, _ALWAYS_ASK)
    if takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=JSON_TYPE)
    return Response(gzip.decompress(packed), headers=headers, media_type=JSON_TYPE)


def listed(request: Request, rows: object, warnings: Iterable[str], status: int = 200) -> Response:
    """Return a list as JSON, with what was not done as asked."""
    text = json.dumps(rows, separators=(",", ":")).encode()
    headers = {"Cache-Control": _ALWAYS_ASK, "Vary": _VARY}
    if sentences := list(warnings):
        headers["Warning"] = ", ".join(f'299 annotate-server "{sentence}"' for sentence in sentences)
    if len(text) > _SMALL_BYTES and takes_gzip(request.headers.get("accept-encoding", "")):
        headers["Content-Encoding"] = "gzip"
        text = gzip.compress(text, 3, mtime=0)
    return Response(text, status, headers, JSON_TYPE)


def payloads_response(payloads: Iterator[Payload], form: Form, tag: str) -> Response:
    """Return payloads in parts; the first is made before the answer begins, so that its errors are still answered."""
    first = next(payloads)
    headers = _headers(tag, _FOR_AN_HOUR)
    if not form.is_multipart:
        alone = {**headers, "Content-Length": str(first.size_bytes)}
        return StreamingResponse(_begun(first.chunks(), 1), media_type=_part_type(form, first), headers=alone)
    boundary = secrets.token_hex(16)
    media_type = f'{RELATED}; type="{form.part_type}"; boundary={boundary}'
    second = next(payloads, None)
    if second is None:
        content = b"".join(_parts(iter((first,)), form, boundary))
        return Response(content, headers=headers, media_type=media_type)
    every = chain((first, second), payloads)
    return StreamingResponse(_begun(_parts(every, form, boundary), 2), media_type=media_type, headers=headers)


def picture_response(content: bytes, media_type: str, tag: str) -> Response:
    """Return a picture."""
    return Response(content, headers=_headers(tag, _FOR_AN_HOUR), media_type=media_type)


def _begun(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Return chunks of which the first `count` were read already."""
    return chain(tuple(islice(chunks, count)), chunks)


def _parts(payloads: Iterator[Payload], form: Form, boundary: str) -> Iterator[bytes]:
    for payload in payloads:
        head = (
            f"--{boundary}\r\nContent-Type: {_part_type(form, payload)}\r\nContent-Length: {payload.size_bytes}\r\n\r\n"
        )
        yield head.encode()
        yield from payload.chunks()
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _part_type(form: Form, payload: Payload) -> str:
    """Return the type of a part; it names the transfer syntax, which a viewer decodes by."""
    return f"{form.part_type}; transfer-syntax={payload.syntax}"


def _headers(tag: str, caching: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": caching, "Vary": _VARY}
