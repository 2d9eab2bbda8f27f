"""The segments of a session: added, renamed, recoloured, removed."""

from fastapi import APIRouter, Response

from annotate_server.api.v1.changing import Asked
from annotate_server.api.v1.documented import CHANGE, SegmentIndex, gives_frame
from annotate_server.api.v1.forms import SegmentChangeForm, SegmentForm
from annotate_server.domain.errors import NotFound

router = APIRouter(tags=["segments"])


@router.post("/sessions/{session_id}/segments", response_class=Response, responses=gives_frame(*CHANGE))
def add_segment(form: SegmentForm, change: Asked) -> Response:
    """Add a segment."""
    segment = form.value()
    return change.answer(change.annotator.add_segment(change.session_id, change.person, segment, change.if_match))


@router.patch("/sessions/{session_id}/segments/{index}", response_class=Response, responses=gives_frame(*CHANGE))
def alter_segment(index: SegmentIndex, form: SegmentChangeForm, change: Asked) -> Response:
    """Rename, recolour or recode a segment; what is absent stays."""
    session = change.annotator.session(change.session_id, change.person)
    present = next((segment for segment in session.segments if segment.index == index), None)
    if present is None:
        raise NotFound(f"the session has no segment {index}")
    altered = form.applied_to(present)
    return change.answer(change.annotator.alter_segment(change.session_id, change.person, altered, change.if_match))


@router.delete("/sessions/{session_id}/segments/{index}", response_class=Response, responses=gives_frame(*CHANGE))
def remove_segment(index: SegmentIndex, change: Asked) -> Response:
    """Remove a segment and its voxels; undo brings it back."""
    return change.answer(change.annotator.remove_segment(change.session_id, change.person, index, change.if_match))
