"""Which form of an answer was asked for: the Accept header, as DICOMweb uses it (PS3.18 section 8.7)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fastapi import Request
from starlette.exceptions import HTTPException

from annotate_server.imaging.dicom_instances import EXPLICIT_LITTLE_ENDIAN
from annotate_server.imaging.related_parts import DICOM, RELATED, parameters

JSON_TYPE = "application/dicom+json"
OCTETS = "application/octet-stream"
_LONGEST = 2000
_IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_PLAIN = frozenset({EXPLICIT_LITTLE_ENDIAN, _IMPLICIT_LITTLE_ENDIAN})

IMAGE_TYPES = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70)), "image/jpeg"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (80, 81)), "image/jls"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (90, 91)), "image/jp2"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (92, 93)), "image/jpx"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (201, 202, 203)), "image/jphc"),
}
"""The media type of compressed frames (PS3.18 table 8.7.3-5)."""


@dataclass(frozen=True)
class Range:
    """A media range that is accepted; `inner` is the type of the parts of a multipart one."""

    kind: str
    inner: str = ""
    syntax: str | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Form:
    """How something is sent: as it is stored or plain, in parts of this type, or alone."""

    part_type: str
    is_as_stored: bool
    is_multipart: bool = True


def accepted(request: Request) -> Sequence[Range]:
    """Return what a request accepts, the best first; anything where it does not say."""
    text = ",".join([*request.query_params.getlist("accept"), *request.headers.getlist("accept")])
    ranges = [each for each in _ranges(text[:_LONGEST]) if each.weight > 0]
    return sorted(ranges, key=lambda each: -each.weight) or (Range("*/*"),)


def check_json(request: Request) -> None:
    """Refuse a request that takes no JSON."""
    one_of(request, (JSON_TYPE, "application/json"))


def one_of(request: Request, offered: Sequence[str]) -> str:
    """Return the type that is liked best, the first where all are the same; raises a 406."""
    for each in accepted(request):
        for kind in offered:
            if each.kind in (kind, "*/*", f"{kind.split('/')[0]}/*"):
                return kind
    raise _not_acceptable(offered)


def form_of_frames(request: Request, stored: str) -> Form:
    """Return how frames that are stored in a transfer syntax are sent; raises a 406."""
    image = IMAGE_TYPES.get(stored)
    for each in accepted(request):
        is_multipart = each.kind in (RELATED, "*/*", "multipart/*")
        kind = (each.inner or OCTETS) if is_multipart else each.kind
        if kind in (OCTETS, "*/*", "application/*"):
            if each.syntax in ("*", stored):
                return Form(OCTETS, is_as_stored=True, is_multipart=is_multipart)
            if each.syntax is None or each.syntax in _PLAIN:
                return Form(OCTETS, is_as_stored=False, is_multipart=is_multipart)
        if image is not None and kind in (image, "image/*") and each.syntax in (None, "*", stored):
            return Form(image, is_as_stored=True, is_multipart=is_multipart)
    raise _not_acceptable((f'{RELATED}; type="{OCTETS}"; transfer-syntax=*',))


def form_of_files(request: Request, stored: Iterable[str]) -> Form:
    """Return how files that are stored in transfer syntaxes are sent; raises a 406."""
    syntaxes = set(stored)
    for each in accepted(request):
        is_multipart = each.kind in (RELATED, "*/*", "multipart/*")
        kind = (each.inner or DICOM) if is_multipart else each.kind
        if kind not in (DICOM, "*/*", "application/*"):
            continue
        if each.syntax == "*" or syntaxes == {each.syntax or EXPLICIT_LITTLE_ENDIAN}:
            return Form(DICOM, is_as_stored=True, is_multipart=is_multipart)
        if each.syntax in (None, EXPLICIT_LITTLE_ENDIAN):
            return Form(DICOM, is_as_stored=False, is_multipart=is_multipart)
    raise _not_acceptable((f'{RELATED}; type="{DICOM}"; transfer-syntax=*',))


def _ranges(text: str) -> Iterator[Range]:
    for part in _split(text):
        kind, words = parameters(part)
        if not kind:
            continue
        try:
            weight = float(words.get("q", "1"))
        except ValueError:
            weight = 0.0
        yield Range(kind, words.get("type", "").lower(), words.get("transfer-syntax"), weight)


def _split(text: str) -> Iterator[str]:
    """Yield the parts between commas that are not within quotes."""
    part, is_quoted = "", False
    for character in text:
        is_quoted ^= character == '"'
        if character == "," and not is_quoted:
            yield part
            part = ""
        else:
            part += character
    yield part


def _not_acceptable(offered: Sequence[str]) -> HTTPException:
    return HTTPException(406, f"This is sent as {' or '.join(offered)}.")
