"""The backend `nnunet`: takes over results folders of nnU-Net v2 and drafts with them."""

from pathlib import Path

from annotate_server.backends.engine.engine import Engine, SlidingWindow
from annotate_server.backends.engine.precision import Precision
from annotate_server.backends.engine.tiles import Layout
from annotate_server.backends.nnunet.adoption import adopted
from annotate_server.backends.nnunet.checkpoints import network_of
from annotate_server.backends.nnunet.facts import read_facts
from annotate_server.backends.nnunet.loaded import LoadedNnunet
from annotate_server.backends.nnunet.parameters import PLAN, NnunetParameters
from annotate_server.backends.nnunet.plans import Plan, plan_of
from annotate_server.backends.nnunet.results import folders_in
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.errors import InvalidApp, WeightsMissing
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.ports import Control


class NnunetBackend:
    """Fulfils `ports.Backend` and `adoption.Adopting`."""

    name = "nnunet"

    def load(self, version: ModelVersion, device: str) -> LoadedNnunet:
        """Build the network of every fold and try it out; raises InvalidApp, WeightsMissing or WeightsInvalid."""
        parameters = NnunetParameters.of(version.app)
        for name in (PLAN, *parameters.folds):
            if name not in version.files:
                raise WeightsMissing(f"{name} is not there", source=version.model)
        facts = read_facts(version.files[PLAN])
        plan = plan_of(facts.at("plans"), facts.at("dataset"), parameters.configuration)
        _check_segments(version, plan)
        networks = [network_of(version.files[name], plan, version.model) for name in parameters.folds]
        engine = Engine(networks, _window(plan, parameters, device), device=device)
        return LoadedNnunet(version.app.card, plan, parameters, engine)

    def recognises(self, source: Path) -> bool:
        """Say whether it is a results folder, or holds some one level down."""
        return bool(folders_in(source))

    def adopted(self, order: AdoptionOrder, scratch: Path, control: Control) -> tuple[AdoptedApp, ...]:
        """Return the app of the one results folder in a source; InvalidApp where there are several."""
        return (adopted(order, scratch, control),)


def _window(plan: Plan, parameters: NnunetParameters, device: str) -> SlidingWindow:
    """Return how nnU-Net runs its networks: windows of the patch, evenly spread, one at a time."""
    k, j, i = plan.patch if len(plan.patch) == 3 else (1, *plan.patch)
    return SlidingWindow(
        (k, j, i),
        overlap=parameters.overlap,
        batch=1,
        precision=Precision.FLOAT32 if device == "cpu" else Precision.REDUCED,
        layout=Layout.NNUNET,
        mirror_axes=parameters.mirror_axes,
    )


def _check_segments(version: ModelVersion, plan: Plan) -> None:
    """Refuse an app whose segments are not the network's labels."""
    indices = [segment.index for segment in version.app.card.segments]
    if sorted(indices) != sorted(plan.outputs.names):
        raise InvalidApp(
            f"its network draws the labels {sorted(plan.outputs.names)}, its segments are {sorted(indices)}",
            source=version.model,
        )
