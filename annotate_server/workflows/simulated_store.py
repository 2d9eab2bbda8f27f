"""Where a simulation keeps its versions: a folder of files by digest, and a registry over them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from annotate_server.domain.errors import NotFound
from annotate_server.domain.model import App, ModelVersion, WeightFile
from annotate_server.domain.ports import ModelRegistry
from annotate_server.domain.training import Trained

ReadApp = Callable[[Mapping[str, object], str], App]
"""Returns the app of a description (JSON of the form of `app.toml`) and its digest."""


@dataclass(frozen=True)
class KeptFolder:
    """Fulfils `round_tools.Keeper` with plain files."""

    folder: Path

    def keep_bytes(self, content: bytes) -> str:
        """Keep bytes and return their SHA-256 (hex)."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path(sha256).write_bytes(content)
        return sha256

    def keep_file(self, path: Path) -> str:
        """Keep a copy of a file and return its SHA-256 (hex)."""
        return self.keep_bytes(path.read_bytes())

    def path(self, sha256: str) -> Path:
        """Return where something lies that was kept."""
        return self.folder / sha256


@dataclass
class SimulatedRegistry:
    """The registry of a simulation: one model with its versions; all others are those of `others`."""

    model: str
    first: ModelVersion
    others: ModelRegistry
    serving: ModelVersion
    versions: dict[str, ModelVersion] = field(default_factory=dict)

    @property
    def changes(self) -> int:
        """Return a number that grows with every version."""
        return len(self.versions)

    def names(self) -> tuple[str, ...]:
        """Return every name."""
        return self.others.names()

    def app(self, name: str) -> App:
        """Return the app of a model."""
        return self.serving.app if name == self.model else self.others.app(name)

    def missing(self, app: App) -> tuple[WeightFile, ...]:
        """Return the weights that are not there."""
        return () if app.name == self.model else self.others.missing(app)

    def ready(self) -> tuple[App, ...]:
        """Return the apps that miss no weights."""
        return tuple(self.app(app.name) for app in self.others.ready())

    def champion(self, name: str) -> ModelVersion:
        """Return the version that serves."""
        return self.serving if name == self.model else self.others.champion(name)

    def is_learned(self, name: str) -> bool:
        """Say whether a model is the one that learns."""
        return name == self.model

    def version(self, name: str, version_id: str) -> ModelVersion:
        """Return a version by its id."""
        if name != self.model:
            return self.others.version(name, version_id)
        if version_id not in self.versions:
            raise NotFound(f"{name} has no version {version_id}")
        return self.versions[version_id]

    def original(self, name: str) -> ModelVersion:
        """Return what a full training begins from."""
        return self.first if name == self.model else self.others.original(name)


def kept_version(trained: Trained, model: str, kept: KeptFolder, read_app: ReadApp) -> ModelVersion:
    """Return the version that a round kept."""
    app = read_app(json.loads(kept.path(trained.description).read_bytes()), trained.description)
    files = {weight.name: kept.path(weight.sha256) for weight in trained.weights}
    return ModelVersion(replace(app, name=model), files)
