"""DICOMweb of an archive through this server: requests are handed on to it as they came, except for uploaded cases."""

import logging
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from annotate_server.api.bodies import check_length, chunks
from annotate_server.api.frames import takes_gzip
from annotate_server.api.services import Limits
from annotate_server.domain.archive import ArchiveAnswer, ArchiveQuestion, ArchiveRelay
from annotate_server.domain.errors import NotFound
from annotate_server.domain.person import Role
from annotate_server.workflows.dicom_shelf import Shelf

log = logging.getLogger(__name__)

_DOOR = "/dicomweb"
_PATH = re.compile(r"/(studies|series|instances)(/[A-Za-z0-9._,-]+)*")
_QUERY = re.compile(rb"[\x21-\x7e]*")
_STORE = re.compile(r"/studies(/[0-9.]{1,64})?")
_ASKED = ("accept", "if-none-match", "if-modified-since", "range", "content-type", "content-length", "cache-control")
_ANSWERED = ("etag", "last-modified", "warning", "cache-control", "expires", "content-range", "accept-ranges")
_JSON = ("application/dicom+json", "application/json")
_ALWAYS_ASK, _FOR_AN_HOUR = "private, no-cache", "private, max-age=3600"
_STUDY_NAMES = ("StudyInstanceUID", "0020000D")


@dataclass(frozen=True)
class _Route:
    """What a request of this door is counted as."""

    path: str = f"{_DOOR}/{{archive}}"


@dataclass(frozen=True)
class ArchiveDoor:
    """The ASGI middleware before `/dicomweb`, behind the doorkeeper: everybody is known who gets here.

    What is uploaded to this server is served by it; everything else is the archive's. Only reading is handed on, and
    instances that a reviewer stores.
    """

    app: ASGIApp
    archive: ArchiveRelay
    shelf: Shelf
    limits: Limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the archive where it is its business."""
        if scope["type"] != "http" or not scope["path"].startswith(f"{_DOOR}/"):
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(_DOOR)
        if scope["method"] != "POST" and await run_in_threadpool(self._is_ours, path, scope["query_string"]):
            await self.app(scope, receive, send)
            return
        scope["route"] = _Route()
        question = self._question(path, Request(scope, receive))
        async with self.archive.asked(question) as answer:
            await self._response(answer, Request(scope))(scope, receive, send)

    def _is_ours(self, path: str, query: bytes) -> bool:
        """Say whether a request is about what was uploaded here, and only that."""
        words = path.strip("/").split("/")
        named = dict(zip(words[::2], words[1::2], strict=False))
        study = named.get("studies")
        if study is None:
            asked = parse_qs(query.decode("latin-1"))
            study = next((asked[name][0] for name in _STUDY_NAMES if name in asked), None)
        if study is None:
            return False
        try:
            found = self.shelf.study(study)
        except NotFound:
            return False
        series = named.get("series")
        about = [each for each in found if series in (None, each.series)]
        return bool(about) and all(case.is_uploaded for each in about for case in each.cases)

    def _question(self, path: str, request: Request) -> ArchiveQuestion:
        """Return a request as it is handed on; raises NotFound, a 405, and NotAllowed for who may not store."""
        method = request.method
        if not _PATH.fullmatch(path) or ".." in path:
            raise NotFound("there is no such address")
        if not _QUERY.fullmatch(request.scope["query_string"]):
            raise HTTPException(400, "The query has characters that an address cannot have.")
        body: AsyncIterator[bytes] | None = None
        if method == "POST":
            if not _STORE.fullmatch(path):
                raise HTTPException(405, "Instances are stored at /dicomweb/studies.", {"Allow": "GET, HEAD"})
            request.state.person.must_be(Role.REVIEWER)
            check_length(request.headers.get("content-length"), self.limits.upload_bytes)
            log.info(
                "instances are stored in the archive", extra={"action": "store", "person": request.state.person.name}
            )
            body = chunks(request, self.limits.upload_bytes, self.limits)
        elif method not in ("GET", "HEAD"):
            raise HTTPException(405, "Nothing is changed in the archive.", {"Allow": "GET, HEAD, POST"})
        headers = {name: request.headers[name] for name in _ASKED if name in request.headers}
        if body is None:
            headers.pop("content-length", None)
        return ArchiveQuestion(method, path, request.scope["query_string"], headers, body)

    def _response(self, answer: ArchiveAnswer, request: Request) -> StreamingResponse:
        """Return an answer as it is sent on: no cookie, no connection's header, no page of another site."""
        given = Headers(answer.headers)
        headers = {name: given[name] for name in _ANSWERED if name in given}
        kind = given.get("content-type", "")
        if "html" in kind or "xml" in kind.split(";")[0].replace("dicom+xml", ""):
            kind = "text/plain; charset=utf-8"
        is_plain = given.get("content-encoding", "identity") == "identity"
        content = answer.chunks
        if kind.split(";")[0].strip() in _JSON and is_plain and answer.status == 200 and request.method == "GET":
            ours = str(request.base_url).rstrip("/") + _DOOR
            content = renamed(content, self.archive.root.encode(), ours.encode())
            headers["Vary"] = "Accept, Accept-Encoding, Authorization, Cookie"
            if takes_gzip(request.headers.get("accept-encoding", "")):
                headers["Content-Encoding"] = "gzip"
                content = gzipped(content)
            headers = _weakened(headers)
        else:
            headers |= {name: given[name] for name in ("content-length", "content-encoding") if name in given}
        headers.setdefault("cache-control", _FOR_AN_HOUR if "/frames/" in request.url.path else _ALWAYS_ASK)
        if kind:
            headers["content-type"] = kind
        return StreamingResponse(content, answer.status, headers)


async def renamed(content: AsyncIterator[bytes], old: bytes, new: bytes) -> AsyncIterator[bytes]:
    """Yield a text with one address in place of another, also where it is split over two chunks."""
    kept = b""
    async for chunk in content:
        text = (kept + chunk).replace(old, new)
        cut = max(0, len(text) - len(old) + 1)
        kept = text[cut:]
        if cut:
            yield text[:cut]
    if kept:
        yield kept


async def gzipped(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a text as gzip while it comes."""
    packer = zlib.compressobj(3, wbits=zlib.MAX_WBITS + 16)
    async for chunk in content:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()


def _weakened(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers whose tag is weak: the bytes are no longer the archive's own."""
    tag = headers.get("etag", "")
    return {**headers, **({"etag": f"W/{tag}"} if tag and not tag.startswith("W/") else {})}
