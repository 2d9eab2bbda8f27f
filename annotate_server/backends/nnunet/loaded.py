"""Networks of nnU-Net that are ready to answer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from annotate_server.backends.engine.engine import Engine
from annotate_server.backends.nnunet.parameters import NnunetParameters
from annotate_server.backends.nnunet.plans import Plan
from annotate_server.backends.nnunet.preparing import Placing, network_input, placed
from annotate_server.backends.nnunet.resampling import FloatArray
from annotate_server.backends.nnunet.restoring import restored
from annotate_server.domain.errors import NotMadeFor, PredictionFailed
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import LabelVoxels, labelmap_dtype
from annotate_server.domain.model import ModelCard, Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume

_PREPARED = 0.1
"""Share of the time that is over when the network begins; labels are made while it computes."""


@dataclass
class LoadedNnunet:
    """Fulfils `ports.LoadedModel`; to be used from one thread."""

    card: ModelCard
    plan: Plan
    parameters: NnunetParameters
    engine: Engine | None

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Return a whole draft of the first volume; prompts are not looked at.

        Raises NotMadeFor for another modality, PredictionFailed where memory does not suffice.
        """
        volume = next(iter(volumes.values()))
        if volume.modality is not None and volume.modality not in self.card.modalities:
            raise NotMadeFor(f"it is {volume.modality} and {self.card.title} takes {' or '.join(self.card.modalities)}")
        control.check()
        control.report(0.0, "bringing the volume to the network's grid")
        placing = placed(volume, self.plan, self.parameters.orientation)
        try:
            values = network_input(volume, self.plan, placing)
            control.check()
            labels = self._labels(values, placing, control)
        except (MemoryError, RuntimeError) as error:  # torch reports a lack of memory as the latter
            raise PredictionFailed(f"{self.card.title} stopped on {placing.network} voxels: {error}") from error
        control.report(1.0, "done")
        return Prediction(Box.whole(volume.geometry.shape), labels, self.card.segments)

    def close(self) -> None:
        """Give back memory and device."""
        self.engine = None

    def _labels(self, values: FloatArray, placing: Placing, control: Control) -> LabelVoxels:
        """Return the labels of the whole volume, in its own order of axes."""
        if self.engine is None:
            raise ValueError("the model was closed")

        def report(fraction: float, message: str) -> None:
            control.report(_PREPARED + (1 - _PREPARED) * fraction, message)

        whole: LabelVoxels = np.zeros(placing.shape, dtype=labelmap_dtype(self.card.segments))
        planes = self.engine.class_planes(values, replace(control, report=report))
        inside = whole[placing.box.slices]
        for plane, labels in zip(inside, restored(planes, placing.back(self.plan), self.plan.outputs), strict=True):
            plane[...] = labels
        return cast("LabelVoxels", placing.undo(whole))
