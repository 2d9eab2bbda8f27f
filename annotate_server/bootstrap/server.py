"""The server put together: stores, workers, workflows and doors over one workspace, and how they begin and end."""

import logging
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from annotate_server.api.services import Limits, Services
from annotate_server.bootstrap.backend_check import BackendCheck
from annotate_server.bootstrap.ports import WORKER_FACTORY, Ports, wire
from annotate_server.domain.annotation import Session
from annotate_server.domain.compute import Drafted, JobWatchers
from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.job import Job, JobKind
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
from annotate_server.stores.draft_files import DraftFiles
from annotate_server.stores.folder_studies import FolderStudies
from annotate_server.stores.identities import IdentityFile
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.stores.sqlite_labels import SqliteLabels
from annotate_server.stores.sqlite_predictions import SqlitePredictions
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.stores.sqlite_sessions import SqliteSessions
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
from annotate_server.workflows.projects import Projects
from annotate_server.workflows.reception import Reception
from annotate_server.workflows.records import Records
from annotate_server.workflows.review import Reviewing
from annotate_server.workflows.suggest import Worklist

log = logging.getLogger(__name__)

_LONGEST_S = 2000.0
"""A worker that is at one thing for longer hangs; reading the largest volume may take 1800 s."""
_BACKGROUND_NICE = 10
"""Whole drafts make way for prompts where both want the same core."""


@dataclass
class Server:
    """A server that is put together; `begin` starts its workers, `end` drains it.

    `studies` is the folder that is annotated, None for uploads only.
    """

    settings: Settings
    services: Services
    prompts: Lane
    drafts: Lane
    dispatcher: Dispatcher
    journal: Journal
    ingest: Ingest
    studies: Path | None
    ahead: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "draft ahead"))
    _stopping: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
        """Take up the jobs that an earlier run left, and look through the studies."""
        self.dispatcher.start()
        threading.Thread(target=self._watch_studies, name="scan studies", daemon=True).start()

    def end(self) -> None:
        """Let work in progress end, put the rest back into the queue, and end the workers."""
        self._stopping.set()
        self.ahead.shutdown(wait=False, cancel_futures=True)
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
            self._stopping.wait(self.settings.rescan_s)


@contextmanager
def put_together(settings: Settings, studies: Path | None) -> Iterator[Server]:
    """Give a server over the workspace of the settings; it ends with the block.

    Only the worker for prompts runs already: it takes longest to be ready, so it begins while the rest is put together.

    Raises StateError where another server uses the workspace, StorageFailed where it is damaged or of a newer version.
    """
    ports = wire(settings)
    workspace = settings.workspace
    with ExitStack() as stack:
        stack.enter_context(workspace_lock(workspace))
        prompts = Lane(_worker(settings, 0), _promptable(ports), settings.most_waiting)
        stack.callback(prompts.close)
        prompts.start()
        database = open_database(workspace / FILE_NAME)
        stack.callback(database.close)
        ports.blobs.sweep()
        isolated = stack.enter_context(Isolated(ports.limits()))
        identities = IdentityFile(workspace / "identities.sqlite")
        stack.callback(identities.close)
        parser = IsolatedDicom(*(stack.enter_context(Isolated(ports.limits())) for _ in range(2)))
        yield _wired(_Ground(ports, database, prompts, IsolatedReader(isolated), identities, parser), studies)


@dataclass(frozen=True)
class _Ground:
    """What a server stands on: all of it is open."""

    ports: Ports
    database: Database
    prompts: Lane
    reader: IsolatedReader
    identities: IdentityFile
    parser: IsolatedDicom


def _wired(ground: _Ground, studies: Path | None) -> Server:
    ports, database, prompts, reader = ground.ports, ground.database, ground.prompts, ground.reader
    settings, workspace = ports.settings, ports.settings.workspace
    records = Records(
        cases=SqliteCases(database),
        projects=SqliteProjects(database),
        sessions=SqliteSessions(database),
        labels=SqliteLabels(database),
        predictions=SqlitePredictions(database),
        blobs=ports.blobs,
        drafts=DraftFiles(workspace / "drafts"),
    )
    drafts = Lane(_worker(settings, _BACKGROUND_NICE))
    compute, queue, watchers = WorkerPool(prompts), SqliteQueue(database), JobWatchers()
    reception = Reception(records, lease_s=settings.lease_s)
    journal = Journal(records, reception)
    annotator = Annotator(records, compute, reception, journal)
    drafting = Drafting(records, ports.registry, queue, annotator)
    work = JobWork("draft", drafting.order_of, lambda job, answer: drafting.keep(job, cast("Drafted", answer)))
    dispatcher = Dispatcher(queue, drafts, {JobKind.DRAFT: work}, watchers)
    drafting.ordered.append(lambda job: _begin_job(dispatcher, watchers, job))
    index = workspace / "scan.sqlite"
    ingest = Ingest(
        records.cases,
        ground.identities,
        compute,
        lambda folder: _studies(folder, reader.isolated, index if folder == studies else None),
    )
    dicom = _dicom(ground, records.cases, compute)
    ingest.taken.append(dicom.take)
    projects = Projects(records.projects, ports.registry)
    projects.make_defaults()
    users = SqliteUsers(database)
    services = Services(
        annotator=annotator,
        worklist=Worklist(records.projects, records.labels, annotator.open),
        reviewing=Reviewing(records.labels),
        projects=projects,
        drafting=drafting,
        ingest=ingest,
        downloads=LabelFiles(records, compute, reader, workspace / "scratch"),
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
        uploads=workspace / "uploads",
        readiness=lambda: _missing(prompts, database),
        unavailable_backends=BackendCheck().unavailable,
        worker_restarts=lambda: prompts.worker.deaths + drafts.worker.deaths,
    )
    server = Server(settings, services, prompts, drafts, dispatcher, journal, ingest, studies)
    annotator.opened.append(lambda session: _draft_ahead(server, drafting, session))
    return server


def _dicom(ground: _Ground, cases: CaseStore, compute: WorkerPool) -> DicomServing:
    settings = ground.ports.settings
    descriptions = DescriptionFiles(settings.workspace / "dicom")
    cache = FolderVolumeCache(settings.workspace / "volumes", settings.volume_cache_bytes)
    volumes = VolumeSource(cases, compute, cache, ground.parser, descriptions)
    return DicomServing(cases, Shelf(cases), volumes, ground.parser, descriptions)


def limits_of(settings: Settings) -> Limits:
    """Return the limits at the doors that the settings say."""
    return Limits(upload_bytes=settings.upload_bytes, unpacked_bytes=4 * settings.upload_bytes)


def _worker(settings: Settings, nice: int) -> WorkerProcess:
    return WorkerProcess(WorkerOptions(WORKER_FACTORY, settings.model_dump_json(), nice=nice, longest_s=_LONGEST_S))


def _promptable(ports: Ports) -> tuple[str, ...]:
    """Return the models that answer prompts and are ready."""
    names = []
    for name in ports.registry.names():
        try:
            app = ports.registry.app(name)
        except AnnotateError:
            continue  # listed as not valid with the models
        if app.card.prompts and not ports.registry.missing(app):
            names.append(name)
    return tuple(names)


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


def _begin_job(dispatcher: Dispatcher, watchers: JobWatchers, job: Job) -> None:
    watchers.tell(job)
    dispatcher.wake()


def _draft_ahead(server: Server, drafting: Drafting, session: Session) -> None:
    """Order the draft of the next case, without letting who opened this one wait for it."""
    server.ahead.submit(_ordered_ahead, drafting, session)


def _ordered_ahead(drafting: Drafting, session: Session) -> None:
    try:
        drafting.order_ahead(session)
    except AnnotateError as error:
        log.warning("the next case is not drafted ahead: %s", error, extra={"action": "ahead"})
