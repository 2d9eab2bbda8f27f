"""The sign-in page: a token becomes a cookie, since pictures and event streams of a browser send no headers."""

from html import escape
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from annotate_server.api.pages import page
from annotate_server.api.services import ApiOptions
from annotate_server.api.viewer import built, not_built
from annotate_server.api.who import COOKIE, Anybody, Served, SignIns, check_origin
from annotate_server.domain.errors import TooBusy

router = APIRouter(include_in_schema=False)
_FORM = """{alert}<form method="post" action="/sign-in"><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required maxlength="200" autofocus>
<button>Sign in</button></form><p>An administrator makes one with <code>annotate users add</code>.</p>"""


@router.get("/sign-in")
async def show_sign_in() -> Response:
    """Show the form."""
    return page("Sign in", _FORM.format(alert=""))


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
def show_start(request: Request, person: Anybody) -> Response:
    """Lead to the worklist; where the viewer is not built, say so, and who is signed in."""
    if built(request) is not None:
        return RedirectResponse("/viewer/worklist", 303)
    who = f"<p>You are <strong>{escape(person.name)}</strong> ({person.role}).</p>"
    out = '<form method="post" action="/sign-out"><button>Sign out</button></form>' if person.verified else ""
    return page("annotate-server", who + not_built() + out)


def _refused(sentence: str, status: int) -> Response:
    response = page("Sign in", _FORM.format(alert=f'<p role="alert">{escape(sentence)}</p>'), status)
    if status == 429:
        response.headers["Retry-After"] = "60"
    return response
