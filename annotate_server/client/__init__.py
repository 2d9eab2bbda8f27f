"""A Python client of the server: `AnnotateClient`, and `ClientSession` for an open case."""

from annotate_server.client.client import AnnotateClient
from annotate_server.client.session import ClientSession

__all__ = ["AnnotateClient", "ClientSession"]
