"""What a task answered, on the volume's grid and with our segments."""

from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from annotate_server.backends.environments.guest import GuestAnswer
from annotate_server.backends.monailabel_app.request import active_segment, slice_of
from annotate_server.backends.monailabel_app.tasks import MonaiLabelAppParameters, Values
from annotate_server.domain.errors import InputError, PredictionFailed
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.labelmap import LabelVoxels, Segment, labelmap_dtype
from annotate_server.domain.model import Prediction, Situation
from annotate_server.imaging.label_grid import FoundLabels, label_voxels, on_grid, with_unnamed


def prediction_of(
    answer: GuestAnswer,
    parameters: MonaiLabelAppParameters,
    segments: tuple[Segment, ...],
    situation: Situation,
    geometry: Geometry,
) -> Prediction:
    """Return an answer as labels of the volume's own grid; `segments` are the card's.

    Raises PredictionFailed where it lies on another grid, or holds values that mean nothing.
    """
    values = values_on(answer, geometry)
    box = Box.whole(geometry.shape)
    if parameters.kind.names_structures:
        numbers = _numbers(parameters, len(segments))
        named = _renumbered(values, numbers, parameters.task).astype(labelmap_dtype(segments))
        return Prediction(box, cast("LabelVoxels", named), segments)
    active = active_segment(situation)
    if parameters.dimension == 2:
        k = slice_of(situation, geometry)
        box = Box((k, 0, 0), (k + 1, *geometry.shape[1:]))
    labels = np.where(values[box.slices] != 0, active.index, 0).astype(labelmap_dtype((active,)))
    return Prediction(box, cast("LabelVoxels", labels), (active,))


def values_on(answer: GuestAnswer, geometry: Geometry) -> LabelVoxels:
    """Return the values of an answer (k, j, i) on a grid: turned where its axes run otherwise, never interpolated."""
    try:
        voxels = label_voxels(answer.arrays["labels"])
        k, j, i = voxels.shape
        theirs = Geometry.from_affine(cast("ArrayLike", answer.words["affine"]), (k, j, i), geometry.frame_of_reference)
        found = FoundLabels(theirs, (voxels,), (with_unnamed(voxels, ()),))
        return on_grid(found, geometry)[0].voxels
    except InputError as error:
        raise PredictionFailed(f"the app's labels do not lie on the volume: {error.detail}") from error


def _numbers(parameters: MonaiLabelAppParameters, count: int) -> NDArray[np.intp]:
    """Return, for each segment in turn, which value it has in an answer."""
    if parameters.values is Values.RANK:
        return np.arange(1, count + 1)
    return np.array([label.number for label in parameters.labels])


def _renumbered(values: LabelVoxels, numbers: NDArray[np.intp], task: str) -> NDArray[np.uint16]:
    """Return values as indices of segments; raises PredictionFailed for one that is no segment's."""
    table = np.zeros(65536, np.uint16)
    table[numbers] = np.arange(1, len(numbers) + 1)
    present = np.flatnonzero(np.bincount(values.ravel(), minlength=1))
    unknown = [int(value) for value in present if value and not table[value]]
    if unknown:
        raise PredictionFailed(
            f"the task {task!r} answered with {unknown}, for which it names no label",
            remedy='Where it answers with the numbers of its labels, write values = "number" into [parameters] of '
            "its app.toml.",
        )
    return table[values]
