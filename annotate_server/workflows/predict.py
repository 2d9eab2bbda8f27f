"""Predict: a volume and a situation go to a model; what it answers is applied to the labelmap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.geometry import Box, Shape
from annotate_server.domain.labelmap import Labelmap, labelmap_dtype
from annotate_server.domain.model import App, Locator, ModelVersion, Prediction, Situation
from annotate_server.domain.ports import BackendCatalogue, Control, LoadedModel, ModelRegistry
from annotate_server.domain.volume import Volume
from annotate_server.imaging.components import parts_of
from annotate_server.imaging.unsureness import unsure_by_slice
from annotate_server.workflows.suitability import check_volume

Voxels = NDArray[np.uint8] | NDArray[np.uint16]
MOST_VERSIONS = 2
"""Of one model: the champion, and the former one that a rollback or a shadow asks for."""


@dataclass(frozen=True)
class DraftResult:
    """A whole draft: the labelmap on the reference volume's grid, who made it, and what a person should know.

    `unsure` is how unsure the model was in each slice, where it says so (`imaging.unsureness`).
    """

    labelmap: Labelmap
    version: ModelVersion
    notes: tuple[str, ...] = ()
    unsure: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Asked:
    """A loaded model for crops and who finds its place."""

    app: App
    model: LoadedModel
    locator: Locator


class Predictor:
    """Keeps models loaded and asks them; to be used from one thread.

    A model is loaded when it is first asked. Before each prediction it is asked, cheaply, whether another version has
    become its champion, by whatever process: that is loaded then, and the former one stays for the next that goes back
    to it.
    """

    def __init__(self, registry: ModelRegistry, backends: BackendCatalogue, device: str = "cpu") -> None:
        """Take models from `registry`, run them by `backends` on `device`."""
        self._registry = registry
        self._backends = backends
        self._device = device
        self._loaded: dict[str, list[tuple[ModelVersion, LoadedModel]]] = {}
        """By name, the version that was asked last first."""
        self._champions: dict[str, tuple[int, str]] = {}
        """By name, the champion's id and the registry's number of changes when it was that."""

    def load(self, name: str, version_id: str | None = None) -> tuple[ModelVersion, LoadedModel]:
        """Return a model's champion, or the version of an id, ready to answer."""
        wanted = version_id or self._champion(name)
        kept = self._loaded.setdefault(name, [])
        found = next((loaded for loaded in kept if loaded[0].id == wanted), None)
        if found is None:
            version = self._registry.version(name, wanted)
            found = (version, self._backends.get(version.app.backend).load(version, self._device))
        else:
            kept.remove(found)
        kept.insert(0, found)
        while len(kept) > MOST_VERSIONS:
            kept.pop()[1].close()
        return found

    def _champion(self, name: str) -> str:
        """Return the id of the version that serves now; the registry is asked anew only where something changed."""
        changes = self._registry.changes
        if name not in self._champions or self._champions[name][0] != changes:
            self._champions[name] = (changes, self._registry.champion(name).id)
        return self._champions[name][1]

    def draft(
        self, name: str, volumes: Mapping[str, Volume], control: Control, version_id: str | None = None
    ) -> DraftResult:
        """Return a whole draft by the model `name` on the volumes by role, of which the first is the reference.

        Who begins it ends it: a version that becomes champion meanwhile drafts the next one. Raises NotMadeFor where
        the model is not made for the volume, and the errors of `ModelRegistry.champion` and `Backend.load`.
        """
        version, model = self.load(name, version_id)
        reference = next(iter(volumes.values()))
        if not version.app.card.drafts:
            raise NotMadeFor(f"{name} answers prompts and drafts nothing by itself")
        check_volume(reference, version.app, name)
        locator = version.app.card.locator
        if locator is not None and max(reference.geometry.extent_mm) > locator.max_extent_mm:
            predictions, notes = self._located(_Asked(version.app, model, locator), volumes, control)
        else:
            predictions, notes = (model.predict(volumes, Situation(), control),), ()
        segments = version.app.card.segments or predictions[0].segments
        voxels = drawn(predictions, reference.geometry.shape, labelmap_dtype(segments))
        labelmap = Labelmap(voxels, reference.geometry, segments)
        every_note = (*notes, *(note for p in predictions for note in p.notes))
        return DraftResult(labelmap, version, every_note, unsure_by_slice(predictions, len(voxels)))

    def close(self) -> None:
        """Give back every loaded model."""
        for kept in self._loaded.values():
            for _, model in kept:
                model.close()
        self._loaded.clear()
        self._champions.clear()

    def _located(
        self, asked: "_Asked", volumes: Mapping[str, Volume], control: Control
    ) -> tuple[tuple[Prediction, ...], tuple[str, ...]]:
        """Ask the card's locator where to look, and run the model in each place that it names."""
        reference, locator = next(iter(volumes.values())), asked.locator
        boxes = self._boxes(asked.app, locator, volumes, _part(control, 0.0, 0.8))
        predictions = []
        for number, box in enumerate(boxes):
            start = 0.8 + 0.2 * number / len(boxes)
            steps = _part(control, start, 0.2 / len(boxes))
            crops = {role: volume.cropped(box) for role, volume in volumes.items()}
            predictions.append(moved(asked.model.predict(crops, Situation(), steps), box))
        where = f"{len(boxes)} place(s) found by {locator.model} ({locator.segment}) in {reference.geometry.shape}"
        return tuple(predictions), (where,)

    def _boxes(self, app: App, locator: Locator, volumes: Mapping[str, Volume], control: Control) -> tuple[Box, ...]:
        reference = next(iter(volumes.values()))
        if self._registry.missing(self._registry.app(locator.model)):
            extent = max(reference.geometry.extent_mm)
            raise NotMadeFor(
                f"it is {extent:.0f} mm long and {app.name} takes crops of up to {locator.max_extent_mm:.0f} mm",
                remedy=f"Install the model that finds the place by itself: `annotate models pull {locator.model}`.",
            )
        found = self.draft(locator.model, volumes, control).labelmap
        occupied = found.where(found.segment(locator.segment))
        spacing = reference.geometry.spacing_mm
        k, j, i = (round(locator.margin_mm / side) for side in spacing)
        least = max(1, round(locator.min_volume_ml / reference.geometry.voxel_ml))
        boxes = tuple(part.grown((k, j, i), reference.geometry.shape) for part in parts_of(occupied, least))
        if not boxes:
            raise NotMadeFor(f"{locator.model} found no {locator.segment} in it")
        return boxes


def drawn(predictions: Sequence[Prediction], shape: Shape, dtype: np.dtype[np.generic]) -> Voxels:
    """Return voxels (k, j, i) with the labels of drafts in their boxes; background does not erase what is there."""
    first, *others = predictions
    if not others and first.box == Box.whole(shape):
        return cast("Voxels", np.ascontiguousarray(first.labels, dtype))
    voxels = cast("Voxels", np.zeros(shape, dtype))
    for prediction in predictions:
        inside = voxels[prediction.box.slices]
        np.copyto(inside, prediction.labels.astype(dtype), where=prediction.labels != 0)
    return voxels


def moved(prediction: Prediction, crop: Box) -> Prediction:
    """Return a prediction made on a crop in the grid of the volume that the crop was taken from."""
    return replace(prediction, box=prediction.box.shifted(crop.start))


def _part(control: Control, start: float, share: float) -> Control:
    """Return a control whose progress 0 to 1 fills `share` of the caller's, from `start` on."""
    return replace(control, report=lambda fraction, message: control.report(start + share * fraction, message))
