"""A DICOM archive that answers what a test wants, and remembers what it was asked."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from annotate_server.domain.archive import ArchiveAddress


@dataclass
class Answer:
    """What is answered; `wait` holds it back, `cut` announces more than is sent."""

    status: int = 200
    content: bytes = b"[]"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/dicom+json"})
    wait: threading.Event | None = None
    cut: bool = False


@dataclass
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: httpx.Headers
    body: bytes


@dataclass
class FakeArchive:
    """Answers by path; a path that is not there answers 404."""

    url: str = ""
    answers: dict[str, Answer | Callable[[Asked], Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def address(self, timeout_s: float = 5.0, authorization: str | None = None) -> ArchiveAddress:
        return ArchiveAddress(f"{self.url}/rs", authorization, timeout_s=timeout_s)


@contextmanager
def fake_archive() -> Iterator[FakeArchive]:
    """Give an archive on a free port of the loopback address."""
    archive = FakeArchive()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            asked = Asked(self.command, self.path, httpx.Headers(list(self.headers.items())), self.rfile.read(length))
            archive.asked.append(asked)
            found = archive.answers.get(self.path.split("?")[0].removeprefix("/rs"), Answer(404, b"", {}))
            given = found if isinstance(found, Answer) else found(asked)
            if given.wait is not None:
                given.wait.wait(30)
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            if given.status not in (204, 304):
                self.send_header("Content-Length", str(len(given.content) + given.cut))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(given.content)
            self.close_connection = given.cut

        do_GET = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815  the names that the library calls

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    archive.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
