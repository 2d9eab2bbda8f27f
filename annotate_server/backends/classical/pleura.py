"""From air to lung: vessels, nodules and what disease put at the chest wall belong to it."""

import numpy as np

from annotate_server.backends.classical.body import Body
from annotate_server.backends.classical.scan import Scan
from annotate_server.backends.classical.shapes import Mask, closed, without_holes, without_slice_holes
from annotate_server.backends.classical.sides import Sides

VESSEL_MM2 = 250.0
"""Cross-section of a hilar vessel (18 mm); larger round holes of a slice are the dome of the diaphragm or the heart."""
NEAR_MM = 5.0
WALL_MM = 12.0
LEFT_AXIS = 2


def with_vessels(scan: Scan, sides: Sides) -> Sides:
    """Return the lungs with the vessels and nodules that they enclose."""
    return Sides(
        *(without_holes(without_slice_holes(s, VESSEL_MM2, scan.spacing_mm)) for s in (sides.left, sides.right))
    )


def completed(scan: Scan, body: Body, sides: Sides, taken: Mask) -> Sides:
    """Return the lungs closed by a ball: a small one everywhere, a large one towards the chest wall.

    Towards the mediastinum a large ball would take the hila and the grooves beside heart and aorta. `taken` (airways,
    bone) and the other lung are left alone.
    """
    free = body.region & ~taken
    left = sides.left | (_closing(scan, sides.left, lateral=1) & free & ~sides.right)
    right = sides.right | (_closing(scan, sides.right, lateral=-1) & free & ~left)
    return Sides(left, right)


def _closing(scan: Scan, lung: Mask, lateral: int) -> Mask:
    """Return what a small ball closes, and what a large one closes where lung lies medial of it in the same row.

    `lateral` is 1 where the chest wall lies towards larger i, -1 for smaller (i runs to the patient's left).
    """
    near = closed(lung, NEAR_MM, scan.spacing_mm)
    medial_is_lung = np.logical_or.accumulate(lung[:, :, ::lateral], axis=LEFT_AXIS)[:, :, ::lateral]
    wall = closed(lung, WALL_MM, scan.spacing_mm) & medial_is_lung
    both: Mask = near | wall
    return both
