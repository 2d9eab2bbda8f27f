"""Sessions: open, keep, go on with, submit and leave."""

from fastapi import APIRouter, Response

from annotate_server.api.v1.documented import CHANGE, IN_SESSION, CaseId, IfMatch, ProjectId, SessionId, etag, may
from annotate_server.api.v1.documented import revision_of as revision
from annotate_server.api.v1.forms import HeartbeatForm, LockedForm, SubmitForm
from annotate_server.api.v1.views import LabelView, SessionView
from annotate_server.api.who import Anybody, Served
from annotate_server.domain.annotation import Session

router = APIRouter(tags=["sessions"])


@router.post("/projects/{project_id}/cases/{case_id}/sessions", status_code=201, responses=may(404, 409, 415, 507))
def open_session(
    project_id: ProjectId, case_id: CaseId, services: Served, person: Anybody, response: Response
) -> SessionView:
    """Open a case: on its newest label, else on a model's stored draft, else empty."""
    session = services.annotator.open(project_id, case_id, person)
    response.headers["Location"] = f"/api/v1/sessions/{session.id}"
    return _view(session, response)


@router.get("/sessions")
def list_sessions(services: Served, person: Anybody) -> list[SessionView]:
    """List my sessions that were not submitted, newest first: each can be gone on with."""
    return [SessionView.of(session) for session in services.sessions.of_person(person.name)]


@router.get("/sessions/{session_id}", responses=may(*IN_SESSION))
def get_session(session_id: SessionId, services: Served, person: Anybody, response: Response) -> SessionView:
    """Return a session of mine."""
    return _view(services.annotator.session(session_id, person), response)


@router.post("/sessions/{session_id}/resume", responses=may(*IN_SESSION, 507))
def resume_session(session_id: SessionId, services: Served, person: Anybody, response: Response) -> SessionView:
    """Go on with a session of mine: after its lease ran out, after leaving it, or in another window."""
    return _view(services.annotator.resume(session_id, person), response)


@router.post("/sessions/{session_id}/heartbeat", responses=may(*IN_SESSION, 507))
def keep_session(
    session_id: SessionId, form: HeartbeatForm, services: Served, person: Anybody, response: Response
) -> SessionView:
    """Keep the lease, and say how long the person was active."""
    return _view(services.annotator.heartbeat(session_id, person, form.active_s), response)


@router.put("/sessions/{session_id}/locked", responses=may(*IN_SESSION, 507))
def lock_segments(
    session_id: SessionId, form: LockedForm, services: Served, person: Anybody, response: Response
) -> SessionView:
    """Lock these segments and no others: nothing changes a locked one."""
    return _view(services.annotator.lock(session_id, person, frozenset(form.locked)), response)


@router.post("/sessions/{session_id}/submit", status_code=201, responses=may(*CHANGE))
def submit(
    session_id: SessionId,
    services: Served,
    person: Anybody,
    response: Response,
    form: SubmitForm | None = None,
    if_match: IfMatch = None,
) -> LabelView:
    """Make the draft a label; the session ends."""
    is_partial = form.is_partial if form is not None else None
    label = services.annotator.submit(session_id, person, revision(if_match), is_partial=is_partial)
    response.headers["Location"] = f"/api/v1/labels/{label.id}"
    return LabelView.of(services.labels.get(label.id))


@router.post("/sessions/{session_id}/leave", responses=may(*IN_SESSION, 507))
def leave_session(session_id: SessionId, services: Served, person: Anybody, response: Response) -> SessionView:
    """Leave a session; the case is free for others, and the session can be resumed."""
    return _view(services.annotator.leave(session_id, person), response)


def _view(session: Session, response: Response) -> SessionView:
    response.headers["ETag"] = etag(session.revision)
    return SessionView.of(session)
