"""The journal: every change of a draft is an event on the disk first, then in the voxels, then in the answer."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from annotate_server.domain.annotation import Interaction, InteractionKind, Session
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.geometry import NOWHERE, Box
from annotate_server.domain.labelmap import Labelmap, LabelVoxels, Segment
from annotate_server.domain.person import Person
from annotate_server.domain.timing import part
from annotate_server.imaging.change_record import Change, decode_change, encode_change
from annotate_server.imaging.frame import Frame
from annotate_server.workflows.desk import Desk
from annotate_server.workflows.layers import keep_layer
from annotate_server.workflows.merging import check_edit
from annotate_server.workflows.reception import Reception
from annotate_server.workflows.records import Records

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """What is to be written: an interaction, the box that it is about, and the box's voxels after it (k, j, i)."""

    interaction: Interaction
    box: Box
    after: LabelVoxels
    notes: Sequence[str] = ()


@dataclass
class Journal:
    """Writes what happens at the desks; a snapshot of the whole draft is kept every `snapshot_every` events."""

    records: Records
    reception: Reception
    snapshot_every: int = 50
    clock: Clock = now
    _keeper: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "snapshots"), init=False, repr=False
    )

    def close(self) -> None:
        """Wait for a snapshot that is being written."""
        self._keeper.shutdown(wait=True)

    def write(self, desk: Desk, person: Person, entry: Entry) -> Frame:
        """Keep a change, apply it, and return what changed of the box; the caller holds the turn."""
        box, before, after = trimmed(entry.box, desk.voxels[entry.box.slices], entry.after)
        change = None
        if not box.is_empty:
            with part("blob"):
                change = self.records.blobs.add_bytes(encode_change(Change(before, after)))
        interaction = replace(entry.interaction, box=box, change=change, at=self.clock())
        session = self.reception.with_lease(desk.session).recorded(interaction)
        with part("log"):
            self.records.sessions.record(session, person)
        desk.put(box, after)
        desk.take_step(session, box)
        if session.applied % self.snapshot_every == 0:
            copy = Labelmap(desk.voxels.copy(), session.geometry, session.segments)
            self._keeper.submit(self._keep_snapshot, desk, session, copy)
        return desk.frame(box, with_segments=interaction.segments_after is not None, notes=tuple(entry.notes))

    def undo(self, desk: Desk, person: Person) -> Frame:
        """Take the last interaction in force back."""
        session = desk.session.undone()
        return self._move(desk, person, session, desk.session.interactions[session.applied], is_undo=True)

    def redo(self, desk: Desk, person: Person) -> Frame:
        """Bring the interaction back that was undone last."""
        session = desk.session.redone()
        return self._move(desk, person, session, desk.session.interactions[desk.session.applied], is_undo=False)

    def _move(self, desk: Desk, person: Person, session: Session, done: Interaction, *, is_undo: bool) -> Frame:
        """Keep an undo or redo, then apply the box of its interaction; a segment locked since is not changed."""
        session = replace(session, locked=session.locked & {segment.index for segment in session.segments})
        voxels: LabelVoxels | None = None
        if done.change is not None:
            with part("blob"):
                change = decode_change(self.records.blobs.read(done.change))
            voxels = change.before if is_undo else change.after
            known = {segment.index: segment for segment in (*desk.session.segments, *session.segments)}
            check_edit(desk.voxels[done.box.slices], voxels, tuple(known.values()), desk.session.locked)
        with part("log"):
            self.records.sessions.move(self.reception.with_lease(session), person)
        if voxels is not None:
            desk.put(done.box, voxels)
        desk.take_step(session, done.box)
        return desk.frame(done.box, with_segments=done.segments_after is not None)

    def _keep_snapshot(self, desk: Desk, then: Session, copy: Labelmap) -> None:
        """Keep the draft as it was then, unless the session has gone another way meanwhile."""
        number = then.applied
        try:
            kept = keep_layer(self.records.blobs, copy)
            with self.reception.turn(then.id):
                if desk.session.interactions[number - 1 : number] == then.interactions[number - 1 : number]:
                    self.records.sessions.keep_snapshot(then.id, number, kept.blob)
        except AnnotateError as error:
            log.warning("a snapshot was not kept: %s", error, extra={"action": "snapshot"})


def new_event(desk: Desk, kind: InteractionKind, segments: tuple[Segment, ...] | None = None) -> Interaction:
    """Return the next interaction of a session, with its segments before and after where `segments` are other ones."""
    blank = Interaction(desk.session.next_number, kind, NOWHERE)
    if segments is None or segments == desk.session.segments:
        return blank
    return replace(blank, segments_before=desk.session.segments, segments_after=segments)


def trimmed(box: Box, before: LabelVoxels, after: LabelVoxels) -> tuple[Box, LabelVoxels, LabelVoxels]:
    """Return the part of a box that changed, before and after (copies); an empty box where nothing did."""
    inner = Box.around(before != after) if not box.is_empty else None
    if inner is None:
        return NOWHERE, before[:0, :0, :0], after[:0, :0, :0]
    return inner.shifted(box.start), before[inner.slices].copy(), after[inner.slices].copy()
