"""The method `brain_blocks`: head, brain and ventricles of a T1-like MR phantom by thresholds and shapes."""

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_multiotsu, threshold_otsu

from annotate_server.backends.classical.method import Drawing
from annotate_server.backends.classical.shapes import (
    Mask,
    closed,
    depth_in,
    enclosed_in_slices,
    grown,
    largest_part,
    shrunk,
    without_holes,
    without_small,
)
from annotate_server.domain.geometry import Vector
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume
from annotate_server.imaging.reorientation import reoriented

STRUCTURES = ("head", "brain", "ventricles")
HEAD, BRAIN, VENTRICLES = 1, 2, 3
SCALP_MM = 8.0
BRIDGE_MM = 3.0
FOLDS_MM = 12.0
CORTEX_MM = 6.0
SMALLEST_VENTRICLE_ML = 0.5
FLUID_SHARE = 0.4


def draw(volume: Volume, control: Control) -> Drawing:
    """Return STRUCTURES on the volume's own grid; made for the demonstration phantom, not for patients."""
    control.report(0.0, "Looking for the head")
    turned = reoriented(volume.geometry)
    values = turned.apply(volume.voxels).astype(np.float32)
    labels = np.zeros(values.shape, dtype=np.uint8)
    if float(values.min()) == float(values.max()):
        return Drawing(turned.undo(labels), ("every voxel of the volume has the same value",))
    spacing_mm = turned.geometry.spacing_mm
    head = largest_part(enclosed_in_slices(values > threshold_otsu(values) / 2))
    control.check()
    control.report(0.4, "Looking for the brain")
    limit = _darkest_limit(values[head])
    brain = _brain(values > limit, head, spacing_mm)
    control.check()
    labels[head] = HEAD
    labels[brain] = BRAIN
    labels[_ventricles(values, brain, spacing_mm, turned.geometry.voxel_ml)] = VENTRICLES
    return Drawing(np.ascontiguousarray(turned.undo(labels)))


def _darkest_limit(values: NDArray[np.float32]) -> float:
    """Return what parts fluid and bone from the rest, of three classes (Otsu)."""
    return float(threshold_multiotsu(values, classes=3)[0]) if np.unique(values[:1000]).size > 3 else 0.0


def _brain(bright: NDArray[np.bool_], head: Mask, spacing_mm: Vector) -> Mask:
    """Return the largest bright thing well inside the head, with what it encloses."""
    inner = bright & (depth_in(head, spacing_mm) > SCALP_MM)
    core = largest_part(shrunk(inner, BRIDGE_MM, spacing_mm))
    matter = inner & grown(core, BRIDGE_MM + max(spacing_mm[1:]), spacing_mm)
    return without_holes(closed(matter, FOLDS_MM, spacing_mm) & head)


def _ventricles(values: NDArray[np.float32], brain: Mask, spacing_mm: Vector, voxel_ml: float) -> Mask:
    """Return the dark parts that lie deeper in the brain than its folds; nearer to fluid than to white matter."""
    deep = depth_in(brain, spacing_mm) > CORTEX_MM
    if not deep.any():
        return np.zeros_like(brain)
    fluid, matter = (float(value) for value in np.percentile(values[deep], [0.5, 50.0]))
    limit = fluid + FLUID_SHARE * (matter - fluid)
    return without_small(deep & (values < limit), SMALLEST_VENTRICLE_ML / voxel_ml)
