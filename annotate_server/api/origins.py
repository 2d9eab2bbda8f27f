"""Pages of other websites that the administrator named: their browsers are told that they may read what is answered."""

from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ASKED_FIRST = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Accept, Authorization, Content-Type, If-Match, Range, X-Annotate-Name",
    "Access-Control-Max-Age": "600",
    "Cache-Control": "no-store",
}
_READABLE = "Content-Disposition, Content-Range, ETag, Location, Retry-After, X-Request-Id"


@dataclass
class OtherOrigins:
    """The ASGI middleware around the doorkeeper: errors of his get the headers too (Fetch Standard, CORS protocol).

    A cookie is never asked for: such a page shows a token, or is on a server where nobody signs in.
    """

    app: ASGIApp
    origins: frozenset[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a browser that asks first, and add to every other answer who may read it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        origin = asked.get("origin")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Origin")
                if origin in self.origins:
                    headers["Access-Control-Allow-Origin"] = origin
                    headers["Access-Control-Expose-Headers"] = _READABLE
            await send(message)

        is_first = scope["method"] == "OPTIONS" and "access-control-request-method" in asked
        if is_first and origin in self.origins:
            await Response(status_code=204, headers=_ASKED_FIRST)(scope, receive, answer)
        else:
            await self.app(scope, receive, answer)
