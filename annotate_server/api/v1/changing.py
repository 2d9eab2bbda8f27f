"""What every change of a draft has in common: whose, on which revision, and a frame as the answer."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import Response

from annotate_server.api.frames import frame_response
from annotate_server.api.services import Services
from annotate_server.api.v1.documented import IfMatch, SessionId, revision_of
from annotate_server.api.who import Anybody, Served
from annotate_server.domain.person import Person
from annotate_server.imaging.frame import Frame
from annotate_server.workflows.annotate import Annotator


@dataclass(frozen=True)
class Change:
    """A change that somebody asks for; `if_match` is the revision that they name, None for none."""

    session_id: str
    person: Person
    if_match: int | None
    services: Services
    request: Request

    @property
    def annotator(self) -> Annotator:
        """Return who makes it."""
        return self.services.annotator

    def answer(self, frame: Frame) -> Response:
        """Return what changed."""
        return frame_response(frame, self.request)


async def _change(
    session_id: SessionId, person: Anybody, services: Served, request: Request, if_match: IfMatch = None
) -> Change:
    return Change(session_id, person, revision_of(if_match), services, request)


Asked = Annotated[Change, Depends(_change)]
