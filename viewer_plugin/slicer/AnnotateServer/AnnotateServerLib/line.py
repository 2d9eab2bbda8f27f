"""The line to a server: Qt's own network access, which never holds the window up, nor needs a thread of Python.

Bodies are raw bytes. Answers are asked for as gzip and inflated here: Qt refuses what compresses very well as a bomb,
and empty labelmaps do.
"""

from __future__ import annotations

import zlib
from typing import Callable, NamedTuple

import qt

from AnnotateServerLib.problem import Problem, cancelled, problem_of, unreachable

_GZIP = b"\x1f\x8b"
_WORTH_PACKING_BYTES = 2048
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Request(NamedTuple):
    """What is asked of the server; `decoded` makes a value of the answer's bytes.

    `timeout_s` is how long nothing may come. `revision` is the one that a change was made on.
    """

    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"
    revision: int | None = None
    timeout_s: float = 30.0
    is_packed: bool = False
    decoded: Callable[[bytes], object] = bytes


class Line:
    """HTTP to one server."""

    def __init__(self, address: str, token: str = "", name: str = "") -> None:
        self.address, self.token, self.name = tidied(address), token.strip(), name.strip()
        self._network = qt.QNetworkAccessManager()
        if qt.QUrl(self.address).host() in _LOOPBACK:
            self._network.setProxy(qt.QNetworkProxy(qt.QNetworkProxy.NoProxy))
        self._sendings: set = set()

    def send(self, request: Request, done: Callable, failed: Callable, progress: Callable | None = None) -> Sending:
        """Send a request; one of `done(value)` and `failed(problem)` is called later, never before this returns."""
        body = zlib_packed(request.body) if request.is_packed else request.body
        asked = self._asked(request, packed=body is not request.body)
        reply = getattr(self, f"_{request.method.lower()}")(asked, body)
        sending = Sending(reply, request, (done, failed, progress))
        self._sendings.add(sending)  # what nobody refers to, Qt forgets
        reply.connect("readyRead()", sending.come)
        reply.connect("finished()", lambda: self._finished(sending))
        if progress is not None:
            reply.connect("uploadProgress(qint64,qint64)", lambda sent, whole: sending.moved("up", sent, whole))
            reply.connect("downloadProgress(qint64,qint64)", lambda come, whole: sending.moved("down", come, whole))
        return sending

    def close(self) -> None:
        """Stop everything that is under way; nobody is called back."""
        for sending in tuple(self._sendings):
            sending.forget()
        self._sendings.clear()

    def _finished(self, sending: Sending) -> None:
        self._sendings.discard(sending)
        sending.finish()

    def _asked(self, request: Request, packed: bool) -> object:
        asked = qt.QNetworkRequest(qt.QUrl(f"{self.address}{request.path}"))
        asked.setAttribute(qt.QNetworkRequest.RedirectPolicyAttribute, qt.QNetworkRequest.ManualRedirectPolicy)
        asked.setTransferTimeout(int(1000 * request.timeout_s))
        headers = {"Accept-Encoding": "gzip"}
        if request.method not in ("GET", "DELETE"):
            headers["Content-Type"] = request.content_type
        if packed:
            headers["Content-Encoding"] = "gzip"
        if request.revision is not None:
            headers["If-Match"] = f'"{request.revision}"'
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        elif self.name:
            headers["X-Annotate-Name"] = self.name
        for header, value in headers.items():
            asked.setRawHeader(qt.QByteArray(header.encode()), qt.QByteArray(value.encode("latin-1", "replace")))
        return asked

    def _get(self, asked: object, body: bytes) -> object:
        return self._network.get(asked)

    def _delete(self, asked: object, body: bytes) -> object:
        return self._network.deleteResource(asked)

    def _post(self, asked: object, body: bytes) -> object:
        return self._network.post(asked, qt.QByteArray(body))

    def _put(self, asked: object, body: bytes) -> object:
        return self._network.put(asked, qt.QByteArray(body))

    def _patch(self, asked: object, body: bytes) -> object:
        return self._network.sendCustomRequest(asked, qt.QByteArray(b"PATCH"), qt.QByteArray(body))


class Sending:
    """A request under way."""

    def __init__(self, reply: object, request: Request, told: tuple) -> None:
        self._reply, self._request = reply, request
        self._done, self._failed, self._progress = told
        self._is_stopped, self._parts = False, []

    def come(self) -> None:
        """Take over what has come so far: a large answer piece by piece."""
        if not self._is_stopped:
            self._parts.append(_bytes(self._reply.readAll()))

    def stop(self) -> None:
        """Give it up: `failed` is called, with what says so."""
        self._is_stopped = True
        self._reply.abort()

    def forget(self) -> None:
        """Give it up, and call nobody."""
        self._done = self._failed = lambda _: None
        self._progress = None
        self.stop()

    def moved(self, way: str, count: int, whole: int) -> None:
        """Say how far it is, where the length is known."""
        if self._progress is not None and whole > 0:
            self._progress(way, count / whole)

    def finish(self) -> None:
        """Call who waits for it."""
        reply, self._progress = self._reply, None
        status = reply.attribute(qt.QNetworkRequest.HttpStatusCodeAttribute)
        self.come()
        body, said = b"".join(self._parts), reply.errorString()
        reply.deleteLater()
        try:
            value = self._value(int(status or 0), body, said, reply.error() == qt.QNetworkReply.NoError)
        except Problem as problem:
            self._failed(problem)
        else:
            self._done(value)

    def _value(self, status: int, body: bytes, said: str, is_whole: bool) -> object:
        if self._is_stopped:
            raise cancelled()
        body = inflated(body)
        if 200 <= status < 300 and is_whole:
            return self._request.decoded(body)
        if 200 <= status < 300 or status == 0:
            raise unreachable(said)
        raise problem_of(status, body, said)


def tidied(address: str) -> str:
    """Return an address as people type it with a scheme and without what follows the host; raises Problem."""
    text = address.strip()
    if text and "://" not in text:
        text = f"http://{text}"
    url = qt.QUrl(text)
    if url.scheme() not in ("http", "https") or not url.host():
        remedy = "It looks like http://127.0.0.1:8000; `annotate serve` prints it."
        raise Problem(f"“{address.strip()}” is no address of a server.", remedy)
    return text.rstrip("/")


def zlib_packed(body: bytes) -> bytes:
    """Return bytes as gzip where that is worth it, else the very same object."""
    if len(body) < _WORTH_PACKING_BYTES:
        return body
    deflater = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS + 16)
    return deflater.compress(body) + deflater.flush()


def inflated(body: bytes) -> bytes:
    """Return what gzip holds; other bytes as they are. Raises Problem for damage."""
    if not body.startswith(_GZIP):
        return body
    try:
        return zlib.decompress(body, zlib.MAX_WBITS + 16)
    except zlib.error as error:
        raise Problem("The server's answer was cut off.", "Try it again.") from error


def _bytes(content: object) -> bytes:
    """Return a QByteArray as bytes."""
    found = content.data()
    return found if isinstance(found, bytes) else bytes(found)
