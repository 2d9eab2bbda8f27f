"""The queue of jobs in memory: what `store_ports.JobQueue` promises, without a disk."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from annotate_server.domain.errors import NotFound, Problem, StateError
from annotate_server.domain.job import EVERY_KIND, Again, Job, JobKinds, JobState, Priority, begun_twice


@dataclass
class InMemoryJobQueue:
    """Fulfils `store_ports.JobQueue`; `seen` is every state that a job went through, in order."""

    jobs: dict[str, Job] = field(default_factory=dict)
    seen: list[tuple[str, JobState]] = field(default_factory=list)
    _served: dict[str, int] = field(default_factory=dict)
    _turn: threading.RLock = field(default_factory=threading.RLock)

    def add(self, job: Job) -> None:
        """Keep a queued job."""
        if job.state is not JobState.QUEUED:
            raise StateError(f"job {job.id} is {job.state} and cannot be queued")
        self._keep(job)

    def get(self, job_id: str) -> Job:
        """Return a job."""
        if job_id not in self.jobs:
            raise NotFound(f"there is no job {job_id}")
        return self.jobs[job_id]

    def all(self, state: JobState | None = None, limit: int = 200, kind: str | None = None) -> tuple[Job, ...]:
        """Return jobs, newest first: of any kind, or of one."""
        newest_first = reversed(tuple(self.jobs.values()))
        found = [job for job in newest_first if state in (None, job.state) and kind in (None, job.kind)]
        return tuple(found[:limit])

    def same(self, job: Job) -> Job | None:
        """Return an unended job with the same kind and order."""
        for other in self.jobs.values():
            if not other.has_ended and (other.kind, other.order) == (job.kind, job.order):
                return other
        return None

    def claim(self, kinds: JobKinds = EVERY_KIND) -> Job | None:
        """Return the next job as running."""
        with self._turn:
            queued = [job for job in self.jobs.values() if job.state is JobState.QUEUED and job.kind in kinds]
            if not queued:
                return None
            first = min(queued, key=lambda job: (-job.priority, self._served.get(job.person, 0)))
            self._served[first.person] = len(self.seen) + 1
            return self._keep(first.moved_to(JobState.RUNNING))

    def advance(self, job_id: str, progress: float, message: str) -> None:
        """Keep how far a running job is."""
        self._change(job_id, lambda job: job.advanced(progress, message))

    def finish(self, job_id: str, result: Mapping[str, str]) -> Job:
        """Keep that a running job succeeded."""
        return self._change(job_id, lambda job: replace(job.moved_to(JobState.SUCCEEDED), result=dict(result)))

    def fail(self, job_id: str, problem: Problem) -> Job:
        """Keep that a running job failed."""
        return self._change(job_id, lambda job: job.moved_to(JobState.FAILED, problem))

    def cancel(self, job_id: str) -> Job:
        """Keep that a job was cancelled."""
        return self._change(job_id, lambda job: job.moved_to(JobState.CANCELLED))

    def put_back(self, job_id: str, *, counts: bool = True) -> Job:
        """Put a running job back into the queue."""
        return self._change(job_id, lambda job: _put_back(job, counts=counts))

    def has_waiting(self, priority: Priority, kinds: JobKinds = EVERY_KIND) -> bool:
        """Say whether a job of at least this priority is queued."""
        queued = [job for job in tuple(self.jobs.values()) if job.state is JobState.QUEUED and job.kind in kinds]
        return any(job.priority >= priority for job in queued)

    def recover(
        self, problem: Problem, again: Callable[[Job], Again] = begun_twice, kinds: JobKinds = EVERY_KIND
    ) -> None:
        """Put running jobs back, or let them fail."""
        for job in self.all(JobState.RUNNING):
            if job.kind not in kinds:
                continue
            wanted = again(job)
            if wanted is Again.NO:
                self.fail(job.id, problem)
            else:
                self.put_back(job.id, counts=wanted is Again.COUNTED)

    def _change(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        with self._turn:
            return self._keep(change(self.get(job_id)))

    def _keep(self, job: Job) -> Job:
        with self._turn:
            before = self.jobs.get(job.id)
            self.jobs[job.id] = job
            if before is None or before.state is not job.state:
                self.seen.append((job.id, job.state))
            return job


def _put_back(job: Job, *, counts: bool) -> Job:
    queued = replace(job.moved_to(JobState.QUEUED), message="")
    return queued if counts else replace(queued, attempts=queued.attempts - 1)
