"""One end of the socket between a caller and the process that parses: length-prefixed messages and open files."""

import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import BinaryIO, cast

from annotate_server.imaging.wire import Packed

_PREFIX = struct.Struct("<II")
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
MAX_TEXT_BYTES = 1 << 28
"""A message of names and numbers is never near this; whoever announces more has lost the thread."""
MAX_FILES = 250
"""Linux takes at most 253 file descriptors with one message (SCM_MAX_FD)."""


class ChannelClosed(Exception):
    """The other end is gone."""


class ChannelTimeout(Exception):
    """The other end did not answer in time."""


@dataclass(frozen=True)
class Channel:
    """A connected stream socket."""

    connection: socket.socket

    def send(self, packed: Packed) -> None:
        """Send a message and close its files on this side; raises ChannelClosed."""
        try:
            descriptors = [file.fileno() for file in packed.files]
            if len(descriptors) > MAX_FILES or len(packed.text) > MAX_TEXT_BYTES:
                raise ValueError(f"a message of {len(packed.text)} bytes and {len(descriptors)} files is too large")
            self.connection.settimeout(None)
            prefix = _PREFIX.pack(len(packed.text), len(descriptors))
            socket.send_fds(self.connection, [prefix], descriptors)
            self.connection.sendall(packed.text)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosed from error
        finally:
            packed.close()

    def receive(self, timeout_s: float | None = None) -> Packed:
        """Return the next message; raises ChannelClosed or ChannelTimeout."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            self._wait_until(deadline)
            prefix, descriptors, _, _ = socket.recv_fds(self.connection, _PREFIX.size, MAX_FILES, _CLOSE_ON_EXEC)
            files = tuple(cast("BinaryIO", os.fdopen(descriptor, "r+b")) for descriptor in descriptors)
            prefix += self._exactly(_PREFIX.size - len(prefix), deadline)
            length, count = _PREFIX.unpack(prefix)
            if length > MAX_TEXT_BYTES or count != len(files):
                raise ChannelClosed("the other end does not keep to the protocol")
            return Packed(self._exactly(length, deadline), files)
        except TimeoutError as error:
            raise ChannelTimeout from error
        except ConnectionResetError as error:
            raise ChannelClosed from error

    def has_message(self, within_s: float) -> bool:
        """Say whether there is something to receive, the end of the other side included."""
        poll = select.poll()  # select.select takes no descriptor above 1023, and a busy server has such
        poll.register(self.connection, select.POLLIN)
        return bool(poll.poll(within_s * 1000))

    def _exactly(self, count: int, deadline: float | None) -> bytes:
        """Return the next `count` bytes."""
        parts = bytearray()
        while len(parts) < count:
            self._wait_until(deadline)
            part = self.connection.recv(min(count - len(parts), 1 << 20))
            if not part:
                raise ChannelClosed
            parts += part
        return bytes(parts)

    def _wait_until(self, deadline: float | None) -> None:
        """Let the next read of the socket take no longer than the deadline."""
        if deadline is None:
            self.connection.settimeout(None)
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(left)
