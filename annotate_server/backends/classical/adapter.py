"""The backend `classical`: methods without weights, chosen by `[parameters] method`."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.classical import brain_blocks, lungs_method
from annotate_server.backends.classical.method import Method
from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Segment, labelmap_dtype
from annotate_server.domain.model import App, ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume

METHODS: Mapping[str, Method] = {
    "lungs": Method(lungs_method.STRUCTURES, lungs_method.draw),
    "brain_blocks": Method(brain_blocks.STRUCTURES, brain_blocks.draw),
}


@dataclass(frozen=True)
class Parameters:
    """What an app of this backend says: its method, and which segment each structure of the method becomes."""

    method: Method
    indices: Mapping[str, int]

    @classmethod
    def of(cls, app: App) -> "Parameters":
        """Return the parameters of an app; raises InvalidApp with what is wrong in `[parameters]`."""
        unknown = set(app.parameters) - {"method", "segments"}
        if unknown:
            raise _invalid(app, f"[parameters] has the unknown keys {', '.join(sorted(unknown))}")
        name = app.parameters.get("method")
        if not isinstance(name, str) or name not in METHODS:
            raise _invalid(app, f"[parameters] method is {name!r}, not one of {', '.join(sorted(METHODS))}")
        table = app.parameters.get("segments")
        if not isinstance(table, Mapping) or not table:
            raise _invalid(app, "[parameters.segments] must name the index of each structure")
        return cls(METHODS[name], _indices(app, METHODS[name], table))


def _indices(app: App, method: Method, table: Mapping[object, object]) -> Mapping[str, int]:
    """Return the index of each structure, checked against the method and the card."""
    known = {segment.index for segment in app.card.segments}
    indices: dict[str, int] = {}
    for structure, index in table.items():
        if structure not in method.structures:
            raise _invalid(app, f"the method draws no {structure!r}, only {', '.join(method.structures)}")
        if not isinstance(index, int) or index not in known:
            raise _invalid(app, f"the structure {structure!r} has the index {index!r}, which no segment has")
        indices[str(structure)] = index
    return indices


def _invalid(app: App, detail: str) -> InvalidApp:
    return InvalidApp(detail, source=f"{app.name}/app.toml")


class ClassicalBackend:
    """Fulfils `ports.Backend` with methods that need neither weights nor a GPU."""

    name = "classical"

    def load(self, version: ModelVersion, device: str) -> "ClassicalModel":
        """Make a method ready; it runs on the CPU whatever the device. Raises InvalidApp."""
        return ClassicalModel(Parameters.of(version.app), version.app.card.segments)


class ClassicalModel:
    """Fulfils `ports.LoadedModel`; keeps nothing between answers."""

    def __init__(self, parameters: Parameters, segments: tuple[Segment, ...]) -> None:
        """Keep what the app says."""
        self._parameters = parameters
        self._segments = segments

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Draw the first volume; prompts are not looked at. A structure without a segment stays background."""
        volume = next(iter(volumes.values()))
        control.check()
        drawing = self._parameters.method.draw(volume, control)
        control.report(1.0, "Done")
        labels: NDArray[np.uint8] | NDArray[np.uint16] = self._table()[drawing.labels]
        return Prediction(Box.whole(volume.geometry.shape), labels, self._segments, notes=drawing.notes)

    def close(self) -> None:
        """Do nothing: nothing is held."""

    def _table(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Return the segment's index for each number of a structure."""
        structures = self._parameters.method.structures
        table = [0, *(self._parameters.indices.get(structure, 0) for structure in structures)]
        if labelmap_dtype(self._segments) == np.uint8:
            return np.array(table, dtype=np.uint8)
        return np.array(table, dtype=np.uint16)
