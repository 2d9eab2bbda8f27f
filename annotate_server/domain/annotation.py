"""Annotation: from an open session to a reviewed label, as a state machine of immutable values."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from annotate_server.domain.errors import SessionExpired, StateError
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.prompt import Prompt
from annotate_server.domain.stored import StoredLayer


class SessionState(StrEnum):
    """Where a session stands."""

    OPEN = "open"
    EXPIRED = "expired"
    SUBMITTED = "submitted"
    ABANDONED = "abandoned"


class LabelState(StrEnum):
    """What a second person said of a label."""

    SUBMITTED = "submitted"
    APPROVED = "approved"
    RETURNED = "returned"


class SendingState(StrEnum):
    """How far an approved label is on its way to the archive; only a pending one is tried again."""

    PENDING = "pending"
    SENT = "sent"
    IMPOSSIBLE = "impossible"


class InteractionKind(StrEnum):
    """Who changed the draft: a prompt, a brush, a classical helper, a model's whole draft, or the list of segments."""

    PROMPT = "prompt"
    EDIT = "edit"
    HELPER = "helper"
    MODEL = "model"
    SEGMENTS = "segments"


@dataclass(frozen=True)
class Interaction:
    """One change of the draft: the unit of undo. One mouse-up is one interaction; stored, it is one event.

    `number` counts from 1 within the session. `box` is what changed (empty where no voxel did), and `change` the
    SHA-256 of the blob that holds the box before and after it. `segments_before` and `segments_after` are there where
    the list of segments changed. `prompt` is there for a prompt, `helper` names a helper, `model_version` is there for
    what a model answered.
    """

    number: int
    kind: InteractionKind
    box: Box
    change: str | None = None
    segments_before: tuple[Segment, ...] | None = None
    segments_after: tuple[Segment, ...] | None = None
    prompt: Prompt | None = None
    helper: str | None = None
    model_version: str | None = None
    revision: int = 0
    at: datetime | None = None


@dataclass(frozen=True)
class Session:
    """One person on one case, from open to submit.

    `interactions` are all that happened and were not given up; the first `applied` of them are in force, the rest are
    undone and can be redone until something new is done. `revision` counts every change of the draft, undo and redo
    too, and never goes back. `start` is what the draft began as: None for an empty one on `geometry`. `segments` are
    those of the draft as it stands, `locked` the indices that nothing may change. `layer` says which layer of `parent`
    is corrected; the others go into the next label as they are.
    """

    id: str
    project_id: str
    case_id: str
    person: str
    geometry: Geometry
    state: SessionState = SessionState.OPEN
    interactions: tuple[Interaction, ...] = ()
    applied: int = 0
    revision: int = 0
    start: StoredLayer | None = None
    segments: tuple[Segment, ...] = ()
    locked: frozenset[int] = frozenset()
    parent: str | None = None
    layer: int = 0
    model_version: str | None = None
    opened_at: datetime | None = None
    lease_until: datetime | None = None
    active_s: float = 0.0

    @property
    def can_undo(self) -> bool:
        """Say whether there is something to undo."""
        return self.applied > 0

    @property
    def can_redo(self) -> bool:
        """Say whether there is something to redo."""
        return self.applied < len(self.interactions)

    @property
    def next_number(self) -> int:
        """Return the number of the next interaction: numbers of given-up ones are used again."""
        return self.applied + 1

    def recorded(self, interaction: Interaction) -> "Session":
        """Return the session with one interaction more; what was undone before is given up."""
        self.must_be_open("changed")
        revision = self.revision + 1
        kept = self.interactions[: self.applied]
        return replace(
            self,
            interactions=(*kept, replace(interaction, revision=revision)),
            applied=self.applied + 1,
            revision=revision,
            segments=self.segments if interaction.segments_after is None else interaction.segments_after,
        )

    def undone(self) -> "Session":
        """Return the session one interaction back."""
        self.must_be_open("changed")
        if not self.can_undo:
            raise StateError("there is nothing to undo")
        before = self.interactions[self.applied - 1].segments_before
        return replace(
            self,
            applied=self.applied - 1,
            revision=self.revision + 1,
            segments=self.segments if before is None else before,
        )

    def redone(self) -> "Session":
        """Return the session one interaction forward."""
        self.must_be_open("changed")
        if not self.can_redo:
            raise StateError("there is nothing to redo")
        after = self.interactions[self.applied].segments_after
        return replace(
            self,
            applied=self.applied + 1,
            revision=self.revision + 1,
            segments=self.segments if after is None else after,
        )

    def with_locked(self, locked: frozenset[int]) -> "Session":
        """Return the session with other segments locked."""
        self.must_be_open("changed")
        unknown = locked - {segment.index for segment in self.segments}
        if unknown:
            raise StateError(f"there is no segment {min(unknown)} to lock")
        return replace(self, locked=locked)

    def ended(self, state: SessionState) -> "Session":
        """Return the session submitted, expired or abandoned."""
        self.must_be_open(str(state))
        if state is SessionState.OPEN:
            raise StateError("an open session is not ended by opening it")
        return replace(self, state=state)

    def reopened(self, lease_until: datetime) -> "Session":
        """Return the session in work again, whether its lease has run out or it was left: nothing of it was lost."""
        if self.state is SessionState.SUBMITTED:
            raise StateError(f"session {self.id} was submitted; open the case again to go on from its label")
        return replace(self, state=SessionState.OPEN, lease_until=lease_until)

    def must_be_open(self, action: str) -> None:
        """Raise SessionExpired or StateError where the session is not open."""
        if self.state is SessionState.EXPIRED:
            raise SessionExpired(
                f"the lease of session {self.id} has run out", remedy="Resume it: nothing in it was lost."
            )
        if self.state is not SessionState.OPEN:
            raise StateError(f"session {self.id} is {self.state} and cannot be {action}")


@dataclass(frozen=True)
class Sending:
    """A label's way to the archive; `reason` is a sentence about why it is not there yet, or never will be."""

    state: SendingState = SendingState.PENDING
    attempts: int = 0
    next_at: datetime | None = None
    reason: str = ""
    sent_at: datetime | None = None


@dataclass(frozen=True)
class Label:
    """A labelmap that a person submitted: immutable, with its lineage.

    `layers` is an ordered list, so that overlapping segments survive. `parent` is the label that it corrects,
    `model_version` drafted it, `events` interactions lie between, `active_s` is how long the person was at it. A
    partial label speaks only about the slices in which it holds something. A review makes a new value of the state and
    never touches the voxels. `sending` is there for one that goes back to the
    archive.
    """

    id: str
    project_id: str
    case_id: str
    author: str
    layers: tuple[StoredLayer, ...]
    parent: str | None = None
    model_version: str | None = None
    session_id: str | None = None
    events: int = 0
    active_s: float = 0.0
    is_author_verified: bool = True
    made_at: datetime | None = None
    state: LabelState = LabelState.SUBMITTED
    reviewer: str | None = None
    comment: str = ""
    reviewed_at: datetime | None = None
    sending: Sending | None = None
    is_partial: bool = False

    def reviewed(self, reviewer: str, verdict: LabelState, comment: str = "") -> "Label":
        """Return the label approved or returned by a second person; a return says why."""
        if self.state is not LabelState.SUBMITTED:
            raise StateError(f"label {self.id} was already {self.state}")
        if verdict is LabelState.SUBMITTED:
            raise StateError("a review approves or returns")
        if reviewer == self.author:
            raise StateError("nobody reviews a label of their own")
        if verdict is LabelState.RETURNED and not comment.strip():
            raise StateError("a label is returned with a comment")
        return replace(self, state=verdict, reviewer=reviewer, comment=comment)
