"""The server put together: stores, workers, workflows and doors over one workspace, and how they begin and end."""

import logging
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from annotate_server.api.services import Limits, Services
from annotate_server.bootstrap.archive import FetchingCompute
from annotate_server.bootstrap.backend_check import BackendCheck
from annotate_server.bootstrap.learning import (
    ALL_BUT_TRAININGS,
    LearningGround,
    LearningLoop,
    begin_job,
    learning_loop,
    order_score,
    scoring_work,
)
from annotate_server.bootstrap.ports import WORKER_FACTORY, Ports, wire
from annotate_server.bootstrap.stored_records import stored_records
from annotate_server.bootstrap.strategies import strategies
from annotate_server.domain.annotation import Session
from annotate_server.domain.archive import ArchiveAddress
from annotate_server.domain.compute import Compute, Drafted, JobWatchers, VolumePlace
from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.job import JobKind
from annotate_server.domain.store_ports import CaseStore
from annotate_server.imaging.dicom_parser import IsolatedDicom
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.reading import IsolatedReader
from annotate_server.jobs.dispatcher import Dispatcher, JobWork
from annotate_server.jobs.lanes import Lane, WorkerPool
from annotate_server.jobs.sqlite_queue import SqliteQueue
from annotate_server.jobs.worker_process import WorkerOptions, WorkerProcess
from annotate_server.settings import Settings
from annotate_server.stores.database import FILE_NAME, Database, open_database
from annotate_server.stores.description_files import DescriptionFiles
from annotate_server.stores.dicomweb_line import ArchiveLine
from annotate_server.stores.dicomweb_studies import ArchiveStudies, archive_studies
from annotate_server.stores.folder_studies import FolderStudies
from annotate_server.stores.identities import IdentityFile
from annotate_server.stores.sqlite_sendings import SqliteSendings
from annotate_server.stores.sqlite_users import SqliteUsers
from annotate_server.stores.volume_cache import FolderVolumeCache
from annotate_server.stores.workspace_lock import workspace_lock
from annotate_server.workflows.annotate import Annotator
from annotate_server.workflows.dicom_serving import DicomServing
from annotate_server.workflows.dicom_shelf import Shelf
from annotate_server.workflows.dicom_storing import DicomStoring
from annotate_server.workflows.dicom_volume_series import VolumeSource
from annotate_server.workflows.drafting import Drafting
from annotate_server.workflows.ingest import Ingest
from annotate_server.workflows.journal import Journal
from annotate_server.workflows.label_files import LabelFiles
from annotate_server.workflows.outlooks import Outlooks
from annotate_server.workflows.projects import Projects
from annotate_server.workflows.reception import Reception
from annotate_server.workflows.review import Reviewing
from annotate_server.workflows.sending_back import SendingBack
from annotate_server.workflows.suggest import Worklist

log = logging.getLogger(__name__)

_LONGEST_S = 2000.0
"""A worker that is at one thing for longer hangs; reading the largest volume may take 1800 s."""
_AT_ONCE_S = 0.2
_SEND_S = 1.0
"""Seconds between two looks at which labels are to be sent back."""
_BACKGROUND_NICE = 10
"""Whole drafts make way for prompts where both want the same core."""


@dataclass
class Server:
    """A server that is put together; `begin` starts its workers, `end` drains it.

    `studies` is the folder that is annotated, None for uploads only; that of what is known of `archive`, where there
    is one. `back` sends labels to it. `learning` is what trains.
    """

    settings: Settings
    services: Services
    prompts: Lane
    drafts: Lane
    dispatcher: Dispatcher
    journal: Journal
    ingest: Ingest
    learning: LearningLoop
    studies: Path | None
    archive: ArchiveStudies | None = None
    back: SendingBack | None = None
    ahead: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "draft ahead"))
    _stopping: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
        """Take up the jobs that an earlier run left, and look through the studies."""
        self.dispatcher.start()
        self.learning.begin()
        threading.Thread(target=self._watch_studies, name="scan studies", daemon=True).start()
        if self.back is not None:
            threading.Thread(target=self._send_back, args=(self.back,), name="send labels", daemon=True).start()

    def end(self) -> None:
        """Let work in progress end, put the rest back into the queue, and end the workers."""
        self._stopping.set()
        self.ahead.shutdown(wait=False, cancel_futures=True)
        self.learning.end()
        self.dispatcher.drain(self.settings.drain_s)
        self.prompts.close()  # nobody waits for an answer any more
        self.drafts.close()
        self.journal.close()

    def _watch_studies(self) -> None:
        while not self._stopping.is_set():
            if self.studies is not None:
                try:
                    self.ingest.scan(self.studies)
                except AnnotateError as error:
                    log.error("the studies could not be looked through: %s", error, extra={"action": "scan"})
            self.drafts.start()  # not before: whoever prompts first should not wait for it
            has_more = self.archive is not None and self.archive.has_more
            self._stopping.wait(_AT_ONCE_S if has_more else self.settings.rescan_s)

    def _send_back(self, back: SendingBack) -> None:
        while not self._stopping.wait(_SEND_S):
            try:
                back.send_due(self._stopping.is_set)
            except AnnotateError as error:
                log.error("labels could not be sent back: %s", error, extra={"action": "send"})


@contextmanager
def put_together(settings: Settings, studies: Path | ArchiveAddress | None) -> Iterator[Server]:
    """Give a server over the workspace of the settings; it ends with the block. `studies` are a folder, or an archive.

    Only the worker for prompts runs already: it takes longest to be ready, so it begins while the rest is put together.

    Raises StateError where another server uses the workspace, StorageFailed where it is damaged or of a newer version.
    """
    ports = wire(settings)
    workspace = settings.workspace
    with ExitStack() as stack:
        stack.enter_context(workspace_lock(workspace))
        database = open_database(workspace / FILE_NAME)  # first: a worker reads in it which version serves
        stack.callback(database.close)
        ports.models.use(database)
        prompts = Lane(_worker(settings, 0), _promptable(ports), settings.most_waiting)
        stack.callback(prompts.close)
        prompts.start()
        ports.blobs.sweep()
        isolated = stack.enter_context(Isolated(ports.limits()))
        identities = IdentityFile(workspace / "identities.sqlite")
        stack.callback(identities.close)
        parser = IsolatedDicom(*(stack.enter_context(Isolated(ports.limits())) for _ in range(2)))
        ground = _Ground(ports, database, prompts, IsolatedReader(isolated), identities, parser)
        if isinstance(studies, ArchiveAddress):
            line = ArchiveLine(studies)
            stack.callback(line.hang_up)
            looking = stack.enter_context(Isolated(ports.limits()))
            found = archive_studies(line, workspace, settings.archive_cache_bytes, looking)
            yield _wired(replace(ground, archive=found), found.folder)
        else:
            yield _wired(ground, studies)


@dataclass(frozen=True)
class _Ground:
    """What a server stands on: all of it is open."""

    ports: Ports
    database: Database
    prompts: Lane
    reader: IsolatedReader
    identities: IdentityFile
    parser: IsolatedDicom
    archive: ArchiveStudies | None = None


def _wired(ground: _Ground, studies: Path | None) -> Server:
    ports, database, prompts, reader = ground.ports, ground.database, ground.prompts, ground.reader
    settings, workspace, archive = ports.settings, ports.settings.workspace, ground.archive
    records, labels = stored_records(ports, database)
    drafts = Lane(_worker(settings, _BACKGROUND_NICE))
    pool, queue, watchers = WorkerPool(prompts), SqliteQueue(database), JobWatchers()
    fetching = None if archive is None else FetchingCompute(pool, archive, _volume_cache(settings))
    compute: Compute = fetching or pool
    reception = Reception(records, lease_s=settings.lease_s)
    journal = Journal(records, reception)
    annotator = Annotator(records, compute, reception, journal)
    drafting = Drafting(records, ports.registry, queue, annotator)
    fetched = (lambda order: order) if fetching is None else fetching.fetched
    work = JobWork(
        "draft",
        lambda job: fetched(drafting.order_of(job)),
        lambda job, answer: drafting.keep(job, cast("Drafted", answer)),
    )
    fetch = _no_fetch if fetching is None else fetching.fetch
    learning = learning_loop(LearningGround(ports, database, records, queue, watchers, fetch))
    labels.approved.append(order_score(learning.scoring))
    works: dict[str, JobWork] = {JobKind.DRAFT: work, JobKind.SCORE: scoring_work(learning.scoring, fetch)}
    dispatcher = Dispatcher(queue, drafts, works, watchers, ALL_BUT_TRAININGS)
    for ordered in (drafting.ordered, learning.scoring.ordered):
        ordered.append(lambda job: begin_job(dispatcher, watchers, job))
    index = workspace / "scan.sqlite"
    ingest = Ingest(
        records.cases,
        ground.identities,
        compute,
        lambda folder: (
            nullcontext(archive)
            if archive is not None and folder == studies
            else _studies(folder, reader.isolated, index if folder == studies else None)
        ),
        archive,
    )
    dicom = _dicom(ground, records.cases, compute)
    sendings = SqliteSendings(database)
    files = LabelFiles(records, compute, reader, workspace / "scratch", archive=archive)
    ingest.taken.append(dicom.take)
    known = strategies()
    outlooks = Outlooks(records.predictions, records.blobs)
    worklist = Worklist(records.projects, records.labels, annotator.open, outlooks=outlooks, strategies=known)
    drafting.suggested = worklist.items
    projects = Projects(records.projects, ports.registry, known.keys())
    projects.make_defaults()
    users = SqliteUsers(database)
    services = Services(
        annotator=annotator,
        worklist=worklist,
        reviewing=Reviewing(records.labels),
        projects=projects,
        drafting=drafting,
        ingest=ingest,
        downloads=files,
        dicom=dicom,
        storing=DicomStoring(ingest, dicom),
        cases=records.cases,
        sessions=records.sessions,
        predictions=records.predictions,
        labels=records.labels,
        jobs=queue,
        watchers=watchers,
        users=users,
        registry=ports.registry,
        learning=learning.services,
        uploads=workspace / "uploads",
        readiness=lambda: _missing(prompts, database),
        unavailable_backends=BackendCheck().unavailable,
        device=settings.device,
        worker_restarts=lambda: sum(lane.worker.deaths for lane in (prompts, drafts, learning.lane)),
        archive=None if archive is None else archive.line,
        sendings=sendings.counts,
    )
    back = None if archive is None else SendingBack(records, sendings, files, archive, archive)
    server = Server(settings, services, prompts, drafts, dispatcher, journal, ingest, learning, studies, archive, back)
    annotator.opened.append(lambda session: _draft_ahead(server, drafting, session))
    return server


def _dicom(ground: _Ground, cases: CaseStore, compute: Compute) -> DicomServing:
    settings, archive = ground.ports.settings, ground.archive
    descriptions = DescriptionFiles(settings.workspace / "dicom")
    volumes = VolumeSource(cases, compute, _volume_cache(settings), ground.parser, descriptions)
    serving = DicomServing(cases, Shelf(cases), volumes, ground.parser, descriptions)
    if archive is not None:
        serving.slices_elsewhere = lambda stored: archive.slices(stored) if archive.has(stored) else None
    return serving


def _volume_cache(settings: Settings) -> FolderVolumeCache:
    return FolderVolumeCache(settings.workspace / "volumes", settings.volume_cache_bytes)


def limits_of(settings: Settings) -> Limits:
    """Return the limits at the doors that the settings say."""
    return Limits(upload_bytes=settings.upload_bytes, unpacked_bytes=4 * settings.upload_bytes)


def _worker(settings: Settings, nice: int) -> WorkerProcess:
    return WorkerProcess(WorkerOptions(WORKER_FACTORY, settings.model_dump_json(), nice=nice, longest_s=_LONGEST_S))


def _promptable(ports: Ports) -> tuple[str, ...]:
    """Return the models that answer prompts and are ready."""
    return tuple(app.name for app in ports.registry.ready() if app.card.prompts)


def _missing(prompts: Lane, database: Database) -> Mapping[str, str]:
    """Return what is not ready, and why; empty where everything is."""
    found = {}
    if not prompts.is_ready:
        found["prompts"] = "the worker that answers prompts is starting"
    if database.failure is not None:
        found["database"] = database.failure
    return found


@contextmanager
def _studies(folder: Path, isolated: Isolated, index: Path | None) -> Iterator[FolderStudies]:
    """Give what lies below a folder; uploads are looked at once, so that nothing of them is remembered."""
    yield FolderStudies(folder, isolated, index)


def _no_fetch(place: VolumePlace) -> None:
    """Have nothing to fetch: the files are here."""


def _draft_ahead(server: Server, drafting: Drafting, session: Session) -> None:
    """Order the draft of the next case, without letting who opened this one wait for it."""
    server.ahead.submit(_ordered_ahead, drafting, session)


def _ordered_ahead(drafting: Drafting, session: Session) -> None:
    try:
        drafting.order_ahead(session)
    except AnnotateError as error:
        log.warning("the next case is not drafted ahead: %s", error, extra={"action": "ahead"})
