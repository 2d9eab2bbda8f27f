"""A job: long stored work, and the states that it may go through."""

from dataclasses import dataclass, replace
from enum import StrEnum

from annotate_server.domain.errors import Problem, StateError


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


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

    `kind` names the workflow, `progress` runs from 0 to 1. A running job may go back to the queue: the machine died
    under it. A job that has ended never changes again.
    """

    id: str
    kind: str
    state: JobState = JobState.QUEUED
    progress: float = 0.0
    problem: Problem | None = None

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
        return replace(self, state=state, problem=problem, progress=progress)

    def advanced(self, progress: float) -> "Job":
        """Return the running job further on; progress never goes back and stays within 0 to 1."""
        if self.state is not JobState.RUNNING:
            raise StateError(f"job {self.id} is {self.state}: only a running job advances")
        return replace(self, progress=min(1.0, max(self.progress, progress)))
