"""Projects: a list of segments, the apps that draft them, and the policy under which their cases are worked on."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.labelmap import Segment, check_segments
from annotate_server.domain.volume import Modality

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
DEFAULT_STRATEGY = "foreground"
"""The rule that orders open cases where nobody chose another one."""


class ReviewPolicy(StrEnum):
    """Who must look at a label before it counts."""

    NONE = "none"
    OTHER_PERSON = "other-person"


class CaseStatus(StrEnum):
    """Where a case stands in a project."""

    OPEN = "open"
    IN_WORK = "in-work"
    SUBMITTED = "submitted"
    RETURNED = "returned"
    APPROVED = "approved"
    PUT_ASIDE = "put-aside"


@dataclass(frozen=True)
class Project:
    """What a group of people annotates.

    `apps` are the models that draft, the first one by default. `modalities` says which cases belong to it: those of
    these modalities and those of none; empty for all. `segments` is what a new draft begins with where no prediction
    and no label is there. `send_labels_back` lets approved labels go back, as DICOM SEG, to the archive that their case
    came from. `strategy` names the rule that orders the cases that are open.
    """

    id: str
    title: str
    segments: tuple[Segment, ...] = ()
    apps: tuple[str, ...] = ()
    modalities: tuple[Modality, ...] = ()
    review: ReviewPolicy = ReviewPolicy.NONE
    send_labels_back: bool = False
    strategy: str = DEFAULT_STRATEGY

    def __post_init__(self) -> None:
        """Refuse an id that could not stand in an address, and segments that contradict each other."""
        if not _ID.fullmatch(self.id):
            raise InvalidRequest(f"{self.id!r} is no project id", remedy="Use a-z, 0-9, - and _.")
        if not self.title.strip():
            raise InvalidRequest("a project needs a title")
        check_segments(self.segments)


@dataclass(frozen=True)
class WorkItem:
    """A case in a project: its status, who has it open, its newest label.

    `person` and `session_id` are there while a live session is open on it. `reason` says why it was put aside, or
    what the reviewer wrote. `predicted_by` is the model of its newest draft, `difficulty` how unsure that model was of
    it, 0 to 1, where it says so.
    """

    project_id: str
    case_id: str
    status: CaseStatus = CaseStatus.OPEN
    person: str | None = None
    session_id: str | None = None
    label_id: str | None = None
    reason: str = ""
    predicted_by: str | None = None
    changed_at: datetime | None = None
    difficulty: float | None = None
