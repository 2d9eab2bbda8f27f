"""The dispatcher: a thread that takes jobs from the queue and has a lane carry them out, one at a time."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from annotate_server.domain.compute import JobWatchers
from annotate_server.domain.errors import (
    AnnotateError,
    Cancelled,
    PredictionFailed,
    ShuttingDown,
    StateError,
    StorageFailed,
    TooBusy,
    WorkerDied,
)
from annotate_server.domain.job import EVERY_KIND, Again, Job, JobKinds, JobState, Priority, begun_twice
from annotate_server.domain.ports import Control
from annotate_server.domain.store_ports import JobQueue
from annotate_server.jobs.lanes import Lane

log = logging.getLogger(__name__)

ADVANCE_EVERY_S = 0.25
"""How often progress is written down, and whether the job is still wanted is asked, at most."""
POLL_S = 0.5
"""How long it takes at most until a job is noticed of which nobody told the dispatcher."""
AFTER_TROUBLE_S = 5.0
"""A queue that cannot be used (a full disk) is left alone for so long."""
STOPPED_S = 1.0
"""How long it takes at most to write down that a job was stopped."""


def _nothing(job: Job) -> None:
    """Do nothing more."""


@dataclass(frozen=True)
class JobWork:
    """How jobs of one kind are carried out.

    `prepared(job)` gives the argument of the worker's `function`. `kept(job, answer)` puts what the worker answered
    into the store and returns the job's result: what fails there fails the job. `finished(job)` is called with the
    succeeded job before its watchers are told: what fails there is logged, and the job stays succeeded.

    `begun(job)` is called before each attempt, `again(job)` says whether one more is made after the process died, and
    `ended(job)` is called with the job in whatever state it ended.
    """

    function: str
    prepared: Callable[[Job], object]
    kept: Callable[[Job, object], Mapping[str, str]]
    finished: Callable[[Job], None] = _nothing
    begun: Callable[[Job], None] = _nothing
    again: Callable[[Job], Again] = begun_twice
    ended: Callable[[Job], None] = _nothing


class _Ending(StrEnum):
    """Why a running job is to stop."""

    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    DRAINED = "drained"


@dataclass
class Dispatcher:
    """Runs jobs of some kinds, highest priority first; `start` it, `wake` it for new jobs, and `drain` it at the end.

    A job that runs for nobody in particular goes back to the queue when somebody's job waits. A job whose worker dies
    is begun once more, then it fails, unless its work says otherwise. What a job is cancelled for in the queue, by
    whoever, is noticed while it runs. `ends_worker` gives the worker's memory back after each job.
    """

    queue: JobQueue
    lane: Lane
    works: Mapping[str, JobWork]
    watchers: JobWatchers = field(default_factory=JobWatchers)
    kinds: JobKinds = EVERY_KIND
    ends_worker: bool = False
    _thread: threading.Thread | None = field(default=None, init=False, repr=False)
    _woken: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _is_draining: bool = field(default=False, init=False)
    _is_out_of_time: bool = field(default=False, init=False)

    def start(self) -> None:
        """Put back what an earlier process left running, and begin."""
        died = WorkerDied("the server stopped while it ran, more than once", remedy="Order it again.")
        self.queue.recover(died.problem(), self._again, self.kinds)
        self._thread = threading.Thread(target=self._run, name="dispatch jobs", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look into the queue now."""
        self._woken.set()

    def drain(self, timeout_s: float) -> None:
        """Begin no job any more; the running one gets `timeout_s` to end, then it goes back to the queue."""
        self._is_draining = True
        self._woken.set()
        if self._thread is None:
            return
        self._thread.join(timeout_s)
        self._is_out_of_time = True
        self._thread.join(self.lane.worker.options.stop_s + STOPPED_S)
        if self._thread.is_alive():  # it waits in line for a worker that does not start
            self.lane.close()
            self._thread.join(STOPPED_S)

    def _run(self) -> None:
        """Take one job after the other."""
        while not self._is_draining:
            try:
                job = self.queue.claim(self.kinds)
                if job is None:
                    self._woken.wait(POLL_S)
                    self._woken.clear()
                else:
                    self._carry_out(job)
            except AnnotateError as error:
                log.error("the queue of jobs cannot be used: %s", error)
                self._pause()
            except Exception:  # the worker loop: whatever one job brings about, the next is taken
                log.exception("a job could not be brought to its end")
                self._pause()

    def _carry_out(self, job: Job) -> None:
        """Run a claimed job and keep what became of it."""
        self.tell(job)
        run = _Run(self, job)
        log.info("a job begins", extra={"job": job.id, "kind": job.kind, "attempt": job.attempts})
        try:
            ended = self._succeeded(run)
        except Cancelled as error:
            ended = self._failed(job, error) if run.ending is None else self._put_back(job, counts=False)
        except (ShuttingDown, TooBusy):
            ended = self._put_back(job, counts=False)
            self._woken.wait(POLL_S)
        except WorkerDied as error:
            again = self._again(job)
            ended = (
                self._failed(job, error) if again is Again.NO else self._put_back(job, counts=again is Again.COUNTED)
            )
        except AnnotateError as error:
            ended = self._failed(job, error)
        except Exception as error:  # the worker loop: what nobody foresaw fails this job and no other
            log.exception("a job failed in a way that was not foreseen", extra={"job": job.id})
            ended = self._failed(job, PredictionFailed(f"it stopped with {type(error).__name__}"))
        log.info("a job is %s", ended.state, extra={"job": job.id, "kind": job.kind})
        if ended.has_ended:
            if self.ends_worker:
                self.lane.worker.end()
            self._after(ended)
        self.tell(ended)

    def _after(self, job: Job) -> None:
        """Let a job's work clean up; no other job suffers where it cannot."""
        work = self.works.get(job.kind)
        try:
            if work is not None:
                work.ended(job)
        except AnnotateError as error:
            log.warning("what a job left could not be cleaned up: %s", error, extra={"job": job.id})

    def _again(self, job: Job) -> Again:
        """Say whether a job is begun again over which its process died."""
        work = self.works.get(job.kind)
        return begun_twice(job) if work is None else work.again(job)

    def _succeeded(self, run: "_Run") -> Job:
        """Run a job to its good end, or raise."""
        job = run.job
        work = self.works.get(job.kind)
        if work is None:
            raise PredictionFailed(f"this version cannot carry out a job of the kind {job.kind!r}")
        work.begun(job)
        answer = self.lane.ask(work.function, work.prepared(job), run.control())
        ended = self.queue.finish(job.id, work.kept(job, answer))
        try:
            work.finished(ended)
        except AnnotateError as error:
            log.warning("what should follow a job did not: %s", error, extra={"job": job.id})
        return ended

    def _failed(self, job: Job, error: AnnotateError) -> Job:
        """Keep that a job failed."""
        return self._kept(job, lambda: self.queue.fail(job.id, error.problem()))

    def _put_back(self, job: Job, *, counts: bool) -> Job:
        """Put a job back into the queue."""
        return self._kept(job, lambda: self.queue.put_back(job.id, counts=counts))

    def _kept(self, job: Job, keep: Callable[[], Job]) -> Job:
        """Keep what became of a job, as soon as there is room for it; one that was cancelled meanwhile stays so.

        Given up, it would be running for ever: only the next start of the server takes up what nobody runs.
        """
        while True:
            try:
                return keep()
            except StateError:
                return self.queue.get(job.id)
            except (StorageFailed, TooBusy) as error:
                if self._is_draining:
                    raise
                log.error("what became of a job could not be kept: %s", error, extra={"job": job.id})
                self._pause()

    def _pause(self) -> None:
        """Leave a queue that cannot be used alone for a while."""
        self._woken.wait(AFTER_TROUBLE_S)
        if not self._is_draining:
            self._woken.clear()

    def tell(self, job: Job) -> None:
        """Tell the watchers; no job suffers from one that cannot listen any more."""
        try:
            self.watchers.tell(job)
        except Exception:  # part of the worker loop: a watcher is somebody else's, perhaps on its way out
            log.exception("a watcher of jobs failed", extra={"job": job.id})

    def ending(self, job: Job) -> _Ending | None:
        """Say why a running job should stop; None where it should not."""
        if self._is_out_of_time:
            return _Ending.DRAINED
        try:
            if self.queue.get(job.id).state is JobState.CANCELLED:
                return _Ending.CANCELLED
            if job.priority < Priority.PERSON and self.queue.has_waiting(Priority.PERSON, self.kinds):
                return _Ending.PREEMPTED
        except AnnotateError as error:
            log.warning("whether a job is still wanted could not be asked: %s", error, extra={"job": job.id})
        return None


@dataclass
class _Run:
    """A job while it runs."""

    dispatcher: Dispatcher
    job: Job
    ending: _Ending | None = None
    told_s: float = 0.0
    asked_s: float = 0.0

    def control(self) -> Control:
        """Return how the worker is steered."""
        return Control(report=self._advance, is_cancelled=self._is_unwanted)

    def _advance(self, fraction: float, message: str) -> None:
        """Write progress down and tell the watchers."""
        now = time.monotonic()
        if now - self.told_s < ADVANCE_EVERY_S:
            return
        self.told_s = now
        try:
            self.dispatcher.queue.advance(self.job.id, fraction, message)
        except AnnotateError as error:
            log.debug("progress was not kept: %s", error)
            return
        self.job = self.job.advanced(fraction, message)
        self.dispatcher.tell(self.job)

    def _is_unwanted(self) -> bool:
        """Say whether the job should stop; the queue is not asked at every look."""
        now = time.monotonic()
        if self.ending is None and now - self.asked_s >= ADVANCE_EVERY_S:
            self.asked_s = now
            self.ending = self.dispatcher.ending(self.job)
        return self.ending is not None
