"""The backend `monailabel_app`: tasks of unmodified MONAI Label apps; `learning` is imported when somebody trains."""

from pathlib import Path

from annotate_server.backends.monailabel_app import adopting
from annotate_server.backends.monailabel_app.app_folder import can_be_hosted
from annotate_server.backends.monailabel_app.loaded import ENVIRONMENT, HostedApp, HostedTask
from annotate_server.backends.monailabel_app.tasks import MonaiLabelAppParameters
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import App, ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Checkpoint, TrainingPlace


class MonaiLabelAppBackend:
    """Runs apps in the environment `monailabel`; nothing of them is imported here."""

    name = "monailabel_app"
    environment = ENVIRONMENT

    def load(self, version: ModelVersion, device: str) -> HostedTask:
        """Lay the app out in a private folder and load it over there; its network is loaded at the first question."""
        parameters = MonaiLabelAppParameters.of(version.app)
        return HostedTask(version, parameters, HostedApp.start(version, parameters), device)

    def recognises(self, source: Path) -> bool:
        """Say whether a folder is laid out as an app of MONAI Label is, or is a MONAI bundle with code of its own."""
        return can_be_hosted(source)

    def adopted(self, order: AdoptionOrder, scratch: Path, control: Control) -> tuple[AdoptedApp, ...]:
        """Return an app for each task that answers with labelmaps and has its weights."""
        return adopting.adopted(order, scratch, control)

    def train(
        self, start: ModelVersion, training: TrainingTask, recipe: Recipe, place: TrainingPlace, control: Control
    ) -> Checkpoint:
        """Train by the app's own TrainTask from a version's weights; an interrupted training begins again."""
        from annotate_server.backends.monailabel_app import learning  # noqa: PLC0415  it needs torch on this side

        return learning.train(start, training, recipe, place, control)

    def between(self, old: ModelVersion, new: Checkpoint, share: float, folder: Path) -> Checkpoint:
        """Return the network whose weights lie `share` of the way from old to new, written into `folder`."""
        from annotate_server.backends.monailabel_app import learning  # noqa: PLC0415

        return learning.between(old, new, share, folder)

    def planned(self, app: App, training: TrainingTask, control: Control) -> App:
        """Return the app as it is: its network is the app's own."""
        return app
