"""Parts of a download, and its checksum: of what is made while it is sent, plane by plane."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastapi import HTTPException

from annotate_server.domain.errors import InvalidRequest

_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_DIGESTS = {"SHA256": hashlib.sha256, "SHA512": hashlib.sha512}


@dataclass(frozen=True)
class Span:
    """The bytes from `start` to before `stop`, of `length` in all."""

    start: int
    stop: int
    length: int

    def header(self) -> str:
        """Return it as `Content-Range`."""
        return f"bytes {self.start}-{self.stop - 1}/{self.length}"

    def cut(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """Yield what of the parts lies within it."""
        at = 0
        for part in parts:
            low, high = max(self.start - at, 0), min(self.stop - at, len(part))
            at += len(part)
            if low < high:
                yield part[low:high]
            if at >= self.stop:
                return


def asked_span(header: str | None, length: int) -> Span | None:
    """Return the bytes that a `Range` header asks for; None for all: several ranges are answered whole (RFC 9110).

    Raises 416 where there are no such bytes.
    """
    found = _ONE_RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, stop = max(0, length - int(last)), length
    else:
        start, stop = int(first), min(length, int(last) + 1 if last else length)
    if first and last and int(last) < int(first):
        return None
    if start >= stop:
        raise HTTPException(416, f"The file has {length} bytes.", {"Content-Range": f"bytes */{length}"})
    return Span(start, stop, length)


def has_checksum(parts: Iterable[bytes], wanted: str) -> bool:
    """Say whether parts have a checksum, which is written `SHA256:…` in hexadecimal digits, or without the name."""
    name, _, digits = wanted.rpartition(":")
    digest = _DIGESTS.get(name.upper() or "SHA256")
    if digest is None:
        raise InvalidRequest("the checksum is of another kind", remedy=f"Known are {', '.join(_DIGESTS)}.")
    total = digest()
    for part in parts:
        total.update(part)
    return total.hexdigest() == digits.strip().lower()
