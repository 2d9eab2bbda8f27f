"""A job: long stored work, and the states that it may go through."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum, StrEnum

from annotate_server.domain.errors import Problem, StateError


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobKind(StrEnum):
    """What is to be done; what each takes and gives is said where `workflows` carries it out."""

    DRAFT = "draft"
    TRAIN = "train"
    SCORE = "score"


@dataclass(frozen=True)
class JobKinds:
    """Some kinds of jobs: those named, or all but those named; each is carried out by a line of its own."""

    names: frozenset[str] = frozenset()
    is_all_but: bool = True

    @classmethod
    def only(cls, *names: str) -> "JobKinds":
        """Return just these kinds."""
        return cls(frozenset(names), is_all_but=False)

    @classmethod
    def all_but(cls, *names: str) -> "JobKinds":
        """Return every other kind, those of later versions included."""
        return cls(frozenset(names))

    def __contains__(self, kind: object) -> bool:
        """Say whether a kind is among them."""
        return (kind in self.names) is not self.is_all_but


EVERY_KIND = JobKinds()


class Again(StrEnum):
    """Whether a job is begun again over which its process died."""

    NO = "no"
    COUNTED = "counted"
    UNCOUNTED = "uncounted"


class Priority(IntEnum):
    """Who waits for it: the higher goes first."""

    BATCH = 0
    AHEAD = 10
    PERSON = 20


_ALLOWED = {
    JobState.QUEUED: {JobState.RUNNING, JobState.CANCELLED},
    JobState.RUNNING: {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED},
    JobState.SUCCEEDED: set[JobState](),
    JobState.FAILED: set[JobState](),
    JobState.CANCELLED: set[JobState](),
}


@dataclass(frozen=True)
class Job:
    """Long work that outlives the request that asked for it.

    `order` says what to do in words of its kind, all values strings; `result` what came of it, in the same way.
    `progress` runs from 0 to 1 with a sentence beside it. A running job may go back to the queue: the machine died
    under it; `attempts` counts how often it was begun. A job that has ended never changes again.
    """

    id: str
    kind: str
    order: Mapping[str, str] = field(default_factory=dict)
    priority: Priority = Priority.PERSON
    person: str = ""
    state: JobState = JobState.QUEUED
    progress: float = 0.0
    message: str = ""
    attempts: int = 0
    result: Mapping[str, str] = field(default_factory=dict)
    problem: Problem | None = None
    made_at: datetime | None = None
    begun_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def has_ended(self) -> bool:
        """Say whether nothing more will happen to it."""
        return not _ALLOWED[self.state]

    def moved_to(self, state: JobState, problem: Problem | None = None) -> "Job":
        """Return the job in its next state; a failure says its problem, and only a failure does."""
        if state not in _ALLOWED[self.state]:
            raise StateError(f"job {self.id} is {self.state} and cannot become {state}")
        if (state is JobState.FAILED) != (problem is not None):
            raise StateError("a failed job has a problem, and only a failed one has")
        progress = {JobState.SUCCEEDED: 1.0, JobState.QUEUED: 0.0}.get(state, self.progress)
        attempts = self.attempts + (state is JobState.RUNNING)
        return replace(self, state=state, problem=problem, progress=progress, attempts=attempts)

    def advanced(self, progress: float, message: str = "") -> "Job":
        """Return the running job further on; progress never goes back and stays within 0 to 1."""
        if self.state is not JobState.RUNNING:
            raise StateError(f"job {self.id} is {self.state}: only a running job advances")
        return replace(self, progress=min(1.0, max(self.progress, progress)), message=message or self.message)


MOST_ATTEMPTS = 2


def begun_twice(job: Job) -> Again:
    """Begin a job once more; who died twice over it would die again."""
    return Again.COUNTED if job.attempts < MOST_ATTEMPTS else Again.NO
