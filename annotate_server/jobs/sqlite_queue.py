"""The queue of jobs in the workspace's database: what was queued outlives the process that was asked."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    func,
    insert,
    select,
    update,
)

from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import NotFound, Problem, StateError
from annotate_server.domain.job import EVERY_KIND, Again, Job, JobKinds, JobState, Priority, begun_twice

METADATA = MetaData()
JOBS = Table(
    "job",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("job_order", String, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("person", String, nullable=False),
    Column("state", String, nullable=False),
    Column("progress", Float, nullable=False),
    Column("message", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("result", String, nullable=False),
    Column("problem", String, nullable=True),
    Column("made_at", String, nullable=True),
    Column("begun_at", String, nullable=True),
    Column("ended_at", String, nullable=True),
    Index("job_by_state", "state", "priority", "number"),
    Index("job_of_person", "person", "begun_at"),
)
_UNENDED = (JobState.QUEUED, JobState.RUNNING)


class Transactions(Protocol):
    """Transactions on the database that has the table."""

    def reading(self) -> AbstractContextManager[Connection]:
        """Give a connection that sees one state."""
        ...

    def writing(self) -> AbstractContextManager[Connection]:
        """Give the one connection that may write; on a clean exit all of it is on the disk."""
        ...


class SqliteQueue:
    """Fulfils `store_ports.JobQueue`."""

    def __init__(self, database: Transactions, clock: Clock = now) -> None:
        """Keep jobs in `database`."""
        self._database = database
        self._clock = clock

    def add(self, job: Job) -> None:
        """Keep a queued job."""
        if job.state is not JobState.QUEUED:
            raise StateError(f"job {job.id} is {job.state} and cannot be queued")
        with self._database.writing() as connection:
            connection.execute(insert(JOBS), _row(replace(job, made_at=job.made_at or self._clock())))

    def get(self, job_id: str) -> Job:
        """Return a job; raises NotFound."""
        with self._database.reading() as connection:
            return _get(connection, job_id)

    def all(self, state: JobState | None = None, limit: int = 200, kind: str | None = None) -> tuple[Job, ...]:
        """Return jobs, newest first: of any kind, or of one."""
        query = select(JOBS).order_by(JOBS.c.number.desc()).limit(limit)
        if state is not None:
            query = query.where(JOBS.c.state == state.value)
        if kind is not None:
            query = query.where(JOBS.c.kind == kind)
        with self._database.reading() as connection:
            return tuple(_job(row) for row in connection.execute(query).mappings())

    def same(self, job: Job) -> Job | None:
        """Return a job with the same kind and order that has not ended, if there is one."""
        query = select(JOBS).where(
            JOBS.c.state.in_([state.value for state in _UNENDED]),
            JOBS.c.kind == job.kind,
            JOBS.c.job_order == _text(job.order),
        )
        with self._database.reading() as connection:
            row = connection.execute(query.order_by(JOBS.c.number).limit(1)).mappings().first()
        return None if row is None else _job(row)

    def claim(self, kinds: JobKinds = EVERY_KIND) -> Job | None:
        """Return the next job as running: highest priority, then the person who was served longest ago, then age."""
        others = JOBS.alias()
        served = select(func.max(others.c.begun_at)).where(others.c.person == JOBS.c.person).scalar_subquery()
        query = (
            select(JOBS)
            .where(JOBS.c.state == JobState.QUEUED.value, _of(kinds))
            .order_by(JOBS.c.priority.desc(), func.coalesce(served, ""), JOBS.c.number)
            .limit(1)
        )
        with self._database.reading() as connection:
            if connection.execute(query).first() is None:
                return None
        with self._database.writing() as connection:
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            return _keep(connection, replace(_job(row).moved_to(JobState.RUNNING), begun_at=self._clock()))

    def advance(self, job_id: str, progress: float, message: str) -> None:
        """Keep how far a running job is; StateError where it is not running (any more)."""
        with self._database.writing() as connection:
            _keep(connection, _get(connection, job_id).advanced(progress, message))

    def finish(self, job_id: str, result: Mapping[str, str]) -> Job:
        """Keep that a running job succeeded, and return it; StateError where it was cancelled meanwhile."""
        return self._end(job_id, JobState.SUCCEEDED, result=result)

    def fail(self, job_id: str, problem: Problem) -> Job:
        """Keep that a running job failed, and return it; StateError where it was cancelled meanwhile."""
        return self._end(job_id, JobState.FAILED, problem)

    def cancel(self, job_id: str) -> Job:
        """Keep that a queued or running job was cancelled, and return it; StateError where it has ended."""
        return self._end(job_id, JobState.CANCELLED)

    def put_back(self, job_id: str, *, counts: bool = True) -> Job:
        """Put a running job back into the queue and return it; where not `counts`, this attempt is forgotten."""
        with self._database.writing() as connection:
            return _keep(connection, _put_back(_get(connection, job_id), counts=counts))

    def has_waiting(self, priority: Priority, kinds: JobKinds = EVERY_KIND) -> bool:
        """Say whether a job of at least this priority is queued."""
        queued = JOBS.c.state == JobState.QUEUED.value
        query = select(JOBS.c.id).where(queued, JOBS.c.priority >= int(priority), _of(kinds))
        with self._database.reading() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def recover(
        self, problem: Problem, again: Callable[[Job], Again] = begun_twice, kinds: JobKinds = EVERY_KIND
    ) -> None:
        """Put running jobs back into the queue after a crash; those that are not begun again fail with `problem`."""
        running = select(JOBS).where(JOBS.c.state == JobState.RUNNING.value, _of(kinds))
        with self._database.writing() as connection:
            for job in [_job(row) for row in connection.execute(running).mappings()]:
                wanted = again(job)
                if wanted is Again.NO:
                    _keep(connection, replace(job.moved_to(JobState.FAILED, problem), ended_at=self._clock()))
                else:
                    _keep(connection, _put_back(job, counts=wanted is Again.COUNTED))

    def _end(
        self, job_id: str, state: JobState, problem: Problem | None = None, result: Mapping[str, str] | None = None
    ) -> Job:
        with self._database.writing() as connection:
            job = replace(_get(connection, job_id).moved_to(state, problem), ended_at=self._clock())
            return _keep(connection, job if result is None else replace(job, result=dict(result)))


def _of(kinds: JobKinds) -> ColumnElement[bool]:
    named = sorted(kinds.names)
    return JOBS.c.kind.not_in(named) if kinds.is_all_but else JOBS.c.kind.in_(named)


def _put_back(job: Job, *, counts: bool) -> Job:
    return replace(job.moved_to(JobState.QUEUED), message="", attempts=job.attempts - (not counts))


def _get(connection: Connection, job_id: str) -> Job:
    row = connection.execute(select(JOBS).where(JOBS.c.id == job_id)).mappings().first()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return _job(row)


def _keep(connection: Connection, job: Job) -> Job:
    connection.execute(update(JOBS).where(JOBS.c.id == job.id), _row(job))
    return job


def _row(job: Job) -> Mapping[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "job_order": _text(job.order),
        "priority": int(job.priority),
        "person": job.person,
        "state": job.state.value,
        "progress": job.progress,
        "message": job.message,
        "attempts": job.attempts,
        "result": _text(job.result),
        "problem": None if job.problem is None else json.dumps(asdict(job.problem)),
        "made_at": _time(job.made_at),
        "begun_at": _time(job.begun_at),
        "ended_at": _time(job.ended_at),
    }


def _job(row: RowMapping) -> Job:
    return Job(
        id=row["id"],
        kind=row["kind"],
        order=json.loads(row["job_order"]),
        priority=Priority(row["priority"]),
        person=row["person"],
        state=JobState(row["state"]),
        progress=row["progress"],
        message=row["message"],
        attempts=row["attempts"],
        result=json.loads(row["result"]),
        problem=None if row["problem"] is None else Problem(**json.loads(row["problem"])),
        made_at=_when(row["made_at"]),
        begun_at=_when(row["begun_at"]),
        ended_at=_when(row["ended_at"]),
    )


def _text(words: Mapping[str, str]) -> str:
    return json.dumps(dict(words), sort_keys=True)


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds")


def _when(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
