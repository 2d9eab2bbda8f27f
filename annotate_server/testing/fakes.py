"""In-memory twins of the ports: real behaviour without disk, process or network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import AnnotateError, BackendUnavailable, NotFound, UnknownModel, WeightsMissing
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import App, ModelCard, ModelVersion, Prediction, Situation, WeightFile
from annotate_server.domain.ports import Backend, Control, LoadedModel
from annotate_server.domain.prompt import PromptKind
from annotate_server.domain.volume import Modality, Volume

BRIGHT = Segment(1, "Bright", (220, 60, 60))


def threshold_app(
    name: str = "bright", modality: Modality = Modality.CT, segments: tuple[Segment, ...] = (BRIGHT,)
) -> App:
    """Return an app of the backend `threshold`, which needs no weights."""
    card = ModelCard(
        title="Bright voxels",
        purpose="Tests.",
        not_for="Patients.",
        modalities=(modality,),
        segments=segments,
        licence="Apache-2.0",
        attribution="None.",
        prompts=frozenset({PromptKind.POINT}),
    )
    return App(name, Path(name), "threshold", card, (), {}, digest=f"{name}-1")


@dataclass
class ThresholdModel:
    """Calls everything above `level` the first segment of its card; within the active segment for a prompt."""

    version: ModelVersion
    level: float = 100.0
    closed: bool = False
    failure: Exception | None = None

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Answer with the box of the bright voxels."""
        control.check()
        if self.failure is not None:
            raise self.failure
        reference = next(iter(volumes.values()))
        bright = reference.voxels.astype(np.float32) > self.level
        box = Box.around(bright) or Box((0, 0, 0), (1, 1, 1))
        segment = situation.active or self.version.app.card.segments[0]
        labels = (bright[box.slices] * segment.index).astype(np.uint8)
        control.report(1.0, "threshold")
        return Prediction(box, labels, (segment,))

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


@dataclass
class ThresholdBackend:
    """Loads threshold models, and keeps count."""

    name: str = "threshold"
    loaded: list[ThresholdModel] = field(default_factory=list)
    failure: Exception | None = None

    def load(self, version: ModelVersion, device: str) -> LoadedModel:
        """Return a new threshold model."""
        model = ThresholdModel(version, failure=self.failure)
        self.loaded.append(model)
        return model


@dataclass
class InMemoryBackends:
    """A catalogue of the backends that it is given."""

    backends: Mapping[str, Backend]

    def get(self, name: str) -> Backend:
        """Return a backend."""
        if name not in self.backends:
            raise BackendUnavailable(f"there is no backend {name!r}")
        return self.backends[name]

    def unavailable(self) -> Mapping[str, str]:
        """Say that every backend can be used."""
        return {}


@dataclass
class InMemoryRegistry:
    """A registry of the apps that it is given; `installed` holds the names of the weights that are there."""

    apps: Mapping[str, App]
    installed: set[str] = field(default_factory=set)
    changes: int = 0
    learned: set[str] = field(default_factory=set)

    def names(self) -> tuple[str, ...]:
        """Return the names, sorted."""
        return tuple(sorted(self.apps))

    def app(self, name: str) -> App:
        """Return an app."""
        if name not in self.apps:
            raise UnknownModel(f"there is no model {name!r}")
        return self.apps[name]

    def missing(self, app: App) -> tuple[WeightFile, ...]:
        """Return the weights that nobody installed."""
        return tuple(weight for weight in app.weights if weight.name not in self.installed)

    def ready(self) -> tuple[App, ...]:
        """Return the apps whose weights somebody installed."""
        return tuple(app for _, app in sorted(self.apps.items()) if not self.missing(app))

    def champion(self, name: str) -> ModelVersion:
        """Return the version over the app."""
        app = self.app(name)
        if self.missing(app):
            raise WeightsMissing("its weights are not installed", source=name)
        return ModelVersion(app, {weight.name: Path(weight.name) for weight in app.weights})

    def is_learned(self, name: str) -> bool:
        """Say whether a test calls the model a learned one."""
        return name in self.learned

    def version(self, name: str, version_id: str) -> ModelVersion:
        """Return the only version that there is."""
        champion = self.champion(name)
        if champion.id != version_id:
            raise NotFound(f"{name} has no version {version_id}")
        return champion

    def original(self, name: str) -> ModelVersion:
        """Return the only version that there is."""
        return self.champion(name)


@dataclass
class InMemoryReader:
    """Reads volumes, or raises the errors, that it is given by key."""

    volumes: Mapping[str, Volume | AnnotateError]
    read_keys: list[str] = field(default_factory=list)

    def read(self, stored: StoredVolume) -> Volume:
        """Return the volume of the key."""
        self.read_keys.append(stored.key)
        found = self.volumes[stored.key]
        if isinstance(found, AnnotateError):
            raise found
        return found
