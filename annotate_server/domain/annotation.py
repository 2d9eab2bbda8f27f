"""Annotation: from an open session to a reviewed label, as a state machine of immutable values."""

from dataclasses import dataclass, replace
from enum import StrEnum

from annotate_server.domain.errors import StateError
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.prompt import Prompt


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


class InteractionKind(StrEnum):
    """Who changed the draft."""

    PROMPT = "prompt"
    EDIT = "edit"
    HELPER = "helper"
    MODEL = "model"


@dataclass(frozen=True)
class Interaction:
    """One change of the draft: the unit of undo. One mouse-up is one interaction.

    `box` is what changed; `prompt` is there for a prompt. `model_version` is there for what a model answered.
    """

    revision: int
    kind: InteractionKind
    box: Box
    prompt: Prompt | None = None
    model_version: str | None = None


@dataclass(frozen=True)
class Draft:
    """A labelmap in a session, vouched for by nobody; `revision` counts its changes."""

    labelmap: Labelmap
    revision: int = 0
    locked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Session:
    """One person on one case, from open to submit.

    `interactions` are all that happened; the first `applied` of them are in force, the rest are undone and can be
    redone until something new is done.
    """

    id: str
    case_id: str
    person: str
    state: SessionState = SessionState.OPEN
    interactions: tuple[Interaction, ...] = ()
    applied: int = 0

    def recorded(self, interaction: Interaction) -> "Session":
        """Return the session with one interaction more; what was undone before is given up."""
        self._must_be_open("changed")
        kept = self.interactions[: self.applied]
        return replace(self, interactions=(*kept, interaction), applied=self.applied + 1)

    def undone(self) -> "Session":
        """Return the session one interaction back."""
        self._must_be_open("changed")
        if self.applied == 0:
            raise StateError("there is nothing to undo")
        return replace(self, applied=self.applied - 1)

    def redone(self) -> "Session":
        """Return the session one interaction forward."""
        self._must_be_open("changed")
        if self.applied == len(self.interactions):
            raise StateError("there is nothing to redo")
        return replace(self, applied=self.applied + 1)

    def ended(self, state: SessionState) -> "Session":
        """Return the session submitted, expired or abandoned."""
        self._must_be_open(str(state))
        if state is SessionState.OPEN:
            raise StateError("an open session is not ended by opening it")
        return replace(self, state=state)

    def reopened(self) -> "Session":
        """Return an expired session in work again: nothing of it was lost."""
        if self.state is not SessionState.EXPIRED:
            raise StateError(f"session {self.id} is {self.state}; only an expired one is reopened")
        return replace(self, state=SessionState.OPEN)

    def _must_be_open(self, action: str) -> None:
        if self.state is not SessionState.OPEN:
            raise StateError(f"session {self.id} is {self.state} and cannot be {action}")


@dataclass(frozen=True)
class Label:
    """A labelmap that a person submitted: immutable, with its lineage.

    `layers` is an ordered list, so that overlapping segments survive. `parent` is the label that it corrects,
    `model_version` drafted it. A review makes a new value of the state and never touches the voxels.
    """

    id: str
    case_id: str
    author: str
    layers: tuple[Labelmap, ...]
    parent: str | None = None
    model_version: str | None = None
    state: LabelState = LabelState.SUBMITTED
    reviewer: str | None = None
    comment: str = ""

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
