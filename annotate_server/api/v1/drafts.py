"""The draft of a session: read it, and change it by prompts, helpers, edits and whole drafts."""

from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import WithJsonSchema
from starlette.concurrency import run_in_threadpool

from annotate_server.api.bodies import whole
from annotate_server.api.files import file_response
from annotate_server.api.frames import frame_response, most_frame_bytes
from annotate_server.api.v1.changing import Asked
from annotate_server.api.v1.documented import (
    CHANGE,
    IN_SESSION,
    PredictionId,
    SessionId,
    etag,
    gives_file,
    gives_frame,
    may,
)
from annotate_server.api.v1.forms import DraftForm, HelperForm, PromptForm
from annotate_server.api.v1.views import DraftedView, JobView
from annotate_server.api.who import Anybody, Served
from annotate_server.domain.errors import NotFound, RevisionRequired
from annotate_server.domain.job import Priority
from annotate_server.imaging.frame import MEDIA_TYPE, decode_frame
from annotate_server.imaging.labelmap_orders import LabelmapFormat
from annotate_server.workflows.drafted import drafted, drafted_frame

router = APIRouter(tags=["drafts"])
Since = Annotated[
    int | None,
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 10**15}),
    Query(ge=0, le=10**15, description="Only what changed since this revision."),
]


@router.get("/sessions/{session_id}/labelmap", response_class=Response, responses=gives_frame(*IN_SESSION, 507))
def get_labelmap(
    session_id: SessionId, request: Request, services: Served, person: Anybody, since: Since = None
) -> Response:
    """Return the whole draft, or the box of what changed since a revision."""
    return frame_response(services.annotator.frame(session_id, person, since), request)


@router.get("/sessions/{session_id}/file", response_class=Response, responses=gives_file(*IN_SESSION, 507))
def get_draft_file(session_id: SessionId, services: Served, person: Anybody) -> Response:
    """Download the whole draft as `.seg.nrrd`; its header holds the revision as `annotate_revision`."""
    services.downloads.scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=services.downloads.scratch) as folder:
        path = Path(folder) / "draft.seg.nrrd"
        session = services.annotator.write(session_id, person, path)
        response = file_response(nullcontext(path), LabelmapFormat.NRRD, f"session-{session.id}")
    response.headers["ETag"] = etag(session.revision)
    return response


async def _edit(change: Asked) -> bytes:
    """Return the body of an edit: never more than the whole grid of the session."""
    if change.if_match is None:
        raise RevisionRequired("an edit needs If-Match with the revision that it was made on")
    session = await run_in_threadpool(change.annotator.session, change.session_id, change.person)
    limits = change.request.app.state.options.limits
    return await whole(change.request, most_frame_bytes(session, limits.frame_bytes), limits)


@router.put(
    "/sessions/{session_id}/labelmap",
    response_class=Response,
    responses=gives_frame(*CHANGE, 408, 415, 428),
    openapi_extra={
        "requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
    },
)
def edit_labelmap(change: Asked, body: Annotated[bytes, Depends(_edit)]) -> Response:
    """Put edited voxels into the draft. If-Match is required: it names the revision that the edit was made on."""
    frame = decode_frame(body)
    return change.answer(change.annotator.edit(change.session_id, change.person, frame, change.if_match))


@router.post("/sessions/{session_id}/prompts", response_class=Response, responses=gives_frame(*CHANGE, 415))
def prompt(form: PromptForm, change: Asked) -> Response:
    """Let a model answer a prompt: the box that changed."""
    asked = form.prompt()
    with change.request.app.state.metrics.prompts.track_inprogress():
        frame = change.annotator.prompt(change.session_id, change.person, asked, form.model, change.if_match)
    return change.answer(frame)


@router.post("/sessions/{session_id}/helpers", response_class=Response, responses=gives_frame(*CHANGE, 415))
def help_segment(form: HelperForm, change: Asked) -> Response:
    """Carry out a classical helper on a segment: the box that changed."""
    order = form.order()
    return change.answer(change.annotator.help(change.session_id, change.person, form.segment, order, change.if_match))


@router.post("/sessions/{session_id}/undo", response_class=Response, responses=gives_frame(*CHANGE))
def undo(change: Asked) -> Response:
    """Take the newest change back."""
    return change.answer(change.annotator.undo(change.session_id, change.person, change.if_match))


@router.post("/sessions/{session_id}/redo", response_class=Response, responses=gives_frame(*CHANGE))
def redo(change: Asked) -> Response:
    """Make the change again that was taken back last."""
    return change.answer(change.annotator.redo(change.session_id, change.person, change.if_match))


@router.post("/sessions/{session_id}/draft", status_code=202, responses=may(*IN_SESSION, 415, 507))
def draft(session_id: SessionId, form: DraftForm, services: Served, person: Anybody) -> JobView:
    """Let a model draft the whole case, as a job; its result is applied to the session when it is there."""
    session = services.annotator.session(session_id, person)
    job = services.drafting.order(session.case_id, form.model, person, session_id=session.id, priority=Priority.PERSON)
    return JobView.of(job)


@router.get("/sessions/{session_id}/drafted", responses=may(*IN_SESSION))
def get_drafted(session_id: SessionId, services: Served, person: Anybody) -> DraftedView | None:
    """Say which model drafted the case and how sure it was; null where none did, or a newer draft took its place."""
    found = drafted(services.annotator.session(session_id, person), services.annotator.records)
    return None if found is None else DraftedView.of(found)


@router.get("/sessions/{session_id}/drafted/labelmap", response_class=Response, responses=gives_frame(*IN_SESSION, 507))
def get_drafted_labelmap(session_id: SessionId, request: Request, services: Served, person: Anybody) -> Response:
    """Return the draft as the model made it, in the indices of the session: to look at, beside what became of it."""
    found = drafted_frame(services.annotator.session(session_id, person), services.annotator.records)
    if found is None:
        raise NotFound("no model drafted the case, or its draft is not kept", remedy="Order a draft.")
    return frame_response(found, request)


@router.post(
    "/sessions/{session_id}/predictions/{prediction_id}",
    response_class=Response,
    responses=gives_frame(*CHANGE),
)
def take_prediction(prediction_id: PredictionId, change: Asked) -> Response:
    """Put a stored whole draft into the session's draft, matched by code and name; locked segments stay."""
    return change.answer(change.annotator.take_prediction(change.session_id, change.person, prediction_id))
