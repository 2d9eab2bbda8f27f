"""What the workflows need from outside, as protocols; `bootstrap` decides who fulfils them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import Cancelled
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.model import App, ModelVersion, Prediction, Situation, WeightFile
from annotate_server.domain.volume import Volume


def _ignore(fraction: float, message: str) -> None:
    """Take a report of progress that nobody asked for."""


def _never() -> bool:
    """Say that nobody cancelled."""
    return False


@dataclass(frozen=True)
class Control:
    """How the caller steers long work.

    `report(fraction, message)` is called with 0 to 1. `is_cancelled()` is asked between steps. `device` is `cpu`,
    `cuda:0` and so on; `scratch` is a folder for memory-mapped intermediate arrays, None for the system's own.
    """

    device: str = "cpu"
    report: Callable[[float, str], None] = _ignore
    is_cancelled: Callable[[], bool] = _never
    scratch: Path | None = None

    def check(self) -> None:
        """Raise Cancelled when somebody asked to stop."""
        if self.is_cancelled():
            raise Cancelled("the work was stopped on request")


class LoadedModel(Protocol):
    """A model version that is ready to answer; used from one thread."""

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Answer a situation on volumes by role; the first is the reference. May cache by volume digest."""
        ...

    def close(self) -> None:
        """Give back memory and device."""
        ...


class Backend(Protocol):
    """The code that runs one kind of model; found by the entry point group `annotate_server.backends`."""

    name: str

    def load(self, version: ModelVersion, device: str) -> LoadedModel:
        """Make a version ready; raises InvalidApp, WeightsInvalid or BackendUnavailable."""
        ...


class BackendCatalogue(Protocol):
    """All backends of this installation."""

    def get(self, name: str) -> Backend:
        """Return a backend; BackendUnavailable says what to run where it cannot be imported."""
        ...

    def unavailable(self) -> Mapping[str, str]:
        """Return, by name, why a backend cannot be used and what to do."""
        ...


class ModelRegistry(Protocol):
    """The models of a workspace: apps, installed weights, versions."""

    @property
    def changes(self) -> int:
        """Return a number that grows when another version may serve, by whatever process; cheap to ask for."""
        ...

    def names(self) -> tuple[str, ...]:
        """Return the name of every model, sorted."""
        ...

    def app(self, name: str) -> App:
        """Return a model's app; raises UnknownModel or InvalidApp."""
        ...

    def missing(self, app: App) -> tuple[WeightFile, ...]:
        """Return the weights of an app that are not installed."""
        ...

    def ready(self) -> tuple[App, ...]:
        """Return the apps that are described well and miss no weights, sorted by name.

        A model that is yet to learn from nothing is among them.
        """
        ...

    def champion(self, name: str) -> ModelVersion:
        """Return the version that serves; raises UnknownModel or WeightsMissing with what to run."""
        ...

    def is_learned(self, name: str) -> bool:
        """Say whether a model is one that learns here, rather than an app."""
        ...

    def version(self, name: str, version_id: str) -> ModelVersion:
        """Return a version by its id, whoever serves now; raises UnknownModel or NotFound."""
        ...

    def original(self, name: str) -> ModelVersion:
        """Return what a full training begins from: the version forked from, or one without files."""
        ...


class VolumeReader(Protocol):
    """Reads voxels where a crash or a hang of the parser does not take the caller down."""

    def read(self, stored: StoredVolume) -> Volume:
        """Return the volume; raises an InputError that names the file and the defect."""
        ...


class VolumeCache(Protocol):
    """Volumes that were read before, by the digest of their voxels; any of them may be gone at any time."""

    def get(self, digest: str) -> Volume | None:
        """Return the volume, voxels mapped read-only; None where it is not there."""
        ...

    def put(self, volume: Volume) -> None:
        """Keep a volume; StorageFailed where the disk refuses."""
        ...


class StudySource(Protocol):
    """Where volumes come from: a folder, a file, an archive."""

    def scan(self) -> Iterator[StoredVolume]:
        """Yield what is there, headers only, unusable ones with their problem; the order is stable."""
        ...


class LabelmapReader(Protocol):
    """Reads labelmaps of any supported format onto a volume's grid, as safely as VolumeReader does."""

    def read_labelmap(self, path: Path, reference: Volume) -> tuple[Labelmap, ...]:
        """Return the labelmaps, one a layer where segments overlap; InvalidLabelmap where they lie elsewhere."""
        ...


class CaseReader(VolumeReader, LabelmapReader, Protocol):
    """Reads volumes and their labelmaps."""
