"""The line to a server: requests, and its problems as the errors that they were."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from annotate_server.domain.errors import AnnotateError, CaseTaken, Problem, TryLater, error_of

NAME_HEADER = "X-Annotate-Name"
_PREFIX = "urn:annotate-server:problem:"
_TRIES = 4


class Connection:
    """HTTP to one server; safe to use from several threads.

    A GET that is answered with 503 or 429 is tried again after the time that the server names; a change never is: the
    caller decides.
    """

    longest_wait_s = 10.0

    def __init__(self, url: str, token: str | None = None, name: str | None = None, timeout_s: float = 60.0) -> None:
        """Prepare the line; nothing is sent yet."""
        headers = {"Accept-Encoding": "gzip"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if name is not None:
            headers[NAME_HEADER] = name
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s)

    def close(self) -> None:
        """Close the line."""
        self._http.close()

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> httpx.Response:
        """Return the answer to a GET, tried again where the server asks for patience."""
        for tried in range(_TRIES):
            try:
                return self._sent(self._http.build_request("GET", path, params=params))
            except TryLater as error:
                if tried == _TRIES - 1:
                    raise
                time.sleep(min(float(error.retry_after_s), self.longest_wait_s))
        raise AssertionError("unreachable")

    def get_json(self, path: str, params: Mapping[str, str | int] | None = None) -> Any:
        """Return what a GET answers, as JSON values."""
        return self.get(path, params).json()

    def send(self, method: str, path: str, body: object = None, if_match: int | None = None) -> httpx.Response:
        """Return the answer to a change: `body` goes as JSON where there is one."""
        headers = {} if if_match is None else {"If-Match": f'"{if_match}"'}
        return self._sent(self._http.build_request(method, path, json=body, headers=headers))

    def send_bytes(self, method: str, path: str, content: Any, headers: Mapping[str, str]) -> httpx.Response:
        """Return the answer to bytes, or to what yields them."""
        return self._sent(self._http.build_request(method, path, content=content, headers=dict(headers)))

    @contextmanager
    def streaming(self, path: str, params: Mapping[str, str | int] | None = None) -> Iterator[httpx.Response]:
        """Give an answer that is read while it comes."""
        with translated(), self._http.stream("GET", path, params=params) as response:
            if response.is_error:
                response.read()
                raise error_in(response)
            yield response

    def _sent(self, request: httpx.Request) -> httpx.Response:
        with translated():
            response = self._http.send(request)
        if response.is_error:
            raise error_in(response)
        return response


@contextmanager
def translated() -> Iterator[None]:
    """Turn a line that fails into TryLater."""
    try:
        yield
    except httpx.TransportError as error:
        raise TryLater(
            f"the server did not answer ({type(error).__name__}: {error})", remedy="Check its address, and try again."
        ) from error


def error_in(response: httpx.Response) -> AnnotateError:
    """Return the problem of an answer as the error that it was on the server."""
    try:
        body = response.json()
        kind = str(body["type"]).removeprefix(_PREFIX)
        error = error_of(Problem(kind, str(body["title"]), str(body["detail"])))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return AnnotateError(f"the server answered {response.status_code} without saying why")
    if isinstance(error, TryLater):
        error.retry_after_s = int(body.get("retry_after", error.retry_after_s))
    if isinstance(error, CaseTaken):
        error.person, error.session = body.get("person"), body.get("session")
    return error
