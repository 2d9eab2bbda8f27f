"""The backend `torch_module`: networks of plain PyTorch that predict and learn on a canonical grid."""

from pathlib import Path

from annotate_server.backends.torch_module import learning, planning
from annotate_server.backends.torch_module.learning import WEIGHTS, filled, network_of, weights_of
from annotate_server.backends.torch_module.loaded import LoadedTorchModule, check_classes
from annotate_server.backends.torch_module.parameters import TorchModuleParameters
from annotate_server.domain.errors import WeightsMissing
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import App, ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Checkpoint, TrainingPlace


class TorchModuleBackend:
    """Loads and trains networks of `torch_module.network`; their weights are safetensors."""

    name = "torch_module"

    def load(self, version: ModelVersion, device: str) -> LoadedTorchModule:
        """Build the network that the app describes, and fill in its weights."""
        network = network_of(version.app)
        if WEIGHTS not in version.files:
            raise WeightsMissing(f"{WEIGHTS} is not there", source=version.model)
        check_classes(network, version)
        filled(network, weights_of(version.files[WEIGHTS], version.model), version.model)
        return LoadedTorchModule(version, TorchModuleParameters.of(version.app), network.to(device).eval())

    def train(
        self, start: ModelVersion, training: TrainingTask, recipe: Recipe, place: TrainingPlace, control: Control
    ) -> Checkpoint:
        """Train from a version's weights, or from nothing where it has none; all members of an ensemble learn."""
        return learning.train(start, training, recipe, place, control)

    def between(self, old: ModelVersion, new: Checkpoint, share: float, folder: Path) -> Checkpoint:
        """Return the network whose weights lie `share` of the way from old to new, written into `folder`."""
        return learning.interpolated(old, new, share, folder)

    def planned(self, app: App, training: TrainingTask, control: Control) -> App:
        """Return the app with a network planned from the labels: grid, patch, size, intensities."""
        return planning.planned(app, training, control)
