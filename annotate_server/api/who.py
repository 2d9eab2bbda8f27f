"""Who asks: a token, a cookie of the sign-in page, or a declared name where nobody needs to sign in."""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer
from starlette.datastructures import Headers

from annotate_server.api.services import Services
from annotate_server.domain.errors import InvalidRequest, NotAllowed, NotSignedIn, TooBusy
from annotate_server.domain.person import ALONE, Person, Role
from annotate_server.domain.store_ports import UserStore

COOKIE = "annotate_session"
NAME_HEADER = "X-Annotate-Name"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_SIGNED_IN = 1000
_MOST_FAILURES, _FAILURE_WINDOW_S = 10, 60.0
_MOST_ADDRESSES = 10_000


@dataclass(frozen=True)
class _SignedIn:
    token: str
    until: float


@dataclass
class SignIns:
    """Who signed in by a browser: random ids that live in memory only, so that a restart signs everybody out.

    The token is kept beside the id and looked up each time: whoever is removed, or gets another token, is out at once.
    """

    lifetime_s: float
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _by_id: dict[str, _SignedIn] = field(default_factory=dict, init=False)
    _failures: dict[str, deque[float]] = field(default_factory=dict, init=False)

    def begin(self, token: str) -> str:
        """Return the id that stands for a token from now on."""
        made = secrets.token_urlsafe(32)
        with self._lock:
            while len(self._by_id) >= _MOST_SIGNED_IN:
                del self._by_id[next(iter(self._by_id))]
            self._by_id[made] = _SignedIn(token, self.clock() + self.lifetime_s)
        return made

    def end(self, made: str) -> None:
        """Forget an id."""
        with self._lock:
            self._by_id.pop(made, None)

    def token_of(self, made: str) -> str | None:
        """Return the token that an id stands for; None where it is not known or too old."""
        with self._lock:
            found = self._by_id.get(made)
            if found is not None and self.clock() >= found.until:
                del self._by_id[made]
                found = None
        return None if found is None else found.token

    def check_failures(self, address: str) -> None:
        """Raise TooBusy where too many sign-ins from an address failed within a minute."""
        with self._lock:
            recent = self._failures.get(address, deque())
            while recent and self.clock() - recent[0] > _FAILURE_WINDOW_S:
                recent.popleft()
            if len(recent) >= _MOST_FAILURES:
                raise TooBusy("too many sign-ins from here failed", remedy="Wait a minute.")

    def note_failure(self, address: str) -> None:
        """Remember that a sign-in failed."""
        with self._lock:
            while len(self._failures) >= _MOST_ADDRESSES:
                del self._failures[next(iter(self._failures))]
            self._failures.setdefault(address, deque(maxlen=_MOST_FAILURES)).append(self.clock())


@dataclass(frozen=True)
class Identification:
    """From the headers of a request to a person; pages of `origins` may ask, but never by the cookie of the sign-in."""

    users: UserStore
    sign_ins: SignIns
    alone: bool
    origins: frozenset[str] = frozenset()

    def person(self, method: str, headers: Headers, cookie: str | None) -> Person:
        """Return who asks; NotSignedIn where nobody does, NotAllowed where another website asks in somebody's name."""
        authorization = headers.get("authorization")
        if authorization is not None:
            return self._by_token(_bearer(authorization))
        if cookie is not None and (token := self.sign_ins.token_of(cookie)) is not None:
            check_origin(method, headers, is_required=True)
            return self._by_token(token)
        if self.alone and not self.users.all():
            if headers.get("origin") not in self.origins:
                check_origin(method, headers, is_required=False)
            return Person(_declared(headers), Role.ADMIN, verified=False)
        raise NotSignedIn("this takes a token", remedy="Send 'Authorization: Bearer TOKEN', or sign in at /sign-in.")

    def _by_token(self, token: str) -> Person:
        person = self.users.by_token(token)
        if person is None:
            raise NotSignedIn("the token is not valid", remedy="Ask an administrator for a new one.")
        return person


def check_origin(method: str, headers: Headers, *, is_required: bool) -> None:
    """Refuse a change that another website asked for: its browser sends the cookie along, or needs none.

    Browsers say where a request comes from in Sec-Fetch-Site and Origin; `is_required` refuses what says neither.
    """
    if method in _SAFE:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        raise NotAllowed("the request comes from another website")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise NotAllowed("the request comes from another website")
    if is_required and site is None and origin is None:
        raise NotAllowed("the request does not say where it comes from", remedy="Send an Origin header, or a token.")


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not 1 <= len(token.strip()) <= 200:
        raise NotSignedIn("only bearer tokens are taken", remedy="Send 'Authorization: Bearer TOKEN'.")
    return token.strip()


def _declared(headers: Headers) -> str:
    """Return the name that somebody declared: Latin letters as sent, up to 64 printable characters."""
    name = headers.get(NAME_HEADER.lower(), ALONE).strip()
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise InvalidRequest(f"{NAME_HEADER} takes a name of 1 to 64 printable characters")
    return name


_BEARER = HTTPBearer(auto_error=False, description="A token of `annotate users add`.")
_COOKIE = APIKeyCookie(name=COOKIE, auto_error=False, description="Set by the sign-in page.")


async def signed_in(
    request: Request,
    bearer: Annotated[object, Security(_BEARER)],
    cookie: Annotated[object, Security(_COOKIE)],
) -> Person:
    """Return who asks, as the doorkeeper found out; the two parameters are there for the description."""
    person = getattr(request.state, "person", None)
    if not isinstance(person, Person):
        raise NotSignedIn("nobody is signed in")
    return person


async def _reviewer(person: Annotated[Person, Depends(signed_in)]) -> Person:
    person.must_be(Role.REVIEWER)
    return person


async def _admin(person: Annotated[Person, Depends(signed_in)]) -> Person:
    person.must_be(Role.ADMIN)
    return person


async def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


Anybody = Annotated[Person, Depends(signed_in)]
"""Whoever is signed in: every role is an annotator."""
Reviewer = Annotated[Person, Depends(_reviewer)]
Admin = Annotated[Person, Depends(_admin)]
Served = Annotated[Services, Depends(_services)]
