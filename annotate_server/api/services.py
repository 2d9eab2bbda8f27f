"""What the doors lead to, and the limits at the doors: two tables, filled by `bootstrap`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from annotate_server.domain.annotation import SendingState
from annotate_server.domain.archive import ArchiveRelay
from annotate_server.domain.compute import JobWatchers
from annotate_server.domain.learning_ports import ModelStore, WorkStore
from annotate_server.domain.ports import ModelRegistry
from annotate_server.domain.store_ports import (
    Blobs,
    CaseStore,
    JobQueue,
    LabelStore,
    PredictionStore,
    SessionStore,
    UserStore,
)
from annotate_server.domain.training import TrainingPoint
from annotate_server.workflows.annotate import Annotator
from annotate_server.workflows.dicom_serving import DicomServing
from annotate_server.workflows.dicom_storing import DicomStoring
from annotate_server.workflows.drafting import Drafting
from annotate_server.workflows.ingest import Ingest
from annotate_server.workflows.label_files import LabelFiles
from annotate_server.workflows.label_work import LabelScoring
from annotate_server.workflows.models import OwnModels
from annotate_server.workflows.projects import Projects
from annotate_server.workflows.promote import Promoting
from annotate_server.workflows.review import Reviewing
from annotate_server.workflows.suggest import Worklist
from annotate_server.workflows.training_orders import TrainingOrders


def _nothing_missing() -> Mapping[str, str]:
    return {}


def _none() -> int:
    return 0


def _no_sendings() -> Mapping[SendingState, int]:
    return {}


@dataclass(frozen=True)
class Learning:
    """What is behind the doors of models that learn."""

    own: OwnModels
    orders: TrainingOrders
    promoting: Promoting
    models: ModelStore
    works: WorkStore
    blobs: Blobs
    curve: Callable[[str], tuple[TrainingPoint, ...]]
    scoring: LabelScoring


@dataclass(frozen=True)
class Services:
    """The workflows and stores behind the routes; all may be called from several threads.

    `archive` hands DICOMweb on, where the studies are in an archive; `sendings` counts the labels that go back there.
    `uploads` is a folder for uploaded files: each upload is a folder in it whose name the server chose; names that
    begin with `.part-` are unfinished. `sessions` is only listed from. `readiness` says what is missing.
    `device` is what the settings say that models run on.
    """

    annotator: Annotator
    worklist: Worklist
    reviewing: Reviewing
    projects: Projects
    drafting: Drafting
    ingest: Ingest
    downloads: LabelFiles
    dicom: DicomServing
    storing: DicomStoring
    cases: CaseStore
    sessions: SessionStore
    predictions: PredictionStore
    labels: LabelStore
    jobs: JobQueue
    watchers: JobWatchers
    users: UserStore
    registry: ModelRegistry
    learning: Learning
    uploads: Path
    readiness: Callable[[], Mapping[str, str]] = _nothing_missing
    unavailable_backends: Callable[[], Mapping[str, str]] = _nothing_missing
    worker_restarts: Callable[[], int] = _none
    device: str = "cpu"
    archive: ArchiveRelay | None = None
    sendings: Callable[[], Mapping[SendingState, int]] = _no_sendings


@dataclass(frozen=True)
class Limits:
    """How much the doors let in; bytes, seconds, requests at once.

    `person_requests` and `all_requests` count requests in flight (those of a person that a model answers apart from
    their others), `person_streams` event streams. Up to `person_waiting` more of a person wait for their turn, each for
    at most `person_wait_s`. A body that brings nothing for `idle_s`, or fewer than `least_bytes_per_s` on average after
    that time, is given up.
    """

    json_bytes: int = 1 << 20
    frame_bytes: int = 512 << 20
    upload_bytes: int = 2 << 30
    unpacked_bytes: int = 8 << 30
    idle_s: float = 20.0
    least_bytes_per_s: int = 1024
    person_requests: int = 8
    person_streams: int = 8
    person_waiting: int = 128
    person_wait_s: float = 20.0
    all_requests: int = 128
    threads: int = 64
    heartbeat_s: float = 15.0
    cookie_s: float = 12 * 3600.0


LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True)
class ApiOptions:
    """How the server stands in its network.

    `alone` lets everybody in while there are no users: for a loopback address without a proxy before it. `is_secure`
    says that browsers reach it by TLS: cookies are then sent over TLS only. `host_names` are the names that a request
    may call the server by (against DNS rebinding); None for any. `viewer` is the folder of the built viewer, None for a
    server without one. `origins` are other websites whose pages may ask this server, as browsers name them.
    """

    alone: bool = True
    is_secure: bool = False
    host_names: frozenset[str] | None = LOOPBACK_NAMES
    limits: Limits = field(default_factory=Limits)
    viewer: Path | None = None
    origins: frozenset[str] = frozenset()
