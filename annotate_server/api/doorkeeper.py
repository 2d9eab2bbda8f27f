"""What every request passes before any route: name of the server, limits, who asks. Deny by default."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from annotate_server.api import problems
from annotate_server.api.bodies import chunks
from annotate_server.api.flow import Flow, Flowing
from annotate_server.api.metrics import Metrics
from annotate_server.api.services import ApiOptions
from annotate_server.api.who import COOKIE, Identification
from annotate_server.domain.errors import AnnotateError, NotSignedIn, ShuttingDown
from annotate_server.domain.person import Person
from annotate_server.domain.timing import counted_parts

OPEN_PATHS = frozenset({"/health/live", "/health/ready", "/sign-in", "/auth/", "/auth", "/auth/token"})
"""What needs nobody signed in: an explicit list, everything else does."""
_HEALTH = "/health/"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


@dataclass
class _Answer:
    """The way back: adds headers, says where the time went, and remembers the status.

    `parts` are the seconds that each part has taken so far, `began` is the clock at the beginning.
    """

    send: Send
    request_id: str
    is_secure: bool
    parts: Mapping[str, float]
    began: float
    status: int = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            seconds = {**self.parts, "total": time.perf_counter() - self.began}
            headers["Server-Timing"] = ", ".join(f"{name};dur={s * 1e3:.1f}" for name, s in seconds.items())
            if self.is_secure:
                headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        await self.send(message)


@dataclass
class Doorkeeper:
    """The ASGI middleware around everything else."""

    app: ASGIApp
    options: ApiOptions
    identification: Identification
    flow: Flow
    metrics: Metrics
    _threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(4), init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with a problem."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        began = time.perf_counter()
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        with counted_parts() as parts:
            answer = _Answer(send, request_id, self.options.is_secure, parts, began)
            self.metrics.in_flight.inc()
            try:
                await self._answered(scope, receive, answer)
            finally:
                self.metrics.in_flight.dec()
                self._count(scope, answer.status, time.perf_counter() - began)

    async def _answered(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        """Answer, whatever happens: this is the last handler."""
        try:
            await self._passed(scope, receive, answer)
            return
        except ClientDisconnect:
            return
        except AnnotateError as error:
            response = problems.response_of(problems.body_of(error), scope)
        except asyncio.CancelledError:
            if not self.flow.is_draining:
                raise
            ended = ShuttingDown("the server has shut down before this was done", remedy="See what was, and ask again.")
            response = problems.response_of(problems.body_of(ended), scope)
        except HTTPException as error:
            response = problems.response_of(problems.http_body(error), scope)
            response.headers.update(error.headers or {})
        except Exception as error:
            response = problems.unforeseen(error, scope)
        if not answer.status:
            await response(scope, receive, answer)

    async def _passed(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        """Check the request and hand it on."""
        path, request = scope["path"], Request(scope, receive)
        self._check_host(request.headers)
        if path.startswith(_HEALTH):
            await self.app(scope, receive, answer)
            return
        with self.flow.entered():
            if path in OPEN_PATHS:
                await self.app(scope, await self._body(scope, receive), answer)
                return
            try:
                person = await self._person(request)
            except NotSignedIn:
                if not _is_page(request):
                    raise
                await RedirectResponse("/sign-in", 303)(scope, receive, answer)
                return
            scope["state"]["person"] = person
            async with self.flow.by(person.name, _kind_of(path)):
                await self.app(scope, await self._body(scope, receive), answer)

    def _check_host(self, headers: Headers) -> None:
        """Refuse a request that calls the server by a name that is not its own (DNS rebinding)."""
        names = self.options.host_names
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0] if host.rsplit(":", 1)[-1].isdecimal() else host
        if names is not None and name.lower() not in names:
            raise HTTPException(400, "The Host header names another server.")

    async def _person(self, request: Request) -> Person:
        """Return who asks; the users are looked up in a thread of its own, so that waiting prompts hold nobody up."""
        cookie = request.cookies.get(COOKIE)
        ask = self.identification.person
        return await to_thread.run_sync(ask, request.method, request.headers, cookie, limiter=self._threads)

    async def _body(self, scope: Scope, receive: Receive) -> Receive:
        """Return where the body comes from: read whole under the small limit, unless its route reads it itself."""
        # no route reads a body of these, and some clients announce the body of their last request with them
        if scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE") or _brings_voxels(scope):
            return receive
        limits = self.options.limits
        content = bytearray()
        async for part in chunks(Request(scope, receive), limits.json_bytes, limits):
            content += part
        messages: list[Message] = [{"type": "http.request", "body": bytes(content), "more_body": False}]

        async def again() -> Message:
            return messages.pop() if messages else await receive()

        return again

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if route != "none" else "any"
        self.metrics.requests.labels(method, route, str(status)).inc()
        if not scope["path"].endswith("/events"):
            self.metrics.seconds.labels(method, route).observe(seconds)


def _kind_of(path: str) -> Flowing:
    """Return what a request is counted with."""
    if path.endswith("/events"):
        return Flowing.STREAM
    return Flowing.PREDICTION if path.startswith("/infer/") else Flowing.QUICK


def _brings_voxels(scope: Scope) -> bool:
    """Say whether the route reads its body itself, with its own limit."""
    match scope["method"], scope["path"].strip("/").split("/"):
        case ("POST", ["api", "v1", "cases"]) | ("PUT", ["api", "v1", "sessions", _, "labelmap"]):
            return True
        case ("POST", ["api", "v1", "projects", _, "cases", _, "labels"]):
            return True
        case ("POST", ["dicomweb", "studies"] | ["dicomweb", "studies", _]):
            return True
        case ("POST", ["infer", _]) | ("PUT", ["datastore"] | ["datastore", "image" | "label"] | ["session"]):
            return True
    return False


def _is_page(request: Request) -> bool:
    """Say whether a browser asks for a page to show."""
    is_api = request.url.path.startswith(("/api/", "/dicomweb/"))
    return request.method == "GET" and not is_api and "text/html" in request.headers.get("accept", "")
