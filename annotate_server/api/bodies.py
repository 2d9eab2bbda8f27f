"""Request bodies: never more than a limit, never slower than a person's line, never left half-read."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.exceptions import HTTPException

from annotate_server.api.services import Limits
from annotate_server.domain.errors import InvalidRequest, TooLarge, UnreadableFile

_INFLATE_STEP = 1 << 20


async def chunks(request: Request, limit_bytes: int, limits: Limits) -> AsyncIterator[bytes]:
    """Yield the body as it comes.

    Raises TooLarge beyond `limit_bytes` (at once where Content-Length says so), an HTTP 408 for a body that is too
    slow, and ClientDisconnect for one that is cut off.
    """
    check_length(request.headers.get("content-length"), limit_bytes)
    began, count = time.monotonic(), 0
    parts = request.stream()
    while True:
        try:
            part = await asyncio.wait_for(anext(parts, None), limits.idle_s)
        except TimeoutError:
            raise too_slow() from None
        if part is None:
            return
        count += len(part)
        if count > limit_bytes:
            raise beyond(limit_bytes)
        seconds = time.monotonic() - began
        if seconds > limits.idle_s and count < limits.least_bytes_per_s * seconds:
            raise too_slow()
        yield part


async def whole(request: Request, limit_bytes: int, limits: Limits) -> bytes:
    """Return a body, inflated where it is sent as gzip: neither it nor what it inflates to is beyond the limit."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise HTTPException(415, "A body is sent plain or as gzip.", {"Accept-Encoding": "gzip, identity"})
    content = bytearray()
    async for part in chunks(request, limit_bytes, limits):
        content += part
    if encoding == "identity":
        return bytes(content)
    return await asyncio.to_thread(inflated, bytes(content), limit_bytes)


def inflated(content: bytes, limit_bytes: int) -> bytes:
    """Return what some gzip inflates to; TooLarge beyond the limit, UnreadableFile where it is damaged."""
    inflater = zlib.decompressobj(zlib.MAX_WBITS + 16)
    parts, count, rest = [], 0, content
    try:
        while not inflater.eof:
            part = inflater.decompress(rest, _INFLATE_STEP)
            rest = inflater.unconsumed_tail
            if not part and not rest and not inflater.eof:
                raise UnreadableFile("the gzip body ends early")
            count += len(part)
            if count > limit_bytes:
                raise beyond(limit_bytes)
            parts.append(part)
    except zlib.error as error:
        raise UnreadableFile("the body is not valid gzip") from error
    if inflater.unused_data:
        raise UnreadableFile("something follows the gzip body")
    return b"".join(parts)


def check_length(declared: str | None, limit_bytes: int) -> None:
    """Refuse a body whose declared length is no number or beyond the limit."""
    if declared is None:
        return
    if not declared.isdecimal():
        raise InvalidRequest("Content-Length is no number")
    if int(declared) > limit_bytes:
        raise beyond(limit_bytes)


def beyond(limit_bytes: int) -> TooLarge:
    """Return the error for a body beyond its limit."""
    return TooLarge(f"the body is larger than the limit of {limit_bytes} bytes")


def too_slow() -> HTTPException:
    """Return the error for a body that does not come."""
    return HTTPException(408, "The body came too slowly.", {"Connection": "close"})
