"""What every command works with: models, their backends, and readers of volumes, over one workspace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from annotate_server.backends.devices import chosen_device, limit_threads
from annotate_server.backends.discovery import EntryPointBackends
from annotate_server.backends.environments.environment import use_folder
from annotate_server.bootstrap.learned_models import LearnedModels
from annotate_server.domain.errors import StorageFailed
from annotate_server.imaging.isolation import Isolated, Limits
from annotate_server.imaging.reading import IsolatedReader
from annotate_server.settings import Settings
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.database import FILE_NAME, Database, open_database
from annotate_server.stores.folder_apps import FolderApps
from annotate_server.stores.model_registry import FolderModelRegistry
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.stores.sqlite_predictions import SqlitePredictions
from annotate_server.stores.workspace_registry import WorkspaceRegistry

if TYPE_CHECKING:
    from annotate_server.stores.folder_studies import FolderStudies
    from annotate_server.workflows.predict import Predictor
    from annotate_server.workflows.prediction_keeping import PredictionKeeper

WORKER_FACTORY = "annotate_server.bootstrap.workers:functions"
"""What puts a worker together, in its own process."""
TRAINER_FACTORY = "annotate_server.bootstrap.trainer:functions"
"""What puts the worker together that trains."""


@dataclass(frozen=True)
class Ports:
    """What the commands work with."""

    settings: Settings
    registry: WorkspaceRegistry
    backends: EntryPointBackends
    blobs: BlobFolder
    models: LearnedModels

    def predictor(self) -> "Predictor":
        """Return a predictor on the device of the settings."""
        from annotate_server.workflows.predict import Predictor  # noqa: PLC0415  not for who serves others only

        limit_threads(self.settings.threads)
        return Predictor(self.registry, self.backends, chosen_device(self.settings.device))

    @contextmanager
    def reader(self) -> Iterator[IsolatedReader]:
        """Give a reader of volumes whose parsing process ends with the block."""
        with Isolated(self.limits()) as isolated:
            yield IsolatedReader(isolated)

    @contextmanager
    def studies(self, source: Path) -> "Iterator[FolderStudies]":
        """Give the volumes below `source`; what is known of them is remembered in the workspace."""
        from annotate_server.stores.folder_studies import FolderStudies  # noqa: PLC0415  not for who scans nothing

        with Isolated(self.limits()) as isolated:
            yield FolderStudies(source, isolated, self.settings.workspace / "scan.sqlite")

    @contextmanager
    def predictions(self) -> "Iterator[PredictionKeeper]":
        """Give what keeps drafts in the workspace, for the session that opens their cases later."""
        from annotate_server.workflows.prediction_keeping import PredictionKeeper  # noqa: PLC0415  as above

        database = open_database(self.settings.workspace / FILE_NAME)
        try:
            yield PredictionKeeper(SqliteCases(database), SqlitePredictions(database), self.blobs)
        finally:
            database.close()

    def limits(self) -> Limits:
        """Return what a process that parses files may take."""
        return Limits(memory_bytes=self.settings.reader_memory_bytes)


def wire(settings: Settings, opened: Callable[[Path], Database] = open_database) -> Ports:
    """Return the ports over the workspace of the settings, which is made where it is not there.

    `opened` opens its database, when somebody first asks for a model that learned here.
    """
    workspace = settings.workspace
    try:
        workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(
            f"the workspace cannot be made ({error.strerror})",
            source=str(workspace),
            remedy="Name another with --workspace or ANNOTATE_WORKSPACE.",
        ) from error
    use_folder(settings.environments)
    apps = FolderApps((*settings.apps, adopted_apps(settings), shipped_apps()))
    blobs = BlobFolder(workspace / "blobs")
    models = LearnedModels(workspace / FILE_NAME, opened)
    registry = WorkspaceRegistry(FolderModelRegistry(apps, blobs, workspace / "partial"), blobs, models)
    return Ports(settings, registry, EntryPointBackends(), blobs, models)


def adopted_apps(settings: Settings) -> Path:
    """Return the folder of the apps that were made here out of what other software wrote."""
    return settings.workspace / "apps"


def shipped_apps() -> Path:
    """Return the folder of the shipped apps: in a wheel inside the package, in a checkout beside it."""
    spec = find_spec("annotate_server")
    package = Path(spec.origin).parent if spec and spec.origin else Path(__file__).parents[1]
    inside = package / "ready_apps"
    return inside if inside.is_dir() else package.parent / "apps"
