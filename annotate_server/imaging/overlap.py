"""How well a structure of one labelmap agrees with that of another one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.errors import InvalidLabelmap
from annotate_server.domain.geometry import Box, Vector
from annotate_server.domain.labelmap import Labelmap
from annotate_server.imaging.contours import added_path
from annotate_server.imaging.reorientation import reoriented
from annotate_server.imaging.surface import surface_distances


@dataclass(frozen=True)
class StructurePair:
    """One structure, the true one and the predicted one: bool (k, j, i) in axial order, cropped to what holds both.

    Axis k runs along the array axis that is nearest to the patient's superior direction, so that a slice is axial or
    as nearly so as the grid allows; `spacing_mm` is in that order. Arrays of size 0 where both are empty.
    """

    truth: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    spacing_mm: Vector

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Return the size (j, i) of a pixel of an axial slice."""
        return self.spacing_mm[1], self.spacing_mm[2]


@dataclass(frozen=True)
class Agreement:
    """The figures of one structure in one case.

    `dice` and the surface Dice are 1 where both are empty and 0 where one is; `hd95_mm` is then 0 and infinite. The
    added path length and its share of the true contour are at a tolerance of one pixel, `relative_apl_0` at none; they
    are 0 where the truth is empty.
    """

    dice: float
    surface_dice_1mm: float
    surface_dice_2mm: float
    hd95_mm: float
    apl_mm: float
    relative_apl: float
    relative_apl_0: float


MEASURED_NOTHING = Agreement(*(float("nan") for _ in fields(Agreement)))
"""Every figure unknown."""


def structure_pairs(
    truth: Labelmap, predicted: Labelmap, indices: Iterable[tuple[int | None, int | None]]
) -> Iterator[StructurePair]:
    """Yield a pair for each (index in the truth, index in the prediction); None stands for an empty structure.

    Raises InvalidLabelmap where the two are not on one grid.
    """
    if not truth.geometry.matches(predicted.geometry):
        raise InvalidLabelmap(
            "the label and the prediction lie on different grids", remedy="Resample the label onto its volume."
        )
    axial = reoriented(truth.geometry)
    true_boxes, predicted_boxes = boxes_by_index(truth), boxes_by_index(predicted)
    for true_index, predicted_index in indices:
        boxes = [b for b in (true_boxes.get(true_index), predicted_boxes.get(predicted_index)) if b is not None]
        box = _union(boxes)
        yield StructurePair(
            np.ascontiguousarray(axial.apply(_inside(truth, box, true_index))),
            np.ascontiguousarray(axial.apply(_inside(predicted, box, predicted_index))),
            axial.geometry.spacing_mm,
        )


def agreement(pair: StructurePair) -> Agreement:
    """Measure how well the two structures of a pair agree."""
    surfaces = surface_distances(pair.truth, pair.predicted, pair.spacing_mm)
    path = added_path(pair.truth, pair.predicted, pair.pixel_mm, tolerance_px=1)
    return Agreement(
        dice=dice(pair.truth, pair.predicted),
        surface_dice_1mm=surfaces.dice(1.0),
        surface_dice_2mm=surfaces.dice(2.0),
        hd95_mm=surfaces.hausdorff_mm(95.0),
        apl_mm=path.length_mm,
        relative_apl=path.relative,
        relative_apl_0=added_path(pair.truth, pair.predicted, pair.pixel_mm, tolerance_px=0).relative,
    )


def dice(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Return 2 |A and B| / (|A| + |B|); 1 where both are empty, 0 where one is."""
    total = int(np.count_nonzero(truth)) + int(np.count_nonzero(predicted))
    return 2.0 * int(np.count_nonzero(truth & predicted)) / total if total else 1.0


def boxes_by_index(labelmap: Labelmap) -> Mapping[int | None, Box]:
    """Return the smallest box around each segment that occurs, by its index; one pass over the voxels."""
    found = ndimage.find_objects(labelmap.voxels)
    return {index: _box(slices) for index, slices in enumerate(found, start=1) if slices is not None}


def _inside(labelmap: Labelmap, box: Box, index: int | None) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = labelmap.voxels[box.slices] == index if index else np.zeros(box.shape, np.bool_)
    return inside


def _box(slices: Sequence[slice]) -> Box:
    k, j, i = slices
    return Box((k.start, j.start, i.start), (k.stop, j.stop, i.stop))


def _union(boxes: Sequence[Box]) -> Box:
    if not boxes:
        return Box((0, 0, 0), (0, 0, 0))
    return boxes[0] if len(boxes) == 1 else boxes[0].union(boxes[1])
