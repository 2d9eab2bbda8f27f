"""Models that learn, put together: stores, workflows, the line of trainings, and when these begin by themselves."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import cast

from annotate_server.api.services import Learning
from annotate_server.bootstrap.ports import TRAINER_FACTORY, Ports
from annotate_server.domain.annotation import Label
from annotate_server.domain.compute import JobWatchers, VolumePlace
from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.job import Job, JobKind, JobKinds, JobState
from annotate_server.domain.scoring import Scored
from annotate_server.domain.store_ports import JobQueue
from annotate_server.domain.training import Trained, TrainOrder
from annotate_server.jobs.dispatcher import Dispatcher, JobWork
from annotate_server.jobs.lanes import Lane
from annotate_server.jobs.worker_process import WorkerOptions, WorkerProcess
from annotate_server.stores.database import Database
from annotate_server.stores.sqlite_models import SqliteModels
from annotate_server.stores.sqlite_parts import SqliteParts
from annotate_server.stores.sqlite_works import SqliteWorks
from annotate_server.stores.training_folders import TrainingFolders
from annotate_server.workflows.curate import Curating
from annotate_server.workflows.label_work import LabelScoring
from annotate_server.workflows.models import OwnModels
from annotate_server.workflows.promote import Promoting
from annotate_server.workflows.records import Records
from annotate_server.workflows.training_orders import TrainingOrders
from annotate_server.workflows.training_set_json import read_training_set

log = logging.getLogger(__name__)

TRAININGS = JobKinds.only(JobKind.TRAIN)
ALL_BUT_TRAININGS = JobKinds.all_but(JobKind.TRAIN)
_TRAINING_NICE = 15
"""Whoever waits for an answer goes before what learns in the night."""
_STOP_S = 2.0
"""A training that does not stop in this time is ended: it goes on from its last checkpoint."""
_NIGHT_S = 300.0
"""Seconds between two looks at the clock."""

Fetch = Callable[[VolumePlace], None]


def _nothing(place: VolumePlace) -> None:
    """Have nothing to fetch: the files are here."""


@dataclass
class LearningLoop:
    """The parts of the server that learn; `begin` takes up what an earlier run left."""

    services: Learning
    scoring: LabelScoring
    trainings: Dispatcher
    folders: TrainingFolders
    training_hour: int
    considering: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "consider training"))
    _stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def lane(self) -> Lane:
        """Return the lane of the worker that trains."""
        return self.trainings.lane

    def begin(self) -> None:
        """Go on with trainings, order scores that were left out, and watch the clock."""
        self.begin_trainings()
        threading.Thread(target=self._watch_clock, name="train nightly", daemon=True).start()
        self.considering.submit(self._caught_up)

    def begin_trainings(self) -> None:
        """Go on with trainings, and nothing else."""
        queue = self.trainings.queue
        unended = {job.id for state in (JobState.QUEUED, JobState.RUNNING) for job in queue.all(state, limit=10_000)}
        self.folders.sweep(unended)
        self.trainings.start()

    def end(self) -> None:
        """Stop: a training in progress goes on from its last checkpoint at the next start."""
        self._stopping.set()
        self.considering.shutdown(wait=False, cancel_futures=True)
        self.trainings.drain(0.0)
        self.lane.close()

    def consider(self, project_id: str) -> None:
        """See, without letting anybody wait, whether a training is due and a provisional version stays."""
        if not self._stopping.is_set():
            self.considering.submit(_logged, lambda: self.services.orders.consider(project_id))

    def _caught_up(self) -> None:
        _logged(self.scoring.catch_up)
        for model in self.services.models.all():
            self.consider(model.project_id)

    def _watch_clock(self) -> None:
        done: date | None = None
        while not self._stopping.wait(_NIGHT_S):
            present = datetime.now().astimezone()
            if present.hour == self.training_hour and done != present.date():
                done = present.date()
                self.considering.submit(_logged, self.services.orders.consider_nightly)


@dataclass(frozen=True)
class LearningGround:
    """What the learning loop stands on."""

    ports: Ports
    database: Database
    records: Records
    queue: JobQueue
    watchers: JobWatchers
    fetch: Fetch = _nothing


def learning_loop(ground: LearningGround) -> LearningLoop:
    """Return the learning loop over a workspace; nothing of it runs yet."""
    ports, records = ground.ports, ground.records
    settings = ports.settings
    models, works, parts = SqliteModels(ground.database), SqliteWorks(ground.database), SqliteParts(ground.database)
    own = OwnModels(models, ports.registry, records.projects, ports.blobs)
    promoting = Promoting(models, works)
    curating = Curating(records, models, parts, ports.registry)
    folders = TrainingFolders(settings.workspace / "training")
    orders = TrainingOrders(own, curating, promoting, ground.queue, folders.root)
    options = WorkerOptions(TRAINER_FACTORY, settings.model_dump_json(), nice=_TRAINING_NICE, stop_s=_STOP_S)
    scoring = LabelScoring(records, models, works, ports.registry, ground.queue)
    services = Learning(own, orders, promoting, models, works, ports.blobs, folders.curve, scoring)
    dispatcher = Dispatcher(
        ground.queue, Lane(WorkerProcess(options)), {}, ground.watchers, TRAININGS, ends_worker=True
    )
    loop = LearningLoop(services, scoring, dispatcher, folders, settings.training_hour)
    dispatcher.works = {JobKind.TRAIN: _training(loop, ground)}
    orders.ordered.append(lambda job: begin_job(dispatcher, ground.watchers, job))
    scoring.scored.append(lambda label: loop.consider(label.project_id))
    return loop


def scoring_work(scoring: LabelScoring, fetch: Fetch) -> JobWork:
    """Return how scores of labels are carried out, in the line of drafts."""

    def prepared(job: Job) -> object:
        order = scoring.order_of(job)
        fetch(order.volume)
        return order

    return JobWork("score", prepared, lambda job, answer: scoring.keep(job, cast("Scored", answer)))


def order_score(scoring: LabelScoring) -> Callable[[Label], None]:
    """Return what an approved label is told to."""
    return lambda label: _logged(lambda: scoring.order(label))


def _training(loop: LearningLoop, ground: LearningGround) -> JobWork:
    orders, folders = loop.services.orders, loop.folders

    def prepared(job: Job) -> TrainOrder:
        order = orders.order_of(job)
        for entry in read_training_set(ground.ports.blobs.read(order.training_set)).entries:
            case = ground.records.cases.get(entry.case_id)
            ground.fetch(VolumePlace.of(case))
        return order

    return JobWork(
        "train",
        prepared,
        lambda job, answer: loop.services.promoting.keep(job, cast("Trained", answer)),
        finished=lambda job: loop.consider(loop.services.models.get(job.order["model"]).project_id),
        begun=folders.begun,
        again=folders.again,
        ended=folders.ended,
    )


def begin_job(dispatcher: Dispatcher, watchers: JobWatchers, job: Job) -> None:
    """Tell of a new job, and have it taken up."""
    watchers.tell(job)
    dispatcher.wake()


def _logged(act: Callable[[], object]) -> None:
    """Do what nobody waits for; what goes wrong is logged."""
    try:
        act()
    except AnnotateError as error:
        log.warning("the learning loop could not go on: %s", error, extra={"action": "learn"})
    except Exception:  # a thread of its own: whatever goes wrong, the next is considered
        log.exception("the learning loop failed", extra={"action": "learn"})
