"""Who I am, and what the server is."""

from fastapi import APIRouter, Request

from annotate_server import __version__
from annotate_server.api.v1.views import View
from annotate_server.api.who import Anybody
from annotate_server.imaging.frame import MEDIA_TYPE
from annotate_server.imaging.labelmap_orders import LabelmapFormat

router = APIRouter(tags=["server"])


class MeView(View):
    """Who asks; `verified` is false for a name that was only declared."""

    name: str
    role: str
    verified: bool


class LimitsView(View):
    """What the server lets in."""

    upload_bytes: int
    frame_bytes: int
    json_bytes: int
    requests_at_once: int


class ServerView(View):
    """The server's version and what it can do."""

    version: str
    api: str
    frame: str
    downloads: list[str]
    limits: LimitsView


@router.get("/me")
def get_me(person: Anybody) -> MeView:
    """Say who I am and what I may do."""
    return MeView(name=person.name, role=person.role, verified=person.verified)


@router.get("/server")
def get_server(request: Request, person: Anybody) -> ServerView:
    """Say what the server is."""
    limits = request.app.state.options.limits
    return ServerView(
        version=__version__,
        api="v1",
        frame=MEDIA_TYPE,
        downloads=[str(each) for each in LabelmapFormat],
        limits=LimitsView(
            upload_bytes=limits.upload_bytes,
            frame_bytes=limits.frame_bytes,
            json_bytes=limits.json_bytes,
            requests_at_once=limits.person_requests,
        ),
    )
