"""Models of a project's own: begun from nothing but labels, or forked from an app when that is first trained."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import InvalidRequest, StateError
from annotate_server.domain.learning import LearnedModel, VersionRecord
from annotate_server.domain.learning_ports import ModelStore
from annotate_server.domain.model import App, ModelCard, ModelVersion, WeightFile
from annotate_server.domain.person import Person, Role
from annotate_server.domain.ports import ModelRegistry
from annotate_server.domain.project import Project
from annotate_server.domain.store_ports import Blobs, ProjectStore
from annotate_server.domain.volume import Modality
from annotate_server.workflows.app_description import description_bytes

NEW_BACKEND = "torch_module"
"""What a model that begins from nothing is made of."""
NEW_EVERY_LABELS = 5
"""A model begun from nothing is trained with its first so many approved labels, and again with as many more."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class OwnModels:
    """The models that learn. An administrator makes them and says when they are trained; forks come with a training."""

    models: ModelStore
    registry: ModelRegistry
    projects: ProjectStore
    blobs: Blobs
    clock: Clock = now

    def begin(self, name: str, project_id: str, person: Person) -> LearnedModel:
        """Make a model from nothing, which is trained as soon as enough labels of the project are approved.

        It becomes the project's first app, so that it drafts from its first version on. Raises NotFound, InvalidRequest
        for a name that cannot be one, StateError for one that is taken.
        """
        person.must_be(Role.ADMIN)
        project = self.projects.get(project_id)
        self._check_name(name)
        description = self.blobs.add_bytes(description_bytes(_blank(name, project)))
        model = LearnedModel(
            name, project_id, every_labels=NEW_EVERY_LABELS, description=description, made_at=self.clock()
        )
        self.models.add(model, None, person)
        self.projects.change(replace(project, apps=(name, *project.apps)), person)
        return model

    def wanted(self, name: str, project_id: str | None) -> LearnedModel:
        """Return the model that is trained under this name; for an app one that `forked` has yet to make.

        Raises UnknownModel, StateError for an app that cannot be trained, InvalidRequest where several projects use it.
        """
        if self.registry.is_learned(name):
            model = self.models.get(name)
            if project_id not in (None, model.project_id):
                raise InvalidRequest(f"{name} learns from the project {model.project_id}, not from {project_id}")
            return model
        origin = self.registry.champion(name)
        project = self._project_of(name, project_id)
        for model in self.models.all():
            if (model.origin, model.project_id) == (name, project.id):
                return model
        if not origin.app.card.trainable:
            raise StateError(
                f"{origin.model} cannot be trained: what it is made of does not learn",
                remedy=f"Begin a model of the project's own: annotate models new NAME --project {project.id}.",
            )
        return LearnedModel(self._free_name(origin.model, project.id), project.id, origin.model, made_at=self.clock())

    def change(self, name: str, person: Person, *, every_labels: int, is_nightly: bool) -> LearnedModel:
        """Say when a model is trained by itself: after so many approved labels (0: never), and at night."""
        person.must_be(Role.ADMIN)
        if not 0 <= every_labels <= 10_000:
            raise InvalidRequest("a model is trained after 0 (never) to 10000 approved labels")
        self.models.change(replace(self.models.get(name), every_labels=every_labels, is_nightly=is_nightly), person)
        return self.models.get(name)

    def forked(self, model: LearnedModel, person: Person) -> None:
        """Make a model that `wanted` returned, where it is not there yet: its first version is its app's.

        It is put in the app's place in the project.
        """
        if model.origin is None or self.registry.is_learned(model.name):
            return
        origin, project, name = self.registry.champion(model.origin), self.projects.get(model.project_id), model.name
        weights = tuple(WeightFile(w.name, self._kept(origin, w), w.size_bytes) for w in origin.app.weights)
        app = replace(origin.app, name=name, weights=weights)
        description = self.blobs.add_bytes(description_bytes(app))
        app = replace(app, digest=description)
        files = {weight.name: self.blobs.path(weight.sha256) for weight in weights}
        self.models.add(model, VersionRecord(ModelVersion(app, files).id, name, description, weights), person)
        apps = tuple(name if each == origin.model else each for each in project.apps)
        self.projects.change(replace(project, apps=apps if name in apps else (name, *apps)), person)

    def _kept(self, origin: ModelVersion, weight: WeightFile) -> str:
        """Return the digest of weights that are a blob from now on, wherever they lay."""
        path = origin.files[weight.name]
        if path != self.blobs.path(weight.sha256):
            with self.blobs.adding() as added:
                added.path.write_bytes(path.read_bytes())
            if added.sha256 != weight.sha256:
                raise StateError(f"the weights {weight.name} are not those that the app names", source=origin.model)
        return weight.sha256

    def _project_of(self, app: str, project_id: str | None) -> Project:
        if project_id is not None:
            return self.projects.get(project_id)
        using = [project for project in self.projects.all() if app in project.apps]
        forked = {model.project_id for model in self.models.all() if model.origin == app}
        using = using or [project for project in self.projects.all() if project.id in forked]
        if len(using) != 1:
            listing = ", ".join(project.id for project in using) or "none"
            raise InvalidRequest(
                f"from which project {app} is to learn is not clear (those that use it: {listing})",
                remedy="Name the project.",
            )
        return using[0]

    def _check_name(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"{name!r} is no name of a model", remedy="Use a-z, 0-9 and _, a letter first.")
        if name in self.registry.names():
            raise StateError(f"there is a model {name} already")

    def _free_name(self, app: str, project_id: str) -> str:
        """Return a name for a fork that nobody has."""
        ending = "own" if project_id == app else re.sub(r"[^a-z0-9_]", "_", project_id)
        name, taken = f"{app}_{ending}"[:60], set(self.registry.names())
        return next(each for each in (name, *(f"{name}_{n}" for n in range(2, 1000))) if each not in taken)


def _blank(name: str, project: Project) -> App:
    """Return the description of a model that knows nothing yet: what its project says."""
    card = ModelCard(
        title=project.title,
        purpose=f"Drafts for the project {project.id}, from whose approved labels it was made.",
        not_for="Diagnosis, and anything other than drafts that a person looks at.",
        modalities=project.modalities or (Modality.CT, Modality.MR),
        segments=project.segments,
        licence="That of the volumes and labels that it was made from.",
        attribution="Made on this server.",
        trainable=True,
    )
    return App(name, Path(name), NEW_BACKEND, card, (), {}, digest="")
