"""`/logs`: what jobs did lately, for administrators: never what is said of a patient."""

from html import escape
from typing import Annotated

from fastapi import Query
from starlette.responses import PlainTextResponse, Response

from annotate_server.api.monailabel.desk import AtDesk, both_ways, new_router
from annotate_server.api.monailabel.words import log_line
from annotate_server.api.pages import page
from annotate_server.api.who import Admin

router = new_router()
_SHORTEST_S = 3


def show(
    desk: AtDesk,
    person: Admin,
    lines: Annotated[int, Query(ge=1, le=1000)] = 300,
    html: bool = True,
    text: bool = False,
    refresh: Annotated[int, Query(ge=0, le=86_400)] = 0,
) -> Response:
    """Return the newest jobs, oldest first, a line each; the log of the process is where it was started."""
    told = "".join(f"{log_line(job)}\n" for job in reversed(desk.services.jobs.all(limit=lines)))
    if text or not html:
        return PlainTextResponse(told)
    response = page("Jobs", f"<pre>{escape(told)}</pre>")
    if refresh:
        response.headers["Refresh"] = str(max(_SHORTEST_S, refresh))
    return response


def show_device(desk: AtDesk, person: Admin) -> Response:
    """Say where models run."""
    return PlainTextResponse(f"Models run on: {desk.services.device}\n")


for _path in both_ways("/logs/"):
    router.get(_path)(show)
for _path in both_ways("/logs/gpu/"):
    router.get(_path)(show_device)
