"""Every model of a workspace: apps in folders, and beside them the models that learned here, as versions in blobs."""

import json
from collections.abc import Callable
from pathlib import Path

from annotate_server.domain.errors import AnnotateError, NotFound, StorageFailed, UnknownModel, WeightsMissing
from annotate_server.domain.learning import LearnedModel, VersionRecord
from annotate_server.domain.learning_ports import ModelStore
from annotate_server.domain.model import App, ModelVersion, WeightFile
from annotate_server.domain.ports import Control
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.folder_apps import app_of
from annotate_server.stores.model_registry import FolderModelRegistry


class WorkspaceRegistry:
    """Fulfils `ports.ModelRegistry`; a model that learned here comes before an app of the same name."""

    def __init__(self, apps: FolderModelRegistry, blobs: BlobFolder, models: Callable[[], ModelStore | None]) -> None:
        """Take apps from `apps`, versions from `models` (None where the workspace has no database yet) and `blobs`."""
        self._apps = apps
        self._blobs = blobs
        self._models = models
        self._read: dict[tuple[str, str], App] = {}

    @property
    def changes(self) -> int:
        """Return a number that grows with every model, version and promotion, of whatever process."""
        store = self._models()
        return 0 if store is None else store.changes

    def names(self) -> tuple[str, ...]:
        """Return the name of every model, sorted."""
        store = self._models()
        learned = () if store is None else tuple(model.name for model in store.all())
        return tuple(sorted({*self._apps.names(), *learned}))

    def is_learned(self, name: str) -> bool:
        """Say whether a model is one that learns here, rather than an app."""
        return self._learned(name) is not None

    def app(self, name: str) -> App:
        """Return a model's app as its champion has it; raises UnknownModel or InvalidApp."""
        found = self._learned(name)
        if found is None:
            return self._known_app(name)
        return self._served(*found)

    def missing(self, app: App) -> tuple[WeightFile, ...]:
        """Return the weights that are not installed."""
        return self._apps.missing(app)

    def ready(self) -> tuple[App, ...]:
        """Return the apps that miss no weights, sorted by name; models that learned here are looked up all at once."""
        store = self._models()
        learned = {} if store is None else {model.name: model for model in store.all()}
        found = []
        for name in sorted({*self._apps.names(), *learned}):
            try:
                app = self._served(store, learned[name]) if store and name in learned else self._apps.app(name)
            except AnnotateError:
                continue  # one whose description is broken is listed with what is wrong with it
            if not self._apps.missing(app):
                found.append(app)
        return tuple(found)

    def champion(self, name: str) -> ModelVersion:
        """Return the version that serves; WeightsMissing where one that begins from nothing has none yet."""
        found = self._learned(name)
        if found is None:
            self._known_app(name)
            return self._apps.champion(name)
        store, _ = found
        champion = store.champion(name)
        if champion is None:
            raise WeightsMissing(
                "it has not been trained yet", source=name, remedy=f"Approve labels, then run `annotate train {name}`."
            )
        return self._version(self._record(store, name, champion))

    def version(self, name: str, version_id: str) -> ModelVersion:
        """Return a version by its id, whoever serves now; raises NotFound."""
        found = self._learned(name)
        if found is not None:
            return self._version(self._record(found[0], name, version_id))
        version = self.champion(name)
        if version.id != version_id:
            raise NotFound(f"{name} has no version {version_id}")
        return version

    def original(self, name: str) -> ModelVersion:
        """Return what a full training begins from: the version forked from, or one without files."""
        found = self._learned(name)
        if found is None:
            return self.champion(name)
        store, model = found
        return ModelVersion(self._blank(model)) if model.description else self._version(store.versions(model.name)[0])

    def import_from(self, name: str, path: Path) -> ModelVersion:
        """Install an app's weights from a file or from anywhere below a folder."""
        self._must_be_app(name)
        return self._apps.import_from(name, path)

    def pull(self, name: str, mirror: str | None, control: Control) -> ModelVersion:
        """Install an app's weights from their public address, or from `mirror`/<model>/<file>."""
        self._must_be_app(name)
        return self._apps.pull(name, mirror, control)

    def _must_be_app(self, name: str) -> None:
        if self.is_learned(name):
            raise UnknownModel(f"{name} was trained here: its weights come from nowhere else")

    def _learned(self, name: str) -> tuple[ModelStore, LearnedModel] | None:
        store = self._models()
        if store is None:
            return None
        try:
            return store, store.get(name)
        except UnknownModel:
            return None

    def _served(self, store: ModelStore, model: LearnedModel) -> App:
        champion = store.champion(model.name)
        return self._blank(model) if champion is None else self._described(self._record(store, model.name, champion))

    def _known_app(self, name: str) -> App:
        """Return an app; the refusal of an unknown one lists the models that learned here too."""
        try:
            return self._apps.app(name)
        except UnknownModel as error:
            raise UnknownModel(error.detail, remedy=f"Choose one of: {', '.join(self.names())}.") from error

    def _record(self, store: ModelStore, name: str, version_id: str) -> VersionRecord:
        for record in store.versions(name):
            if record.id == version_id:
                return record
        raise NotFound(f"{name} has no version {version_id}")

    def _version(self, record: VersionRecord) -> ModelVersion:
        for weight in record.weights:
            if not self._blobs.has(weight.sha256, weight.size_bytes):
                raise StorageFailed(
                    f"the weights {weight.name} are gone or were changed",
                    source=f"{record.model}@{record.id}",
                    remedy="Run `annotate workspace check`; promote another version meanwhile.",
                )
        files = {weight.name: self._blobs.path(weight.sha256) for weight in record.weights}
        return ModelVersion(self._described(record), files)

    def _described(self, record: VersionRecord) -> App:
        return self._app(record.model, record.description)

    def _blank(self, model: LearnedModel) -> App:
        if model.description is None:
            raise StorageFailed("it has neither a version nor a description", source=model.name)
        return self._app(model.name, model.description)

    def _app(self, name: str, description: str) -> App:
        """Return the app that a blob describes; blobs never change, so each is read once."""
        key = (name, description)
        if key not in self._read:
            try:
                table = json.loads(self._blobs.read(description))
                self._read[key] = app_of(table, name, Path(name), description)
            except (ValueError, AttributeError) as error:
                raise StorageFailed("the description of a version cannot be read", source=name) from error
        return self._read[key]
