"""The backend `monai_bundle`: takes bundles over, and loads and trains the networks of the apps made of them."""

from importlib.util import find_spec
from pathlib import Path

from annotate_server.backends.monai_bundle import adopting, learning
from annotate_server.backends.monai_bundle.files import brings_code, looks_like_bundle
from annotate_server.backends.monai_bundle.loaded import LoadedBundle
from annotate_server.backends.monai_bundle.network import with_steady_randomness
from annotate_server.backends.monai_bundle.parameters import BundleParameters
from annotate_server.backends.monai_bundle.running import Running
from annotate_server.backends.monai_bundle.weights import WEIGHTS, fill, kept_state
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.errors import InvalidApp, InvalidRequest, WeightsMissing
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import App, ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Checkpoint, TrainingPlace

if find_spec("monai") is None:
    # Importing it takes seconds, which only those who build a network wait for; that it is missing shows at once.
    raise ModuleNotFoundError("No module named 'monai'", name="monai")


class MonaiBundleBackend:
    """Fulfils `ports.Backend`, `adoption.Adopting` and `learning_ports.Trainable`."""

    name = "monai_bundle"

    def recognises(self, source: Path) -> bool:
        """Say whether a folder or a zip archive has the layout of a bundle, and needs no code of its own."""
        return looks_like_bundle(source) and not brings_code(source)

    def adopted(self, order: AdoptionOrder, scratch: Path, control: Control) -> tuple[AdoptedApp, ...]:
        """Return the one app of a bundle."""
        return (adopting.adopted(order, scratch, control),)

    def load(self, version: ModelVersion, device: str) -> LoadedBundle:
        """Build the network that the app describes, fill in its weights, and make the engine ready."""
        parameters = BundleParameters.of(version.app)
        classes = parameters.network.outputs + (0 if parameters.answer.threshold is None else 1)
        if classes != len(version.app.card.segments) + 1:
            raise InvalidApp(
                f"its network tells {classes - 1} segments apart, and {len(version.app.card.segments)} are named",
                source=version.model,
            )
        if WEIGHTS not in version.files:
            raise WeightsMissing(f"{WEIGHTS} is not there", source=version.model)
        network = with_steady_randomness(parameters.network, seed=0)
        fill(network, kept_state(version.files[WEIGHTS], version.model), version.model)
        running = Running(network.to(device).eval(), parameters, device)
        running.warm()
        return LoadedBundle(version, parameters, running)

    def train(
        self, start: ModelVersion, training: TrainingTask, recipe: Recipe, place: TrainingPlace, control: Control
    ) -> Checkpoint:
        """Train from a version's weights, or from nothing where it has none."""
        return learning.train(start, training, recipe, place, control)

    def between(self, old: ModelVersion, new: Checkpoint, share: float, folder: Path) -> Checkpoint:
        """Return the network whose weights lie `share` of the way from old to new, written into `folder`."""
        return learning.interpolated(old, new, share, folder)

    def planned(self, app: App, training: TrainingTask, control: Control) -> App:
        """Raise InvalidRequest: a bundle's network is what its authors made it."""
        raise InvalidRequest("a MONAI bundle brings its own network", remedy="Use torch_module for a new model.")
