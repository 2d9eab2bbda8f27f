"""What every route says of itself: ids in paths, preconditions, and the problems that it may answer with."""

import re
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Header, Path, Query
from pydantic import WithJsonSchema

from annotate_server.api import problems
from annotate_server.domain.errors import StaleRevision
from annotate_server.imaging import frame

_ID = r"^[A-Za-z0-9_-]{1,64}$"
CaseId = Annotated[str, Path(pattern=_ID, description="A case.")]
ProjectId = Annotated[str, Path(pattern=_ID, description="A project.")]
SessionId = Annotated[str, Path(pattern=_ID, description="A session.")]
LabelId = Annotated[str, Path(pattern=_ID, description="A label.")]
PredictionId = Annotated[str, Path(pattern=_ID, description="A stored whole draft.")]
JobId = Annotated[str, Path(pattern=_ID, description="A job.")]
ModelName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,100}$", description="A model.")]
VersionId = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$", description="A version of a model.")]
SegmentIndex = Annotated[int, Path(ge=1, le=65535, description="A segment's value in the voxels.")]
_REVISION = re.compile(r'"([0-9]{1,15})"')
IfMatch = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "examples": ['"12"']}),
    Header(alias="If-Match", description="The ETag of the draft that the change was made on."),
]
"""Absent is not `null`: so the schemas of what may be left out in a header or query name no null."""
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
Offset = Annotated[int, Query(ge=0, le=10_000_000, description="Leave out so many.")]

EVERYWHERE = (400, 401, 403, 413, 422, 429, 500, 503)
"""What the doorkeeper and the parser may answer on any route."""
IN_SESSION = (404, 409, 410)
CHANGE = (*IN_SESSION, 412, 507)


def may(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the problems of these statuses for a route's `responses`."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {problems.MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def gives_frame(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that answers with a frame."""
    ok: dict[str, Any] = {
        "description": "The box that changed; the ETag is the draft's new revision.",
        "content": {frame.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        "headers": {"ETag": {"schema": {"type": "string"}, "description": "The revision, quoted."}},
    }
    return {200: ok, **may(*statuses)}


def gives_file(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that answers with a labelmap as a file."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    ok: dict[str, Any] = {"description": "The file.", "content": {"application/octet-stream": binary}}
    return {200: ok, **may(*statuses)}


def revision_of(if_match: str | None) -> int | None:
    """Return the revision that an If-Match names; None where there is none, or `*`.

    Raises StaleRevision for what is no revision: such a tag was never given out, so that it matches no draft.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    found = _REVISION.fullmatch(if_match.strip())
    if found is None:
        raise StaleRevision("If-Match names no revision of the draft", remedy='Send the ETag of an answer: "12".')
    return int(found[1])


def etag(revision: int) -> str:
    """Return the ETag of a revision."""
    return f'"{revision}"'
