"""The line to a DICOM archive: DICOMweb over HTTP, to the one configured address and nowhere else."""

import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from annotate_server.domain.archive import ArchiveAddress, ArchiveAnswer, ArchiveQuestion
from annotate_server.domain.errors import (
    ArchiveRefused,
    ArchiveTooSlow,
    ArchiveUnreachable,
    InvalidSettings,
    TooLarge,
)

JSON_TYPE = "application/dicom+json"
_MOST_JSON_BYTES = 64 << 20
_CONNECT_S = 10.0
_LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=16)
_CREDENTIALS = "Set ANNOTATE_ARCHIVE_USER and ANNOTATE_ARCHIVE_PASSWORD, or ANNOTATE_ARCHIVE_TOKEN, to what it takes."
_STEP = 1 << 18


class ArchiveLine:
    """HTTP to an archive, for the server's own questions (threads) and for those that it hands on (event loop).

    No redirect is followed, no proxy and no password file of the environment is used.
    """

    def __init__(self, address: ArchiveAddress) -> None:
        """Prepare the line; nothing is sent yet. Raises InvalidSettings for certificates that cannot be read."""
        self.root = address.root
        self._address = address
        self._host = urlsplit(address.root).netloc
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "annotate-server"}
        if address.authorization is not None:
            self._headers["Authorization"] = address.authorization
        self._timeout = httpx.Timeout(address.timeout_s, connect=min(_CONNECT_S, address.timeout_s))
        self._trust = _trusted(address.certificates)
        self._http = httpx.Client(
            verify=self._trust, trust_env=False, timeout=self._timeout, limits=_LIMITS, cookies=_no_cookies()
        )
        self._relay: httpx.AsyncClient | None = None

    def hang_up(self) -> None:
        """Close the lines of the server's own questions."""
        self._http.close()

    def rows(self, path: str, query: Sequence[tuple[str, str]]) -> tuple[Mapping[str, Any], ...]:
        """Return what a search finds; raises ArchiveRefused for what is no list of objects."""
        with self.answered("GET", path, {"Accept": JSON_TYPE}, query) as response:
            if response.status_code == httpx.codes.NO_CONTENT:
                return ()
            text = b"".join(bounded(response.iter_bytes(), _MOST_JSON_BYTES))
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArchiveRefused("it answered a search with what is no JSON", source=self._host) from error
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise ArchiveRefused("it answered a search with what is no list", source=self._host)
        return tuple(found)

    @contextmanager
    def answered(
        self, method: str, path: str, headers: Mapping[str, str], query: Sequence[tuple[str, str]] = ()
    ) -> Iterator[httpx.Response]:
        """Give an answer that is read while it comes; anything but a success is raised."""
        request = self._http.build_request(
            method, f"{self.root}{path}", params=list(query), headers={**self._headers, **headers}
        )
        with self._translated():
            response = self._http.send(request, stream=True)
            try:
                self._check(response)
                if not response.is_success:
                    raise ArchiveRefused(f"it answered {response.status_code}", source=self._host)
                yield response
            finally:
                response.close()

    def posted(self, path: str, file: Path, boundary: str) -> httpx.Response:
        """Return what the archive says to a DICOM file, whatever its status."""
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        size = str(len(head) + file.stat().st_size + len(tail))
        headers = {**self._headers, "Accept": JSON_TYPE, "Content-Type": kind, "Content-Length": size}
        with self._translated():
            response = self._http.post(f"{self.root}{path}", content=_body(head, file, tail), headers=headers)
            self._check(response)
            return response

    @asynccontextmanager
    async def asked(self, question: ArchiveQuestion) -> AsyncIterator[ArchiveAnswer]:
        """Give what the archive answers to somebody else's question; fulfils `archive.ArchiveRelay`."""
        if self._relay is None:
            self._relay = httpx.AsyncClient(
                verify=self._trust, trust_env=False, timeout=self._timeout, limits=_LIMITS, cookies=_no_cookies()
            )
        url = httpx.URL(f"{self.root}{question.path}")
        headers = {**question.headers, **self._headers}
        request = self._relay.build_request(question.method, url, headers=headers, content=question.body)
        if question.query:  # as it came: a library would write it in its own way
            request.extensions["target"] = url.raw_path + b"?" + question.query
        with self._translated():
            response = await self._relay.send(request, stream=True)
            try:
                self._check(response)
                yield ArchiveAnswer(response.status_code, dict(response.headers), response.aiter_raw())
            finally:
                await response.aclose()

    async def close(self) -> None:
        """Close the lines of the questions that were handed on."""
        if self._relay is not None:
            await self._relay.aclose()
            self._relay = None

    def _check(self, response: httpx.Response) -> None:
        """Raise for an answer that nobody but the server itself can do something about."""
        status = response.status_code
        if status in (401, 403, 407):
            raise ArchiveRefused(f"it does not let the server in ({status})", source=self._host, remedy=_CREDENTIALS)
        if 300 <= status < 400 and status != 304:
            raise ArchiveRefused(
                f"it sends on to another address ({status}), which is not followed",
                source=self._host,
                remedy="Start the server with the address that it sends on to: --studies.",
            )
        if status in (502, 503, 504):
            raise ArchiveUnreachable(f"it cannot answer now ({status})", source=self._host, remedy=_LATER)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the errors of HTTP into those of the domain."""
        try:
            yield
        except httpx.TimeoutException as error:
            raise ArchiveTooSlow(
                f"it did not answer within {self._address.timeout_s:g} s", source=self._host, remedy=_LATER
            ) from error
        except httpx.HTTPError as error:
            raise ArchiveUnreachable(
                f"it cannot be reached ({type(error).__name__})", source=self._host, remedy=_LATER
            ) from error


def bounded(chunks: Iterator[bytes], most_bytes: int) -> Iterator[bytes]:
    """Yield chunks as long as they are no more than this together; else raises TooLarge."""
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if count > most_bytes:
            raise TooLarge(f"the archive sends more than the limit of {most_bytes} bytes")
        yield chunk


def check_address(root: str) -> None:
    """Raise InvalidSettings for what is no address of an archive."""
    try:
        parts = urlsplit(root)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
        parts = urlsplit("")
    if not is_address:
        raise InvalidSettings("it is no address of a DICOM archive", remedy="Name one as http://host:port/path.")
    if parts.username or parts.password:
        raise InvalidSettings(
            "an address holds no password: everybody on this machine could read it", remedy=_CREDENTIALS
        )
    if parts.query or parts.fragment:
        raise InvalidSettings("the address of an archive has neither ? nor #", source=root)


def _no_cookies() -> CookieJar:
    """Return a jar that takes no cookie: what the archive says to one person is nothing to another."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))


def _trusted(certificates: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if certificates is None else str(certificates))
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings("it holds no certificates (PEM)", source=str(certificates)) from error


def _body(head: bytes, file: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with file.open("rb") as stream:
        while part := stream.read(_STEP):
            yield part
    yield tail


_LATER = "Look whether it runs; the server asks again."
