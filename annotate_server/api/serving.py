"""The server's place in the network: which address it may take, and a run that ends cleanly on SIGTERM."""

import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from annotate_server.api.app import begin_drain
from annotate_server.api.services import ApiOptions, Limits
from annotate_server.api.viewer_build import BUILT
from annotate_server.domain.errors import InvalidSettings

DRAIN_S = 9
"""How long requests in flight may take after SIGTERM; with the workers' end it stays within 30 s."""
_HEADER_BYTES = 16 << 10
_CONNECTIONS = 512
_KEEP_ALIVE_S = 30
_BACKLOG = 256


@dataclass(frozen=True)
class Binding:
    """An address to serve on; port 0 takes a free one. `behind_proxy` declares a proxy that ends TLS before it."""

    host: str = "127.0.0.1"
    port: int = 8000
    tls_cert: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False

    @property
    def is_loopback(self) -> bool:
        """Say whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def has_tls(self) -> bool:
        """Say whether the server itself speaks TLS."""
        return self.tls_cert is not None and self.tls_key is not None

    def check(self, *, has_users: bool) -> None:
        """Raise InvalidSettings for an address that would let strangers in."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidSettings("TLS takes both --tls-cert and --tls-key")
        for file in (self.tls_cert, self.tls_key):
            if file is not None and not file.is_file():
                raise InvalidSettings("there is no such file", source=str(file))
        if self.is_loopback and not self.behind_proxy:
            return
        if not has_users:
            raise InvalidSettings(
                f"without users, {self.host} would let everybody in",
                remedy="Run: annotate users add NAME --role admin",
            )
        if not (self.has_tls or self.behind_proxy):
            raise InvalidSettings(
                f"without TLS, tokens would cross the network in the clear on {self.host}",
                remedy="Give --tls-cert and --tls-key, or --behind-proxy where a proxy speaks TLS.",
            )

    def options(self, limits: Limits) -> ApiOptions:
        """Return how the application has to behave at this address."""
        is_private = self.is_loopback and not self.behind_proxy
        is_secure = self.has_tls or self.behind_proxy
        if not is_private:
            return ApiOptions(alone=False, is_secure=is_secure, host_names=None, limits=limits, viewer=BUILT)
        return ApiOptions(alone=True, is_secure=is_secure, limits=limits, viewer=BUILT)

    def bound(self) -> socket.socket:
        """Return a listening socket; InvalidSettings where the address cannot be had."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # asyncio sets TCP_NODELAY only where the protocol is named: without it every answer waits 40 ms for an ACK
        taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((self.host, self.port))
            taken.listen(_BACKLOG)
        except OSError as error:
            taken.close()
            raise InvalidSettings(
                f"the address {self.host}:{self.port} cannot be had ({error.strerror or error})",
                remedy="Name another with --host and --port; --port 0 takes a free one.",
            ) from error
        return taken

    def url(self, taken: socket.socket) -> str:
        """Return the address as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.has_tls else 'http'}://{host}:{taken.getsockname()[1]}"


class DrainingServer(uvicorn.Server):
    """Uvicorn's server, which says when it listens, and drains before it stops."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, started: Callable[[], None]) -> None:
        """Keep the application and whom to tell."""
        super().__init__(config)
        self._app = app
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take no more requests, let event streams end, then stop."""
        begin_drain(self._app)
        super().handle_exit(sig, frame)


def server_of(app: FastAPI, binding: Binding, started: Callable[[], None]) -> DrainingServer:
    """Return the server of an application, not yet running."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=binding.behind_proxy,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        ssl_certfile=binding.tls_cert,
        ssl_keyfile=binding.tls_key,
    )
    return DrainingServer(config, app, started)


def run(app: FastAPI, binding: Binding, taken: socket.socket, started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, and return: both are the ordinary end. `started` is told the URL."""
    server = server_of(app, binding, lambda: started(binding.url(taken)))
    before = {kind: signal.signal(kind, _ends) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[taken])
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _ends(_signal: int, _frame: FrameType | None) -> None:
    """Take the signal that uvicorn raises again once it has stopped."""
