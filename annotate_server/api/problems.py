"""The one table from errors to HTTP statuses, and RFC 9457 problem bodies for everything that goes wrong."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from annotate_server.domain import errors

_log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:annotate-server:problem:"
_MOST_FIELDS = 20

STATUS: Mapping[type[errors.AnnotateError], int] = {
    errors.AnnotateError: 500,
    errors.InputError: 422,
    errors.UnreadableFile: 422,
    errors.UnsupportedInput: 415,
    errors.UntrustedGeometry: 422,
    errors.TooLarge: 413,
    errors.ParserFailed: 422,
    errors.InvalidLabelmap: 422,
    errors.InvalidPrompt: 422,
    errors.NotMadeFor: 422,
    errors.ModelError: 500,
    errors.UnknownModel: 404,
    errors.InvalidApp: 500,
    errors.WeightsMissing: 409,
    errors.WeightsInvalid: 500,
    errors.BackendUnavailable: 409,
    errors.PredictionFailed: 500,
    errors.DownloadFailed: 500,
    errors.NotFound: 404,
    errors.StateError: 409,
    errors.LockedSegment: 409,
    errors.CaseTaken: 409,
    errors.StaleRevision: 412,
    errors.RevisionRequired: 428,
    errors.SessionExpired: 410,
    errors.NotSignedIn: 401,
    errors.NotAllowed: 403,
    errors.InvalidRequest: 422,
    errors.TryLater: 503,
    errors.TooBusy: 429,
    errors.ShuttingDown: 503,
    errors.WorkerDied: 503,
    errors.ArchiveUnreachable: 503,
    errors.ArchiveTooSlow: 504,
    errors.ArchiveRefused: 502,
    errors.StorageFailed: 500,
    errors.NoSpace: 507,
    errors.InvalidSettings: 500,
    errors.Cancelled: 409,
}
"""A status for every class; `tests/unit/api/test_api_problems.py` walks the tree."""

SCHEMA: Mapping[str, object] = {
    "title": "Problem",
    "description": "RFC 9457: what went wrong, and what to do about it.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "description": f"{TYPE_PREFIX}NAME: stable, for machines."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "session": {"type": "string", "description": "case-taken: the session that is open on it."},
        "person": {"type": "string", "description": "case-taken: whose session it is."},
        "retry_after": {"type": "integer", "description": "Seconds after which to ask again."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


@dataclass(frozen=True)
class WrongField:
    """One field of a request that is not valid, and what is wrong with it."""

    field: str
    message: str


@dataclass(frozen=True)
class ProblemBody:
    """What is said of one problem; `type` is the last part of the URI."""

    type: str
    title: str
    status: int
    detail: str
    retry_after: int | None = None
    session: str | None = None
    person: str | None = None
    request_id: str | None = None
    errors: Sequence[WrongField] = ()


def status_of(error: errors.AnnotateError) -> int:
    """Return the status of an error's class, or of the nearest class above it that has a row."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def body_of(error: errors.AnnotateError) -> ProblemBody:
    """Return an error as a problem."""
    problem = error.problem()
    retry_after = error.retry_after_s if isinstance(error, errors.TryLater) else None
    return ProblemBody(
        problem.type,
        problem.title,
        status_of(error),
        problem.detail,
        retry_after,
        session=_fact(error, "session"),
        person=_fact(error, "person"),
    )


def response_of(body: ProblemBody, scope: Scope) -> Response:
    """Return a problem as a response; a 401 says how to sign in, and what can be tried again says when."""
    facts: dict[str, object] = {
        "type": TYPE_PREFIX + body.type,
        "title": body.title,
        "status": body.status,
        "detail": _encodable(body.detail),
        "instance": _encodable(str(scope.get("path", ""))[:500]),
    }
    for name in ("retry_after", "session", "person", "request_id"):
        if (value := getattr(body, name)) is not None:
            facts[name] = value
    if body.errors:
        facts["errors"] = [{"field": _encodable(e.field), "message": _encodable(e.message)} for e in body.errors]
    headers = {"Cache-Control": "no-store"}
    if body.retry_after is not None:
        headers["Retry-After"] = str(body.retry_after)
    if body.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="annotate-server"'
    return JSONResponse(facts, body.status, headers, MEDIA_TYPE)


def unforeseen(error: BaseException, scope: Scope) -> Response:
    """Return the answer to what nobody foresaw: no details, but the id under which the log has them."""
    request_id = str(scope.get("state", {}).get("request_id", ""))
    _log.error("a request failed (request id %s)", request_id, exc_info=error, extra={"action": "request-failed"})
    body = ProblemBody("internal-error", "The server made a mistake", 500, _mistake(request_id), request_id=request_id)
    return response_of(body, scope)


def install(app: FastAPI) -> None:
    """Let every error of a route leave as a problem."""

    @app.exception_handler(errors.AnnotateError)
    async def _known(request: Request, error: errors.AnnotateError) -> Response:
        body = body_of(error)
        if body.status >= 500:
            _log.warning("%s: %s", type(error).__name__, error, extra={"action": "request-refused"})
        return response_of(body, request.scope)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        return response_of(_invalid_body(error), request.scope)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        response = response_of(http_body(error), request.scope)
        response.headers.update(error.headers or {})
        allowed = request.app.state.methods.get(getattr(request.scope.get("route"), "path", None))
        if error.status_code == 405 and allowed:  # the framework names the methods of the first route alone
            response.headers["Allow"] = ", ".join(sorted(allowed))
        return response

    @app.exception_handler(ClientDisconnect)
    async def _gone(request: Request, error: ClientDisconnect) -> Response:
        return response_of(
            ProblemBody("cut-off", "The request was cut off", 400, "The body ended early."), request.scope
        )


def http_body(error: HTTPException) -> ProblemBody:
    """Return an HTTP error of the framework as a problem."""
    phrase = HTTPStatus(error.status_code).phrase
    return ProblemBody(phrase.lower().replace(" ", "-"), phrase, error.status_code, str(error.detail))


def _invalid_body(error: RequestValidationError) -> ProblemBody:
    """Return a request that no model allows as a problem that names the fields, never their contents."""
    wrong = [WrongField(".".join(map(str, e["loc"]))[:200], str(e["msg"])[:300]) for e in error.errors()[:_MOST_FIELDS]]
    sentence = "; ".join(f"{each.field}: {each.message}" for each in wrong)
    plain = errors.InvalidRequest(sentence)
    return ProblemBody(plain.type, plain.title, status_of(plain), str(plain), errors=wrong)


def _mistake(request_id: str) -> str:
    return f"It was logged under the request id {request_id}. Nothing half-done was kept."


def _fact(error: errors.AnnotateError, name: str) -> str | None:
    value = getattr(error, name, None)
    return value if isinstance(value, str) else None


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
