"""Models that learn, for the command line: what needs no server, and trainings where none is running."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from annotate_server.bootstrap.learning import LearningGround, LearningLoop, learning_loop
from annotate_server.bootstrap.ports import Ports
from annotate_server.bootstrap.stored_records import stored_records
from annotate_server.domain.compute import JobWatchers
from annotate_server.domain.errors import Cancelled, StateError, error_of
from annotate_server.domain.job import Job
from annotate_server.domain.person import Person, Role
from annotate_server.jobs.sqlite_queue import SqliteQueue
from annotate_server.stores.database import FILE_NAME, open_database
from annotate_server.stores.workspace_lock import workspace_lock

COMMAND_LINE = Person("(command line)", Role.ADMIN)
"""Who has the workspace's files in hand, and needs no account."""
_LOOK_S = 0.2


@contextmanager
def opened_learning(ports: Ports) -> Iterator[LearningLoop]:
    """Give the learning loop of a workspace, of which nothing runs; a running server sees what is changed at once."""
    database = open_database(ports.settings.workspace / FILE_NAME)
    try:
        ports.models.use(database)
        records, _ = stored_records(ports, database)
        yield learning_loop(LearningGround(ports, database, records, SqliteQueue(database), JobWatchers()))
    finally:
        database.close()


def trained(
    ports: Ports, order: Callable[[LearningLoop], Job], report: Callable[[float, str], None]
) -> Mapping[str, str]:
    """Carry out what is ordered with a worker of this process, and return the job's result.

    A training that was interrupted before goes on. Raises StateError where a server uses the workspace, what ordering
    raises, and what the training failed with.
    """
    with _alone(ports), opened_learning(ports) as loop:
        job = order(loop)
        loop.begin_trainings()
        try:
            return _awaited(loop, job, report)
        finally:
            loop.end()


def _awaited(loop: LearningLoop, job: Job, report: Callable[[float, str], None]) -> Mapping[str, str]:
    while not job.has_ended:
        time.sleep(_LOOK_S)
        job = loop.trainings.queue.get(job.id)
        report(job.progress, job.message)
    if job.problem is not None:
        raise error_of(job.problem)
    if not job.result:
        raise Cancelled("the training was cancelled")
    return {"job": job.id, **job.result}


@contextmanager
def _alone(ports: Ports) -> Iterator[None]:
    """Hold the workspace; a server that has it is to be asked instead."""
    with ExitStack() as stack:
        try:
            stack.enter_context(workspace_lock(ports.settings.workspace))
        except StateError as error:
            remedy = "Let that server train: --server URL."
            raise StateError(error.detail, source=error.source, remedy=remedy) from error
        yield
