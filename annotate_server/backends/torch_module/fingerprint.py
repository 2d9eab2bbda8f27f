"""What the labelled cases have in common, as far as a network is planned from it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.torch_module.parameters import Intensities
from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.geometry import Box, Vector
from annotate_server.domain.training import Example
from annotate_server.domain.volume import Modality
from annotate_server.imaging.reorientation import reoriented

ORIENTATION = "SPL"
_VALUES_A_CASE = 20_000
_LOW_PERCENT, _HIGH_PERCENT = 0.5, 99.5


@dataclass(frozen=True)
class CaseTraits:
    """What counts of one case, axes (k, j, i) in the network's order.

    `box_mm` is the extent of the box around everything that is labelled. `values` are some of the voxels in there that
    belong to a segment.
    """

    spacing_mm: Vector
    extent_mm: Vector
    box_mm: Vector
    values: NDArray[np.float32]
    is_ct: bool


@dataclass(frozen=True)
class Fingerprint:
    """Medians over the cases; `finest_mm` is the 10th percentile of the spacings. `intensities` only for CT."""

    spacing_mm: Vector
    finest_mm: Vector
    extent_mm: Vector
    box_mm: Vector
    intensities: Intensities | None

    @classmethod
    def of(cls, cases: Iterable[CaseTraits]) -> "Fingerprint":
        """Return what cases have in common; InvalidRequest where none of them shows a segment."""
        shown = [case for case in cases if case.values.size]
        if not shown:
            raise InvalidRequest("no label shows any segment", remedy="Approve labels that are not empty.")
        return cls(
            spacing_mm=_percentile([case.spacing_mm for case in shown], 50),
            finest_mm=_percentile([case.spacing_mm for case in shown], 10),
            extent_mm=_percentile([case.extent_mm for case in shown], 50),
            box_mm=_percentile([case.box_mm for case in shown], 50),
            intensities=_intensities(shown),
        )


def traits(example: Example) -> CaseTraits:
    """Return what counts of an example."""
    turn = reoriented(example.volume.geometry, ORIENTATION)
    labelled = turn.apply(example.target) > 0
    spacing = turn.geometry.spacing_mm
    box = Box.around(labelled) or Box((0, 0, 0), (0, 0, 0))
    values = np.nan_to_num(turn.apply(example.volume.voxels)[labelled].astype(np.float32))
    return CaseTraits(
        spacing_mm=spacing,
        extent_mm=turn.geometry.extent_mm,
        box_mm=_vector([side * step for side, step in zip(box.shape, spacing, strict=True)]),
        values=values[:: max(1, values.size // _VALUES_A_CASE)],
        is_ct=example.volume.modality is Modality.CT,
    )


def _intensities(cases: list[CaseTraits]) -> Intensities | None:
    """Return how CT is normalised (nnU-Net: by the labelled voxels of all cases); None for what has no unit."""
    if not all(case.is_ct for case in cases):
        return None
    values = np.concatenate([case.values for case in cases])
    low, high = (float(value) for value in np.percentile(values, [_LOW_PERCENT, _HIGH_PERCENT]))
    if high <= low:
        return None
    clipped = np.clip(values, low, high)
    return Intensities(low, high, float(clipped.mean()), max(float(clipped.std()), 1e-3))


def _percentile(rows: list[Vector], percent: float) -> Vector:
    return _vector(np.percentile(np.array(rows), percent, axis=0).tolist())


def _vector(values: list[float]) -> Vector:
    k, j, i = values
    return k, j, i
