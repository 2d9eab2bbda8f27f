"""Stands between a client and the server, hands everything on, and keeps what was asked and answered."""

import base64
import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

KEPT = ("content-type", "accept", "range")
"""The headers that say anything about a request; the others are the transport's."""
_HANDED_ON = {*KEPT, "authorization", "if-range", "origin"}
_LOCAL = re.compile(rb'filename="[^"]*/([^"/]+)"')


@dataclass(frozen=True)
class Exchange:
    """A request, and what came of it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int
    answered: Mapping[str, str]
    answer: bytes

    def golden(self, cases: Mapping[str, str]) -> Mapping[str, Any]:
        """Return it as it is kept: `cases` are ids that differ from site to site, by name."""
        path, body = self.path, _LOCAL.sub(rb'filename="/home/anne/Slicer files/\1"', self.body)
        for name, case_id in cases.items():
            path = path.replace(case_id, f"{{{name}}}")
        kind = self.answered.get("content-type", "").split(";")[0]
        found = json.loads(self.answer) if kind.endswith("json") and self.answer else None
        return {
            "method": self.method,
            "path": path,
            "headers": dict(self.headers),
            **_text(body),
            "status": self.status,
            "kind": kind,
            "keys": sorted(found) if isinstance(found, dict) and self.status == 200 else [],
        }


def followed(exchanges: Sequence[Exchange]) -> Sequence[Exchange]:
    """Return them with each request that was led elsewhere answered by what it came to.

    Where the server's own pages are is not the clients' concern, and depends on whether the viewer is built.
    """
    kept: list[Exchange] = []
    for each in exchanges:
        if kept and kept[-1].answered.get("location") == each.path:
            kept[-1] = replace(kept[-1], status=each.status, answered=each.answered, answer=each.answer)
        else:
            kept.append(each)
    return kept


def _text(body: bytes) -> Mapping[str, str]:
    try:
        return {"body": body.decode("ascii")} if body else {}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


@dataclass
class Recording:
    """What went through, in order; `url` is where clients go."""

    url: str
    exchanges: list[Exchange] = field(default_factory=list)


@contextmanager
def recording(target: str) -> Iterator[Recording]:
    """Give a recorder before a server."""
    there = urlsplit(target)
    kept = Recording("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def hand_on(self) -> None:
            body = self._body()
            headers = {name: value for name, value in self.headers.items() if name.lower() in _HANDED_ON}
            line = http.client.HTTPConnection(there.hostname or "", there.port, timeout=120)
            line.request(self.command, self.path, body or None, headers)
            response = line.getresponse()
            content = response.read()
            answered = {name.lower(): value for name, value in response.getheaders()}
            line.close()
            said = {name: self.headers[name] for name in KEPT if name in self.headers}
            kept.exchanges.append(Exchange(self.command, self.path, said, body, response.status, answered, content))
            self.send_response(response.status)
            for name, value in answered.items():
                if name not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("transfer-encoding", ""):
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.hand_on)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
