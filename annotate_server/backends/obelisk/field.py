"""Where the network must look: the crop of a CT that resembles those it was trained on.

Voxels are (k, j, i) running towards Inferior, Anterior and Left ("IAL"). The training crops (Pancreas-CT,
portal-venous) hold the abdomen from the dome of the liver to below the kidneys, about 185 mm, and nearly the width of
the trunk. A window is a `Box` of the volume that may reach beyond its first and last slice; what lies there repeats the
last slice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.geometry import Box, Vector

USUAL_MM = 185.0
"""Head to foot of the usual crop; those of the training cases measure 157 to 250 mm, with a mean near 185."""

SHORTEST_MM = 80.0
"""Below this length of body there is nothing to tell organs by: on 90 mm the liver is still found."""

_STRETCHED_MM = 150.0
_LONGEST_MM = 225.0
_STEP_MM = 70.0
_ABOVE_DOME_MM, _BELOW_ORGANS_MM = 8.0, 10.0
_SIDE_MARGIN_MM, _FRONT_MARGIN_MM = 15.0, 4.0
"""What is cut off the trunk: the training crops are 1.27 times as wide as deep, trunks about 1.35 times."""

_SKIN_HU = -300.0
_NARROWEST_MM, _WIDEST_MM = 150.0, 700.0


@dataclass(frozen=True)
class Trunk:
    """The outline of the body along the volume.

    `rectangles` is (slices, 4): first and last row, first and last column of the body in each slice, in voxels, half
    open; a row of -1 where there is no body.
    """

    rectangles: NDArray[np.intp]
    spacing_mm: Vector

    @property
    def length_mm(self) -> float:
        """Return the length of the volume from head to foot."""
        return len(self.rectangles) * self.spacing_mm[0]

    def window(self, top_mm: float, bottom_mm: float) -> Box:
        """Return the crop between two heights, measured from the first slice towards the feet.

        Raises NotMadeFor where no trunk of a patient is between them.
        """
        first, last = (round(height / self.spacing_mm[0]) for height in (top_mm, bottom_mm))
        inside = self.rectangles[max(first, 0) : max(last, 0)]
        inside = inside[inside[:, 0] >= 0]
        if not len(inside):
            raise NotMadeFor("no body was found in the volume", remedy="Choose a CT of the abdomen")
        front, back, right, left = (round(float(edge)) for edge in np.median(inside, axis=0))
        rows = round(_FRONT_MARGIN_MM / self.spacing_mm[1])
        columns = round(_SIDE_MARGIN_MM / self.spacing_mm[2])
        box = Box((first, front, right), (max(last, first + 1), back, left))
        _check_width(box, self.spacing_mm)
        return Box((box.start[0], front + rows, right + columns), (box.stop[0], back - rows, left - columns))

    def sweep(self) -> tuple[Box, ...]:
        """Return windows of the usual length over the whole volume, near enough that one of them shows the liver."""
        room = self.length_mm - USUAL_MM
        if room <= 0:
            missing = max(0.0, _STRETCHED_MM - self.length_mm) / 2
            return (self.window(-missing, self.length_mm + missing),)
        tops = np.linspace(0.0, room, int(np.ceil(room / _STEP_MM)) + 1)
        windows = (self._window_or_none(float(top)) for top in tops)
        found = tuple(window for window in windows if window is not None)
        if not found:
            raise NotMadeFor("nowhere in the volume is a body as wide as a trunk", remedy="Choose a CT of the abdomen")
        return found

    def around(self, top_mm: float, bottom_mm: float, window: Box) -> Box:
        """Return the window for organs that were seen in another one, from above the highest to below the lowest.

        Organs that reach the end of `window` go on below it.
        """
        if self.length_mm <= USUAL_MM:
            return window
        end_mm = window.stop[0] * self.spacing_mm[0]
        cut = bottom_mm > end_mm - _BELOW_ORGANS_MM
        lowest = bottom_mm + (3 if cut else 1) * _BELOW_ORGANS_MM
        top = min(max(top_mm - _ABOVE_DOME_MM, 0.0), self.length_mm - USUAL_MM)
        return self.window(top, min(max(top + USUAL_MM, lowest), top + _LONGEST_MM, self.length_mm))

    def _window_or_none(self, top_mm: float) -> Box | None:
        """Return the usual window below a height, None where nothing of a trunk's width is (a head, legs, air)."""
        try:
            return self.window(top_mm, top_mm + USUAL_MM)
        except NotMadeFor:
            return None


def find_trunk(voxels: NDArray[np.generic], spacing_mm: Vector) -> Trunk:
    """Return the outline of the body in a CT (k, j, i) in HU; arms beside the trunk and the table are left out.

    Looked for on a grid of about 3 mm: what is denser than -300 HU and thicker than 12 mm, the largest part per slice.
    """
    step = tuple(max(1, round(3.0 / size)) for size in spacing_mm)
    coarse = voxels[:: step[0], :: step[1], :: step[2]].astype(np.float32) > _SKIN_HU
    thick = ndimage.binary_opening(coarse, _disc(2)[None])
    found = np.array([_rectangle(plane) for plane in thick])
    scale = np.array([step[1], step[1], step[2], step[2]])
    limits = np.array([voxels.shape[1], voxels.shape[1], voxels.shape[2], voxels.shape[2]])
    scaled = np.where(found < 0, -1, np.minimum(found * scale, limits))
    return Trunk(np.repeat(scaled, step[0], axis=0)[: len(voxels)], spacing_mm)


def _rectangle(plane: NDArray[np.bool_]) -> Sequence[int]:
    """Return the rectangle around the largest part of a slice, four times -1 for an empty one."""
    parts, count = ndimage.label(plane)
    if count == 0:
        return (-1, -1, -1, -1)
    largest = int(np.bincount(parts.ravel())[1:].argmax())
    rows, columns = ndimage.find_objects(parts)[largest]
    return (rows.start, rows.stop, columns.start, columns.stop)


def _disc(radius: int) -> NDArray[np.bool_]:
    offsets = np.arange(-radius, radius + 1)
    disc: NDArray[np.bool_] = offsets[:, None] ** 2 + offsets**2 <= radius**2 + 0.5
    return disc


def _check_width(box: Box, spacing_mm: Vector) -> None:
    """Refuse a body that is narrower than a trunk: a limb, a head, a field of view around one organ."""
    for axis in (1, 2):
        width = box.shape[axis] * spacing_mm[axis]
        if not _NARROWEST_MM <= width <= _WIDEST_MM:
            raise NotMadeFor(
                f"the body measures {width:.0f} mm across where the network expects a whole trunk "
                f"({_NARROWEST_MM:.0f} to {_WIDEST_MM:.0f} mm)",
                remedy="Choose a CT that shows the abdomen from side to side",
            )
