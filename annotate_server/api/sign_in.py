"""The sign-in page: a token becomes a cookie, since pictures and event streams of a browser send no headers."""

from html import escape
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from annotate_server.api.services import ApiOptions
from annotate_server.api.who import COOKIE, Anybody, Served, SignIns, check_origin
from annotate_server.domain.errors import TooBusy

router = APIRouter(include_in_schema=False)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title} · annotate-server</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 24rem; margin: 15vh auto 0; padding: 0 1rem }}
input, button {{ font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; margin-top: .5rem }}
[role=alert] {{ color: #b00020 }}</style></head>
<body><main><h1>{title}</h1>{body}</main></body></html>"""
_FORM = """{alert}<form method="post" action="/sign-in"><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required maxlength="200" autofocus>
<button>Sign in</button></form><p>An administrator makes one with <code>annotate users add</code>.</p>"""
_CSP = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


@router.get("/sign-in")
async def show_sign_in() -> Response:
    """Show the form."""
    return _page("Sign in", _FORM.format(alert=""))


@router.post("/sign-in")
async def sign_in(request: Request, services: Served, token: Annotated[str, Form(max_length=200)]) -> Response:
    """Take a token and set the cookie."""
    sign_ins: SignIns = request.app.state.sign_ins
    options: ApiOptions = request.app.state.options
    check_origin("POST", request.headers, is_required=False)
    address = request.client.host if request.client else ""
    try:
        sign_ins.check_failures(address)
    except TooBusy as error:
        return _refused(str(error), 429)
    if await run_in_threadpool(services.users.by_token, token.strip()) is None:
        sign_ins.note_failure(address)
        return _refused("This token is not valid.", 401)
    response = RedirectResponse("/", 303)
    response.set_cookie(
        COOKIE,
        sign_ins.begin(token.strip()),
        max_age=int(options.limits.cookie_s),
        httponly=True,
        samesite="strict",
        secure=options.is_secure,
    )
    return response


@router.post("/sign-out")
async def sign_out(request: Request, person: Anybody) -> Response:
    """Forget the cookie, here and in the browser."""
    sign_ins: SignIns = request.app.state.sign_ins
    sign_ins.end(request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


@router.get("/")
async def show_start(person: Anybody) -> Response:
    """Say who is signed in."""
    who = f"<p>You are <strong>{escape(person.name)}</strong> ({person.role}).</p>"
    out = '<form method="post" action="/sign-out"><button>Sign out</button></form>' if person.verified else ""
    return _page("annotate-server", who + out)


def _refused(sentence: str, status: int) -> Response:
    response = _page("Sign in", _FORM.format(alert=f'<p role="alert">{escape(sentence)}</p>'), status)
    if status == 429:
        response.headers["Retry-After"] = "60"
    return response


def _page(title: str, body: str, status: int = 200) -> Response:
    return HTMLResponse(_PAGE.format(title=title, body=body), status, {"Content-Security-Policy": _CSP})
