"""Effort against by hand: what a robot still has to draw to finish a case from nothing, and from the draft.

The robot takes one structure after the other. It puts right the axial slice with the most to draw, then the next one,
until the surface Dice is good enough; each time the whole slice becomes that of the truth. Drawing costs time by length
(the added path at a tolerance of one pixel, because a contour within a pixel is not redrawn), each slice that is
touched costs the way to it, and each slice that holds something is looked at in the end. A slice in which there is only
too much costs the way to it: erasing is one stroke. Drawing one structure never mends another.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from annotate_server.imaging.contours import AddedPath, added_path
from annotate_server.imaging.overlap import StructurePair
from annotate_server.imaging.surface_by_slice import SliceCorrection


@dataclass(frozen=True)
class EffortConstants:
    """The one table of what the simulated seconds rest on. These are assumptions, to be fitted to real users.

    Ratios depend on them much less than seconds do. `source` in a field's metadata says where its value is from.
    """

    draw_mm_per_s: float = field(
        default=10.0,
        metadata={
            "source": "assumed: a liver in 5 mm slices has about 20 m of contour, and 30 min by hand are reported"
            " (41 livers, Academic Radiology 2015)"
        },
    )
    navigate_s: float = field(default=3.0, metadata={"source": "assumed: to find a slice and to begin a stroke there"})
    review_s: float = field(default=0.5, metadata={"source": "assumed: a look at one contour in one slice"})
    enough_surface_dice: float = field(
        default=0.95, metadata={"source": "agreed: the share of the surface that has to be right"}
    )
    surface_tolerance_mm: float = field(
        default=1.0, metadata={"source": "agreed: what counts as right; one in-plane pixel where that is larger"}
    )


@dataclass(frozen=True, slots=True)
class Work:
    """What it took: contour drawn (mm), contours touched (one a slice and structure), simulated seconds."""

    path_mm: float = 0.0
    slices_touched: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        """Return both together."""
        return Work(
            self.path_mm + other.path_mm, self.slices_touched + other.slices_touched, self.seconds + other.seconds
        )


@dataclass(frozen=True, slots=True)
class Effort:
    """The work from nothing and from the draft."""

    scratch: Work = Work()
    draft: Work = Work()

    def __add__(self, other: "Effort") -> "Effort":
        """Return both together."""
        return Effort(self.scratch + other.scratch, self.draft + other.draft)


def effort_against_scratch(pair: StructurePair, constants: EffortConstants) -> Effort:
    """Let the robot finish a structure from nothing and from the draft."""
    nothing = StructurePair(pair.truth, np.zeros_like(pair.truth), pair.spacing_mm)
    return Effort(finish(nothing, constants), finish(pair, constants))


def finish(pair: StructurePair, constants: EffortConstants) -> Work:
    """Return the work to bring the predicted structure to the truth.

    The order of the slices is fixed from the start, since what is to be drawn in one does not depend on the others: by
    the length to be drawn, then by the voxels that are wrong, then from below. The robot stops after the first slice
    that makes the surface Dice good enough. Deterministic.
    """
    to_look_at = int(np.count_nonzero((pair.truth | pair.predicted).any(axis=(1, 2))))
    if to_look_at == 0:
        return Work()
    path = added_path(pair.truth, pair.predicted, pair.pixel_mm, tolerance_px=1)
    tolerance_mm = max(constants.surface_tolerance_mm, *pair.pixel_mm)
    correction = SliceCorrection(pair.truth, pair.predicted, pair.spacing_mm, tolerance_mm)
    touched = []
    for k in _worst_first(pair, path):
        if correction.dice() >= constants.enough_surface_dice:
            break
        correction.correct(int(k))
        touched.append(k)
    drawn_mm = float(path.by_slice_mm[touched].sum())
    seconds = drawn_mm / constants.draw_mm_per_s + len(touched) * constants.navigate_s + to_look_at * constants.review_s
    return Work(drawn_mm, len(touched), seconds)


def _worst_first(pair: StructurePair, path: AddedPath) -> NDArray[np.intp]:
    """Return the slices in which anything is wrong, the one with the most to draw first."""
    wrong = np.count_nonzero(pair.truth != pair.predicted, axis=(1, 2))
    order = np.lexsort((np.arange(len(wrong)), -wrong, -path.added_px))
    worst: NDArray[np.intp] = order[wrong[order] > 0]
    return worst
