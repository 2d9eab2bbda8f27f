"""A server in a thread over real stores and workflows; only what workers compute is stood in for."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
from conftest import oblique_geometry

from annotate_server.api.app import create_app
from annotate_server.api.services import ApiOptions, Learning, Services
from annotate_server.api.serving import Binding, DrainingServer, server_of
from annotate_server.domain.case import Case, Format, PatientKey, StoredVolume
from annotate_server.domain.clock import now
from annotate_server.domain.compute import Answered, HelpOrder, JobWatchers, PromptOrder, VolumePlace
from annotate_server.domain.errors import AnnotateError, UnreadableFile
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.model import Prediction
from annotate_server.domain.person import Person, Role
from annotate_server.domain.project import Project, ReviewPolicy
from annotate_server.domain.stored import StoredPrediction, VolumeFacts
from annotate_server.domain.volume import Modality
from annotate_server.imaging.dicom_parser import IsolatedDicom
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.labelmap_orders import StoredWriting
from annotate_server.jobs.sqlite_queue import SqliteQueue
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.database import open_database
from annotate_server.stores.description_files import DescriptionFiles
from annotate_server.stores.draft_files import DraftFiles
from annotate_server.stores.identities import IdentityFile
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.stores.sqlite_labels import SqliteLabels
from annotate_server.stores.sqlite_models import SqliteModels
from annotate_server.stores.sqlite_parts import SqliteParts
from annotate_server.stores.sqlite_predictions import SqlitePredictions
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.stores.sqlite_sessions import SqliteSessions
from annotate_server.stores.sqlite_users import SqliteUsers
from annotate_server.stores.sqlite_works import SqliteWorks
from annotate_server.stores.training_folders import TrainingFolders
from annotate_server.stores.volume_cache import FolderVolumeCache
from annotate_server.testing.fakes import BRIGHT, InMemoryRegistry, threshold_app
from annotate_server.workflows.annotate import Annotator
from annotate_server.workflows.curate import Curating
from annotate_server.workflows.dicom_serving import DicomServing
from annotate_server.workflows.dicom_shelf import Shelf
from annotate_server.workflows.dicom_storing import DicomStoring
from annotate_server.workflows.dicom_volume_series import VolumeSource
from annotate_server.workflows.drafting import Drafting
from annotate_server.workflows.ingest import Ingest
from annotate_server.workflows.journal import Journal
from annotate_server.workflows.label_files import LabelFiles
from annotate_server.workflows.label_work import LabelScoring
from annotate_server.workflows.layers import keep_layer
from annotate_server.workflows.models import OwnModels
from annotate_server.workflows.projects import Projects
from annotate_server.workflows.promote import Promoting
from annotate_server.workflows.reception import Reception
from annotate_server.workflows.records import Records
from annotate_server.workflows.review import Reviewing
from annotate_server.workflows.suggest import Worklist
from annotate_server.workflows.training_orders import TrainingOrders

GEOMETRY = oblique_geometry((9, 14, 11))
DARK = Segment(2, "Dark", (30, 60, 220))
ROOT = Person("root", Role.ADMIN)
PATIENT = "Meier^Anna"  # an identifier of a patient that must never be seen


@dataclass
class CubeCompute:
    """Answers every prompt with a cube of two voxels at the border of the grid; `failure` is raised instead."""

    failure: AnnotateError | None = None
    hold: threading.Event | None = None
    asked: list[PromptOrder | HelpOrder] = field(default_factory=list)

    def facts(self, volume: VolumePlace) -> VolumeFacts:
        if volume.stored.files[0].read_bytes()[:4] == b"bad!":
            raise UnreadableFile("it ends in the middle of a slice", source="volume.nii")
        digest = str(volume.stored.files[0].stat().st_size)
        return VolumeFacts(
            hashlib.sha256(digest.encode()).hexdigest(),
            GEOMETRY,
            volume.stored.modality,
            "HU",
            ("The qform was not used",),
        )

    def prompt(self, order: PromptOrder) -> Answered:
        self.asked.append(order)
        if self.hold is not None:
            self.hold.wait(20)
        return self._cube(order.active, f"{order.model}@1")

    def help(self, order: HelpOrder) -> Answered:
        self.asked.append(order)
        return self._cube(order.active, "")

    def _cube(self, active: Segment, version: str) -> Answered:
        if self.failure is not None:
            raise self.failure
        box = Box((1, 2, 3), (3, 4, 5))
        return Answered(Prediction(box, np.full(box.shape, active.index, np.uint8), (active,)), version)


@dataclass
class OneVolumeAFile:
    """A source that takes every file of a folder for a NIfTI volume."""

    folder: Path

    def scan(self) -> Iterator[StoredVolume]:
        for file in sorted(self.folder.iterdir()):
            yield StoredVolume(file.name, Format.NIFTI, (file,), PatientKey("", PATIENT), Modality.CT)


class NameWriter:
    """Writes the names of the segments in place of a labelmap."""

    def read_labelmap(self, path: Path, reference: Geometry) -> tuple[Labelmap, ...]:
        raise NotImplementedError

    def write_stored(self, writing: StoredWriting) -> None:
        names = [segment.name for layer in writing.layers for segment in layer.segments]
        writing.path.write_text(f"{writing.kind}: {', '.join(names)}")


@dataclass
class Watch:
    """The time, which a test may move on."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return now() + self.ahead

    def skip(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


@dataclass
class Site:
    """Everything behind a server, for a test to look at and to break."""

    folder: Path
    services: Services
    compute: CubeCompute
    records: Records
    reception: Reception
    missing: dict[str, str]
    watch: Watch
    parsers: tuple[Isolated, ...] = ()
    case_ids: tuple[str, ...] = ()

    def add_case(self, number: int) -> str:
        file = self.folder / f"{number}.nii"
        file.write_bytes(b"nifti" + bytes(number))
        stored = StoredVolume(
            f"folder/{number}.nii",
            Format.DICOM if number == 1 else Format.NIFTI,
            (file,),
            PatientKey("hospital", f"{PATIENT}{number}"),
            None if number == 3 else Modality.CT,
            study_uid="1.2.3" if number == 1 else None,
            series_uid="1.2.3.4" if number == 1 else None,
        )
        self.services.cases.put([Case(f"case{number}", stored.patient, {"CT": stored})])
        return f"case{number}"

    def add_prediction(self, case_id: str) -> str:
        voxels = np.zeros(GEOMETRY.shape, np.uint8)
        voxels[4:6, 4:8, 4:9] = 1
        layer = keep_layer(self.records.blobs, Labelmap(voxels, GEOMETRY, (BRIGHT,)))
        stored = StoredPrediction(f"prediction-{case_id}", case_id, "bright", "1", layer, self.reception.clock())
        self.services.predictions.add(stored)
        return stored.id


def make_site(folder: Path) -> Site:
    """Return a site with three cases and the projects `bright` (not reviewed) and `reviewed`."""
    database, watch = open_database(folder / "annotate.sqlite"), Watch()
    records = Records(
        SqliteCases(database),
        SqliteProjects(database),
        SqliteSessions(database, watch),
        SqliteLabels(database),
        SqlitePredictions(database),
        BlobFolder(folder / "blobs"),
        DraftFiles(folder / "drafts"),
    )
    compute, reception = CubeCompute(), Reception(records, clock=watch)
    registry = InMemoryRegistry({"bright": threshold_app()})
    annotator = Annotator(records, compute, reception, Journal(records, reception))
    queue, missing = SqliteQueue(database), dict[str, str]()
    identities = IdentityFile(folder / "identities.sqlite")

    @contextmanager
    def opened(below: Path) -> Iterator[OneVolumeAFile]:
        yield OneVolumeAFile(below)

    parsers = (Isolated(), Isolated())
    parser = IsolatedDicom(*parsers)
    descriptions, ingest = DescriptionFiles(folder / "dicom"), Ingest(records.cases, identities, compute, opened)
    volumes = VolumeSource(records.cases, compute, FolderVolumeCache(folder / "volumes", 1 << 30), parser, descriptions)
    dicom = DicomServing(records.cases, Shelf(records.cases), volumes, parser, descriptions)
    ingest.taken.append(dicom.take)

    def readiness() -> Mapping[str, str]:
        return missing

    models, works = SqliteModels(database), SqliteWorks(database)
    own = OwnModels(models, registry, records.projects, records.blobs)
    promoting = Promoting(models, works)
    folders = TrainingFolders(folder / "training")
    curating = Curating(records, models, SqliteParts(database), registry)
    orders = TrainingOrders(own, curating, promoting, queue, folders.root)
    scoring = LabelScoring(records, models, works, registry, queue)
    services = Services(
        annotator=annotator,
        worklist=Worklist(records.projects, records.labels, annotator.open, watch),
        reviewing=Reviewing(records.labels),
        projects=Projects(records.projects, registry),
        drafting=Drafting(records, registry, queue, annotator),
        ingest=ingest,
        dicom=dicom,
        storing=DicomStoring(ingest, dicom),
        downloads=LabelFiles(records, compute, NameWriter(), folder / "scratch"),
        cases=records.cases,
        sessions=records.sessions,
        predictions=records.predictions,
        labels=records.labels,
        jobs=queue,
        watchers=JobWatchers(),
        users=SqliteUsers(database),
        registry=registry,
        learning=Learning(own, orders, promoting, models, works, records.blobs, folders.curve, scoring),
        uploads=folder / "uploads",
        readiness=readiness,
    )
    site = Site(folder, services, compute, records, reception, missing, watch, parsers)
    records.projects.add(Project("bright", "Bright", (BRIGHT, DARK), ("bright",)), ROOT)
    records.projects.add(
        Project("reviewed", "Reviewed", (BRIGHT,), ("bright",), review=ReviewPolicy.OTHER_PERSON), ROOT
    )
    return replace(site, case_ids=tuple(site.add_case(number) for number in (1, 2, 3)))


@dataclass
class Running:
    """A server that listens on a free port of the loopback address."""

    url: str
    site: Site
    server: DrainingServer
    thread: threading.Thread

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        for parser in self.site.parsers:
            parser.close()


@contextmanager
def serving(site: Site, options: ApiOptions | None = None) -> Iterator[Running]:
    """Serve a site from a thread for as long as the block lasts."""
    binding, listening = Binding(port=0), threading.Event()
    server = server_of(create_app(site.services, options), binding, listening.set)
    with binding.bound() as taken:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([taken])), daemon=True)
        thread.start()
        assert listening.wait(20)
        running = Running(binding.url(taken), site, server, thread)
        try:
            yield running
        finally:
            running.stop()
