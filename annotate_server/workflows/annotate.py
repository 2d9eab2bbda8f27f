"""Annotate: a session from open to submit. Any thread may call; what is answered is on the disk."""

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np

from annotate_server.domain.annotation import InteractionKind, Label, LabelState, Session, SessionState
from annotate_server.domain.compute import Answered, Compute, HelpOrder, PromptOrder
from annotate_server.domain.errors import (
    InvalidLabelmap,
    InvalidPrompt,
    InvalidRequest,
    LockedSegment,
    RevisionRequired,
    StateError,
)
from annotate_server.domain.geometry import NOWHERE, Box
from annotate_server.domain.helper import HelperKind, HelperOrder
from annotate_server.domain.labelmap import LabelVoxels, Segment, check_segments
from annotate_server.domain.person import Person
from annotate_server.domain.project import ReviewPolicy
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.stored import StoredLayer
from annotate_server.imaging.frame import Frame
from annotate_server.imaging.seg_nrrd_writing import segment_boxes, write_seg_nrrd
from annotate_server.workflows.beginning import Opening, begin_session, volume_of
from annotate_server.workflows.desk import Desk
from annotate_server.workflows.drafted import drafted_by
from annotate_server.workflows.journal import Entry, Journal, new_event
from annotate_server.workflows.layers import keep_layer, read_layer
from annotate_server.workflows.merging import after_combination, after_draft, after_prompt, check_edit, matched
from annotate_server.workflows.reception import Reception, must_own
from annotate_server.workflows.records import Records

_PLANES_AT_ONCE = 16
REVISION_WORD = "annotate_revision"
"""What the header of a draft's file calls the revision that is in it."""


@dataclass
class Annotator:
    """Sessions: open, prompt, edit, undo, submit. `opened` are told of every session that was opened or resumed."""

    records: Records
    compute: Compute
    reception: Reception
    journal: Journal
    opened: list[Callable[[Session], None]] = field(default_factory=list)

    # Open, resume, leave

    def open(self, project_id: str, case_id: str, person: Person, layer: int = 0) -> Session:
        """Open a case: on its newest label, else the newest prediction by the project's apps, else an empty draft.

        `layer` is that of the label that is corrected; the others stay as they are. Raises CaseTaken where a live
        session is open on it, StateError for one that was put aside, and the errors of reading its volume.
        """
        session = begin_session(Opening(project_id, case_id, person, layer), self.records, self.compute, self.reception)
        self.records.sessions.open(session, person)
        self.reception.begin(session)
        self._tell(session)
        return session

    def resume(self, session_id: str, person: Person) -> Session:
        """Go on with a session of one's own, whether its lease has run out, it was left, or another window has it.

        Raises CaseTaken where somebody else has opened the case meanwhile, StateError for a submitted one.
        """
        with self.reception.turn(session_id):
            session = self.reception.current(session_id)
            must_own(session, person)
            session = session.reopened(self.reception.lease_end())
            self.records.sessions.resume(session, person)
            self.reception.begin(session)
        self._tell(session)
        return session

    def session(self, session_id: str, person: Person) -> Session:
        """Return a session of one's own with its interactions; raises SessionExpired after its lease."""
        with self._at(session_id, person) as desk:
            return self.reception.with_lease(desk.session)

    def heartbeat(self, session_id: str, person: Person, active_s: float) -> Session:
        """Hold the lease; `active_s` are the seconds that the person was active since the last sign of life."""
        return self.reception.heartbeat(session_id, person, active_s)

    def leave(self, session_id: str, person: Person) -> Session:
        """Give the case free without a label; the session can be resumed later."""
        with self._at(session_id, person) as desk:
            session = self.reception.with_lease(desk.session).ended(SessionState.ABANDONED)
            self.records.sessions.end(session, person)
            self.reception.clear(session_id)
            return session

    # Look

    def frame(self, session_id: str, person: Person, since: int | None = None) -> Frame:
        """Return the whole draft with its segments, or what changed since a revision."""
        with self._at(session_id, person) as desk:
            if since is not None and since > desk.session.revision:
                raise InvalidRequest(f"the draft is at revision {desk.session.revision}, not yet at {since}")
            return desk.frame_since(since)

    def write(self, session_id: str, person: Person, path: Path) -> Session:
        """Write the whole draft with its segments as `.seg.nrrd`, and return the session as it is in there."""
        with self._at(session_id, person) as desk:
            write_seg_nrrd((desk.labelmap(),), path, {REVISION_WORD: str(desk.session.revision)})
            return desk.session

    # Change

    def prompt(self, session_id: str, person: Person, prompt: Prompt, model: str, if_match: int | None) -> Frame:
        """Ask a model what a prompt means, and return what changed. Other segments act as negatives.

        Raises LockedSegment where the prompt is about a locked segment, and the model's own errors.
        """
        with self._at(session_id, person, if_match) as desk:
            active = _unlocked(desk.session, prompt.segment)
            prompt.check_within(desk.session.geometry)
            prompts = (*_prompts_about(desk.session, active), prompt)
            volume, draft = volume_of(desk.session, self.records), desk.place(self.records)
            answered = self.compute.prompt(PromptOrder(model, volume, draft, active, prompts))
            blank = new_event(desk, InteractionKind.PROMPT)
            event = replace(blank, prompt=prompt, model_version=answered.model_version)
            box, after, notes = _merged(desk, answered, active)
            return self.journal.write(desk, person, Entry(event, box, after, (*notes, *_in_other(desk, prompt))))

    def help(self, session_id: str, person: Person, segment: int, order: HelperOrder, if_match: int | None) -> Frame:
        """Carry out a classical helper on one segment, and return what changed."""
        with self._at(session_id, person, if_match) as desk:
            active = _unlocked(desk.session, segment)
            if order.other is not None:
                (_unlocked if order.kind is HelperKind.COMBINE else _segment)(desk.session, order.other)
            volume, draft = volume_of(desk.session, self.records), desk.place(self.records)
            answered = self.compute.help(HelpOrder(volume, draft, active, order))
            event = replace(new_event(desk, InteractionKind.HELPER), helper=str(order.kind))
            return self.journal.write(desk, person, Entry(event, *_merged(desk, answered, active)))

    def edit(self, session_id: str, person: Person, frame: Frame, if_match: int | None) -> Frame:
        """Put edited voxels back, and return what changed.

        Raises RevisionRequired without `if_match`, StaleRevision for another one, LockedSegment where a voxel of a
        locked segment would change: nothing is changed then.
        """
        if if_match is None:
            raise RevisionRequired(
                "an edit says on which revision of the draft it was made", remedy="Send If-Match with the ETag."
            )
        with self._at(session_id, person, if_match) as desk:
            session = desk.session
            if frame.geometry and frame.geometry != session.geometry.digest():
                raise InvalidRequest("the frame is of another grid than the case")
            if any(stop > length for stop, length in zip(frame.box.stop, session.geometry.shape, strict=True)):
                raise InvalidRequest(f"the box {frame.box.stop} reaches beyond the volume {session.geometry.shape}")
            check_edit(desk.voxels[frame.box.slices], frame.voxels, session.segments, session.locked)
            after = cast("LabelVoxels", frame.voxels.astype(desk.voxels.dtype))
            return self.journal.write(desk, person, Entry(new_event(desk, InteractionKind.EDIT), frame.box, after))

    def take_prediction(self, session_id: str, person: Person, prediction_id: str) -> Frame:
        """Apply a stored prediction as a whole draft: matched by code and name, locks kept; return what changed."""
        prediction = self.records.predictions.get(prediction_id)
        with self._at(session_id, person) as desk:
            session = desk.session
            if prediction.case_id != session.case_id:
                raise StateError("the prediction is of another case")
            if not prediction.layer.geometry.matches(session.geometry):
                raise StateError("the prediction was made on another grid: the files of the case have changed")
            indices, segments = matched(session.segments, prediction.layer.segments)
            desk.make_room_for(segments, self.records)
            drafted = read_layer(self.records.blobs, prediction.layer).voxels
            after = desk.voxels.copy()
            for first in range(0, len(after), _PLANES_AT_ONCE):
                part = slice(first, first + _PLANES_AT_ONCE)
                after[part] = after_draft(desk.voxels[part], drafted[part], indices, session.locked)
            event = replace(
                new_event(desk, InteractionKind.MODEL, segments),
                model_version=f"{prediction.model}@{prediction.version}",
            )
            whole = Box.whole(session.geometry.shape)
            return self.journal.write(desk, person, Entry(event, whole, after, prediction.notes))

    def undo(self, session_id: str, person: Person, if_match: int | None = None) -> Frame:
        """Take the last interaction back, without asking a model, and return what changed."""
        with self._at(session_id, person, if_match) as desk:
            return self.journal.undo(desk, person)

    def redo(self, session_id: str, person: Person, if_match: int | None = None) -> Frame:
        """Bring back what was undone last, and return what changed."""
        with self._at(session_id, person, if_match) as desk:
            return self.journal.redo(desk, person)

    # Segments

    def add_segment(self, session_id: str, person: Person, segment: Segment, if_match: int | None = None) -> Frame:
        """Add a segment."""
        with self._at(session_id, person, if_match) as desk:
            return self._list(desk, person, (*desk.session.segments, segment))

    def alter_segment(self, session_id: str, person: Person, segment: Segment, if_match: int | None = None) -> Frame:
        """Rename, recolour or recode the segment of the same index."""
        with self._at(session_id, person, if_match) as desk:
            _segment(desk.session, segment.index)
            present = desk.session.segments
            return self._list(desk, person, tuple(segment if s.index == segment.index else s for s in present))

    def remove_segment(self, session_id: str, person: Person, index: int, if_match: int | None = None) -> Frame:
        """Delete a segment and its voxels; undo brings both back. Raises LockedSegment for a locked one."""
        with self._at(session_id, person, if_match) as desk:
            _unlocked(desk.session, index)
            segments = tuple(s for s in desk.session.segments if s.index != index)
            box = segment_boxes(desk.voxels).get(index, NOWHERE)
            after = desk.voxels[box.slices].copy()
            after[after == index] = 0
            event = new_event(desk, InteractionKind.SEGMENTS, segments)
            return self.journal.write(desk, person, Entry(event, box, after))

    def lock(self, session_id: str, person: Person, locked: frozenset[int]) -> Session:
        """Lock these segments and no others: nothing and nobody changes their voxels."""
        with self._at(session_id, person) as desk:
            session = self.reception.with_lease(desk.session.with_locked(locked))
            self.records.sessions.move(session, person)
            desk.session = session
            return session

    def _list(self, desk: Desk, person: Person, segments: tuple[Segment, ...]) -> Frame:
        check_segments(segments)
        desk.make_room_for(segments, self.records)
        event = new_event(desk, InteractionKind.SEGMENTS, segments)
        return self.journal.write(desk, person, Entry(event, NOWHERE, desk.voxels[:0, :0, :0]))

    # Finish

    def submit(
        self, session_id: str, person: Person, if_match: int | None = None, *, is_partial: bool | None = None
    ) -> Label:
        """Make the draft a label, for ever, and end the session.

        `is_partial` says that only the slices in which something is drawn were looked at; where it is None the label is
        as partial as the one that it corrects. Raises InvalidLabelmap for a partial one in which nothing is drawn.
        """
        with self._at(session_id, person, if_match) as desk:
            session = self.reception.with_lease(desk.session)
            if is_partial and not desk.voxels.any():
                raise InvalidLabelmap("nothing is drawn: a partial label speaks only about what is")
            project = self.records.projects.get(session.project_id)
            label = Label(
                id=uuid.uuid4().hex,
                project_id=session.project_id,
                case_id=session.case_id,
                author=person.name,
                layers=self._layers(session, keep_layer(self.records.blobs, desk.labelmap())),
                parent=session.parent,
                model_version=drafted_by(session),
                session_id=session.id,
                events=session.applied,
                active_s=round(session.active_s, 1),
                is_author_verified=person.verified,
                made_at=self.reception.clock(),
                state=LabelState.APPROVED if project.review is ReviewPolicy.NONE else LabelState.SUBMITTED,
                is_partial=self._was_partial(session) if is_partial is None else is_partial,
            )
            self.records.labels.accept(label, session.ended(SessionState.SUBMITTED), person)
            self.reception.clear(session_id)
            return label

    def _was_partial(self, session: Session) -> bool:
        return session.parent is not None and self.records.labels.get(session.parent).is_partial

    def _layers(self, session: Session, layer: StoredLayer) -> tuple[StoredLayer, ...]:
        """Return the layers of the label: those of its parent, with the one that was corrected in its place."""
        if session.parent is None:
            return (layer,)
        others = self.records.labels.get(session.parent).layers
        return (*others[: session.layer], layer, *others[session.layer + 1 :])

    def _at(self, session_id: str, person: Person, if_match: int | None = None) -> AbstractContextManager[Desk]:
        return self.reception.at(session_id, person, if_match)

    def _tell(self, session: Session) -> None:
        for listener in self.opened:
            listener(session)


def _merged(desk: Desk, answered: Answered, active: Segment) -> tuple[Box, LabelVoxels, tuple[str, ...]]:
    """Return the box of an answer, the draft in it afterwards, and what a person should know."""
    prediction = answered.prediction
    before = desk.voxels[prediction.box.slices]
    labels = cast("LabelVoxels", prediction.labels.astype(before.dtype))
    if len(prediction.segments) > 1:
        indices = [segment.index for segment in prediction.segments]
        after = after_combination(before, labels, indices, desk.session.locked)
    else:
        after = after_prompt(before, labels, active.index, desk.session.locked)
    return prediction.box, after, prediction.notes


def _in_other(desk: Desk, prompt: Prompt) -> tuple[str, ...]:
    """Return what to tell a person who asks for voxels that another segment has."""
    if not prompt.positive or prompt.kind is not PromptKind.POINT:
        return ()
    k, j, i = (int(n) for n in np.rint(desk.session.geometry.index(prompt.points_mm)[0]))
    there = int(desk.voxels[k, j, i])
    if there in (0, prompt.segment):
        return ()
    return (f"The point lies in {_segment(desk.session, there).name}, and other segments are never overwritten.",)


def _prompts_about(session: Session, active: Segment) -> tuple[Prompt, ...]:
    """Return the prompts in force about a segment, oldest first."""
    in_force = (interaction.prompt for interaction in session.interactions[: session.applied])
    return tuple(prompt for prompt in in_force if prompt is not None and prompt.segment == active.index)


def _segment(session: Session, index: int) -> Segment:
    for segment in session.segments:
        if segment.index == index:
            return segment
    raise InvalidPrompt(f"the draft has no segment {index}", remedy="Add it first.")


def _unlocked(session: Session, index: int) -> Segment:
    segment = _segment(session, index)
    if index in session.locked:
        raise LockedSegment(f"{segment.name} is locked", remedy="Unlock it first.")
    return segment
