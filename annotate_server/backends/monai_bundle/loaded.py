"""A bundle's network in memory, ready to draft."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from annotate_server.backends.engine.blending import most_likely
from annotate_server.backends.label_votes import on_grid
from annotate_server.backends.monai_bundle.answer import Activation, LargestPart, Return
from annotate_server.backends.monai_bundle.canvas import Canvas
from annotate_server.backends.monai_bundle.parameters import BundleParameters
from annotate_server.backends.monai_bundle.running import Running
from annotate_server.backends.monai_bundle.steps import Turn
from annotate_server.backends.monai_bundle.way_back import Certainty, Classes, WayBack
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.labelmap import LabelVoxels, labelmap_dtype
from annotate_server.domain.model import ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume
from annotate_server.imaging.components import largest_part

_BEGUN, _COMPUTED = 0.1, 0.95
"""Shares of the time that are over when the network begins and ends."""
_AS_STORED = "The bundle names no orientation: the network saw the axes as they are stored."


@dataclass
class LoadedBundle:
    """Fulfils `ports.LoadedModel`; to be used from one thread."""

    version: ModelVersion
    parameters: BundleParameters
    running: Running

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Return a whole draft of the reference volume; prompts are not looked at."""
        volume = next(iter(volumes.values()))
        canvas = prepared(volume, self.parameters, control)

        def report(fraction: float, message: str) -> None:
            control.report(_BEGUN + (_COMPUTED - _BEGUN) * fraction, message)

        steps = replace(control, report=report)
        if self.parameters.answer.returned is Return.VALUES:
            way = WayBack.between(volume.geometry, canvas.geometry)
            classes, certainty = way.decided(self.running.planes(canvas.values, steps))
            classes, certainty = way.turn.undo(classes), way.turn.undo(certainty)
        else:
            classes, certainty = self._decided_on_grid(canvas, volume.geometry, steps)
        control.check()
        for part in self.parameters.answer.largest:
            if not part.on_grid:
                classes = only_largest(classes, part)
        return self._prediction(classes, certainty)

    def close(self) -> None:
        """Give the card's memory back."""
        self.running.close()

    def _decided_on_grid(self, canvas: Canvas, volume: Geometry, control: Control) -> tuple[Classes, Certainty]:
        """Return the classes that were decided on the network's grid, on the volume's."""
        labels = np.zeros(canvas.shape, np.uint8)
        certainty = np.ones(canvas.shape, np.float32)
        for slab in self.running.planes(canvas.values, control):
            found, best = most_likely(slab.values)
            labels[slab.first : slab.last] = found.cpu().numpy()
            certainty[slab.first : slab.last] = best.float().cpu().numpy()
        for part in self.parameters.answer.largest:
            if part.on_grid:
                labels = only_largest(labels, part)
        way = WayBack.between(volume, canvas.geometry)
        sure = cast("Certainty", way.turn.undo(way.nearest(certainty, 1.0)))
        if self.parameters.answer.returned is Return.NEAREST:
            return cast("Classes", way.turn.undo(way.nearest(labels, 0))), sure
        classes = np.zeros(volume.shape, np.uint8)
        voted, box = on_grid(labels, canvas.geometry, volume)
        classes[box.slices] = voted
        return classes, sure

    def _prediction(self, classes: Classes, certainty: Certainty) -> Prediction:
        """Return segments instead of classes: class n is the card's nth segment, class 0 background."""
        segments = self.version.app.card.segments
        table = np.array([0, *(segment.index for segment in segments)], dtype=labelmap_dtype(segments))
        labels = cast("LabelVoxels", table[classes])
        is_sure = self.parameters.answer.activation is Activation.SOFTMAX
        turns = any(isinstance(step, Turn) for step in self.parameters.steps)
        return Prediction(
            Box.whole(labels.shape),
            labels,
            segments,
            uncertainty=1.0 - certainty if is_sure else None,
            notes=() if turns else (_AS_STORED,),
        )


def prepared(volume: Volume, parameters: BundleParameters, control: Control) -> Canvas:
    """Return what the network sees of a volume."""
    canvas = Canvas.of(volume)
    for number, step in enumerate(parameters.steps):
        control.check()
        control.report(_BEGUN * number / len(parameters.steps), "preparing the volume")
        canvas = step.apply(canvas)
    return canvas


def only_largest(classes: Classes, part: LargestPart) -> Classes:
    """Return labels of which only the largest connected part is left, of each by itself or of all together."""
    wanted = part.labels or tuple(int(n) for n in np.unique(classes) if n)
    kept = classes.copy()
    for group in (wanted,) if part.together else tuple((label,) for label in wanted):
        occupied = np.isin(classes, group)
        kept[occupied & ~largest_part(occupied)] = 0
    return kept
