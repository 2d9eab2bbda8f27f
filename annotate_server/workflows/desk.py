"""A desk: one session at work, with its draft on it. What happens to it is in the event log before it is in the voxels.

The voxels are a cache of the event log: they are made again from the start, the newest snapshot and the events since.
"""

from collections import deque
from dataclasses import dataclass, field

from annotate_server.domain.annotation import Session
from annotate_server.domain.compute import DraftPlace
from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.geometry import NOWHERE, Box
from annotate_server.domain.labelmap import Labelmap, LabelVoxels, Segment, labelmap_dtype
from annotate_server.domain.stored import StoredLayer
from annotate_server.imaging.change_record import decode_change
from annotate_server.imaging.frame import Frame
from annotate_server.workflows.layers import fill_from_layer
from annotate_server.workflows.records import Records

_REMEMBERED = 2000


@dataclass(frozen=True)
class Step:
    """What one revision changed: for who asks what is new since another one."""

    revision: int
    box: Box
    has_new_segments: bool


@dataclass
class Desk:
    """A session, its draft (k, j, i), mapped for writing, and what its last revisions changed."""

    session: Session
    voxels: LabelVoxels
    steps: deque[Step] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def take_step(self, session: Session, box: Box) -> None:
        """Go on to the next revision, of which `box` is what changed."""
        has_new_segments = session.segments != self.session.segments
        self.session = session
        self.steps.append(Step(session.revision, box, has_new_segments))

    def put(self, box: Box, voxels: LabelVoxels) -> None:
        """Write a box of the draft."""
        if not box.is_empty:
            self.voxels[box.slices] = voxels

    def frame(self, box: Box, *, with_segments: bool, notes: tuple[str, ...] = ()) -> Frame:
        """Return a box of the draft as it stands; a copy."""
        return Frame(
            case_id=self.session.case_id,
            session_id=self.session.id,
            revision=self.session.revision,
            box=box,
            voxels=self.voxels[box.slices].copy(),
            geometry=self.session.geometry.digest(),
            segments=self.session.segments if with_segments else None,
            notes=notes,
            can_undo=self.session.can_undo,
            can_redo=self.session.can_redo,
        )

    def frame_since(self, revision: int | None) -> Frame:
        """Return what changed since a revision; the whole draft where that is not known any more."""
        later = [step for step in self.steps if revision is not None and step.revision > revision]
        if revision is None or len(later) != self.session.revision - revision:
            return self.frame(Box.whole(self.session.geometry.shape), with_segments=True)
        box = NOWHERE
        for step in later:
            if not step.box.is_empty:
                box = step.box if box.is_empty else box.union(step.box)
        return self.frame(box, with_segments=any(step.has_new_segments for step in later))

    def labelmap(self) -> Labelmap:
        """Return the draft as a labelmap: a read-only view, valid while the session's turn is held."""
        return Labelmap(self.voxels.view(), self.session.geometry, self.session.segments)

    def place(self, records: Records) -> DraftPlace:
        """Return where a worker finds the draft."""
        path = records.drafts.path(self.session.id)
        return DraftPlace(path, self.voxels.dtype.name, self.session.segments, self.session.locked)

    def make_room_for(self, segments: tuple[Segment, ...], records: Records) -> None:
        """Give the draft a number type that holds every index of the segments."""
        wanted = labelmap_dtype(segments)
        if wanted.itemsize > self.voxels.dtype.itemsize:
            wide = records.drafts.make(self.session.id, self.session.geometry.shape, wanted.name)
            wide[...] = self.voxels
            self.voxels = wide


def set_up(session: Session, records: Records) -> Desk:
    """Return the desk of a session, its draft made from what is stored."""
    dtype = labelmap_dtype(_all_segments(session)).name
    voxels = records.drafts.make(session.id, session.geometry.shape, dtype)
    done = _begin(session, records, voxels)
    for interaction in session.interactions[done : session.applied]:
        if interaction.change is not None:
            voxels[interaction.box.slices] = decode_change(records.blobs.read(interaction.change)).after
    return Desk(session, voxels)


def _begin(session: Session, records: Records, voxels: LabelVoxels) -> int:
    """Fill the draft from the newest snapshot that is intact, else from its start; return how many events are in it."""
    newest = records.sessions.snapshot(session.id, session.applied)
    if newest is not None:
        number, sha256 = newest
        try:
            fill_from_layer(records.blobs, StoredLayer(sha256, session.geometry, ()), voxels)
        except (StorageFailed, OSError):
            voxels[...] = 0
        else:
            return number
    if session.start is not None:
        fill_from_layer(records.blobs, session.start, voxels)
    return 0


def _all_segments(session: Session) -> tuple[Segment, ...]:
    """Return every segment that the draft has, had, or comes to have by redo."""
    lists = [session.segments, session.start.segments if session.start else ()]
    lists += [i.segments_after or () for i in session.interactions]
    lists += [i.segments_before or () for i in session.interactions]
    return tuple(segment for segments in lists for segment in segments)
