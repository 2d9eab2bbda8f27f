"""The pages' frame: templates with every text escaped, and a policy that runs our own script and nothing else."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from annotate_server.domain.person import Person, Role

_POLICY = {
    "default-src": "'none'",
    "style-src": "'self'",
    "script-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {"Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items())}
_NOTHING = "\N{EN DASH}"
_FILES: Mapping[str, str] = {"style.css": "text/css", "live.js": "text/javascript"}


def shown(template: str, person: Person, words: Mapping[str, object], status: int = 200) -> Response:
    """Return a page, or the part of one; `words` are the template's own."""
    given = {
        "person": person,
        "may_train": person.role.includes(Role.REVIEWER),
        "may_administer": person.role.includes(Role.ADMIN),
    }
    return HTMLResponse(_environment().get_template(template).render({**given, **words}), status, HEADERS)


def asset(name: str) -> Response | None:
    """Return the style sheet or the script; None for anything else."""
    if name not in _FILES:
        return None
    content = files("annotate_server.api.loop").joinpath("templates", name).read_text(encoding="utf-8")
    return Response(content, media_type=_FILES[name], headers={"Cache-Control": "private, no-cache"})


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("annotate_server.api.loop"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made.filters.update(moment=_moment, percent=_percent, number=_number, duration=_duration)
    return made


def _moment(at: datetime | None) -> str:
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _percent(value: float | None) -> str:
    return _NOTHING if value is None else f"{100 * value:.0f} %"


def _number(value: float | None, digits: int = 0) -> str:
    return _NOTHING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return _NOTHING
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
