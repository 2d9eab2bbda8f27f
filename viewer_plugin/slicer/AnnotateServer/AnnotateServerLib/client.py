"""The server's routes as requests: the one place that knows paths and what answers mean."""

from __future__ import annotations

import json
from collections.abc import Callable

from AnnotateServerLib import answers, nrrd
from AnnotateServerLib import frame as frames
from AnnotateServerLib.answers import Prompt
from AnnotateServerLib.line import Request
from AnnotateServerLib.segments import Segment

_ROOT = f"/api/{answers.API}"
_PAGE = 1000
PROMPT_TIMEOUT_S = 180.0
TRANSFER_TIMEOUT_S = 120.0


# The server, projects, cases


def server() -> Request:
    """Ask what the server is; raises Problem for one that this extension does not understand."""
    return _get("/server", answers.server_of)


def me() -> Request:
    """Ask by which name the server knows me."""
    return _get("/me", lambda told: str(told["name"]))


def projects() -> Request:
    """List the projects."""
    return _get("/projects", lambda told: tuple(answers.project_of(each) for each in told))


def models() -> Request:
    """List the models."""
    return _get("/models", lambda told: tuple(answers.model_of(each) for each in told))


def worklist(project: str) -> Request:
    """List where the cases of a project stand."""
    return _get(f"/projects/{project}/worklist", lambda told: tuple(answers.item_of(each) for each in told))


def cases(offset: int = 0) -> Request:
    """List cases, a page of them."""
    return _get(f"/cases?limit={_PAGE}&offset={offset}", answers.cases_of)


def cases_of_voxels(digest: str) -> Request:
    """Find the cases that have these voxels on this grid."""
    return _get(f"/cases?digest={digest}", answers.cases_of)


def cases_of_series(uid: str) -> Request:
    """Find the cases of a DICOM series."""
    return _get(f"/cases?series={uid}", answers.cases_of)


def case(case_id: str) -> Request:
    """Ask for a case."""
    return _get(f"/cases/{case_id}", answers.case_of)


def volume(case_id: str) -> Request:
    """Download a case's volume."""
    return Request("GET", f"{_ROOT}/cases/{case_id}/volume", timeout_s=TRANSFER_TIMEOUT_S, decoded=nrrd.unpacked)


def upload(content: bytes) -> Request:
    """Upload a volume."""
    path = f"{_ROOT}/cases"
    kind, patience = "application/octet-stream", TRANSFER_TIMEOUT_S
    asked = Request("POST", path, content, kind, timeout_s=patience)
    return asked._replace(decoded=lambda body: answers.read(answers.cases_of, body))


def declare_modality(case_id: str, modality: str) -> Request:
    """Say the modality of a case whose file names none."""
    return _send("PUT", f"/cases/{case_id}/modality", {"modality": modality}, answers.case_of)


# Sessions


def sessions() -> Request:
    """List my sessions that were not submitted."""
    return _get("/sessions", lambda told: tuple(answers.session_of(each) for each in told))


def open_case(project: str, case_id: str) -> Request:
    """Open a case."""
    return _send("POST", f"/projects/{project}/cases/{case_id}/sessions", None, answers.session_of, TRANSFER_TIMEOUT_S)


def open_next(project: str) -> Request:
    """Open the next case that waits."""
    return _send("POST", f"/projects/{project}/next", None, answers.session_of, TRANSFER_TIMEOUT_S)


def resume(session: str) -> Request:
    """Go on with a session of mine."""
    return _send("POST", f"/sessions/{session}/resume", None, answers.session_of)


def heartbeat(session: str, active_s: float) -> Request:
    """Keep the lease."""
    return _send("POST", f"/sessions/{session}/heartbeat", {"active_s": round(active_s, 1)}, answers.session_of)


def leave(session: str) -> Request:
    """Give the case free; the session can be resumed."""
    return _send("POST", f"/sessions/{session}/leave", None, answers.session_of)


def lock(session: str, locked: tuple[int, ...]) -> Request:
    """Lock these segments and no others."""
    return _send("PUT", f"/sessions/{session}/locked", {"locked": sorted(locked)}, answers.session_of)


def submit(session: str, revision: int) -> Request:
    """Make the draft a label."""
    asked = _send("POST", f"/sessions/{session}/submit", None, answers.label_of, TRANSFER_TIMEOUT_S)
    return asked._replace(revision=revision)


# Drafts


def draft_file(session: str) -> Request:
    """Download the whole draft as `.seg.nrrd`."""
    return Request("GET", f"{_ROOT}/sessions/{session}/file", timeout_s=TRANSFER_TIMEOUT_S)


def changes(session: str, since: int) -> Request:
    """Ask what changed since a revision."""
    return _frame("GET", f"/sessions/{session}/labelmap?since={since}")


def edit(session: str, content: bytes, revision: int) -> Request:
    """Put edited voxels into the draft."""
    path = f"{_ROOT}/sessions/{session}/labelmap"
    kind, patience = frames.MEDIA_TYPE, TRANSFER_TIMEOUT_S
    return Request("PUT", path, content, kind, revision, patience, is_packed=True, decoded=frames.decoded)


def prompt(session: str, asked: Prompt) -> Request:
    """Let a model answer a prompt."""
    body = {
        "kind": asked.kind,
        "points_mm": [list(point) for point in asked.points_mm],
        "segment": asked.segment,
        "positive": asked.is_positive,
        "model": asked.model,
    }
    return _frame("POST", f"/sessions/{session}/prompts", body)._replace(timeout_s=PROMPT_TIMEOUT_S)


def undo(session: str) -> Request:
    """Take the newest change back."""
    return _frame("POST", f"/sessions/{session}/undo")


def redo(session: str) -> Request:
    """Make the change again that was taken back last."""
    return _frame("POST", f"/sessions/{session}/redo")


def add_segment(session: str, segment: Segment) -> Request:
    """Add a segment."""
    return _frame("POST", f"/sessions/{session}/segments", segment.as_json())


def alter_segment(session: str, segment: Segment) -> Request:
    """Give a segment another name, colour or code."""
    told = {name: value for name, value in segment.as_json().items() if name != "index"}
    return _frame("PATCH", f"/sessions/{session}/segments/{segment.index}", told)


def remove_segment(session: str, index: int) -> Request:
    """Remove a segment and its voxels."""
    return _frame("DELETE", f"/sessions/{session}/segments/{index}")


def draft(session: str, model: str) -> Request:
    """Let a model draft the whole case, as a job."""
    return _send("POST", f"/sessions/{session}/draft", {"model": model}, answers.job_of)


def drafted(session: str) -> Request:
    """Ask which model version drafted a session's case: `model@version`, empty where none did."""
    return _get(f"/sessions/{session}/drafted", lambda told: f"{told['model']}@{told['version']}" if told else "")


def job(job_id: str) -> Request:
    """Ask how a job is getting on."""
    return _get(f"/jobs/{job_id}", answers.job_of)


def cancel(job_id: str) -> Request:
    """Cancel a job."""
    return _send("POST", f"/jobs/{job_id}/cancel", None, answers.job_of)


# Review


def reviews(project: str) -> Request:
    """List the labels that wait for a second person."""
    return _get(f"/projects/{project}/reviews", lambda told: tuple(answers.label_of(each) for each in told))


def label_file(label: str) -> Request:
    """Download a label as `.seg.nrrd`."""
    return Request("GET", f"{_ROOT}/labels/{label}/file?format=nrrd", timeout_s=TRANSFER_TIMEOUT_S)


def review(label: str, verdict: str, comment: str) -> Request:
    """Approve a label of somebody else, or return it with a comment."""
    return _send("POST", f"/labels/{label}/review", {"verdict": verdict, "comment": comment}, answers.label_of)


def _get(path: str, of: Callable) -> Request:
    return Request("GET", f"{_ROOT}{path}", decoded=lambda body: answers.read(of, body))


def _send(method: str, path: str, value: object, of: Callable, timeout_s: float = 30.0) -> Request:
    body = b"" if value is None else json.dumps(value).encode()
    return Request(method, f"{_ROOT}{path}", body, timeout_s=timeout_s, decoded=lambda told: answers.read(of, told))


def _frame(method: str, path: str, value: object = None) -> Request:
    body = b"" if value is None else json.dumps(value).encode()
    return Request(method, f"{_ROOT}{path}", body, timeout_s=TRANSFER_TIMEOUT_S, decoded=frames.decoded)
