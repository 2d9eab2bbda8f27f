"""Contours in slices, and the length of contour that a person has to draw anew: the added path length.

Vaassen et al. 2020 (doi:10.1016/j.phro.2019.12.001): the pixels of the true contour that the other contour does not
have, times the pixel size. It follows the time that a correction takes better than Dice and Hausdorff distance do.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class AddedPath:
    """Contour pixels by slice (k): of the truth, and those of them that have to be drawn.

    `pixel_mm` is the size of a pixel; of one that is not square the side of a square of the same area.
    """

    added_px: NDArray[np.intp]
    contour_px: NDArray[np.intp]
    pixel_mm: float

    @property
    def by_slice_mm(self) -> NDArray[np.float64]:
        """Return the length (mm) to be drawn in each slice."""
        return self.added_px.astype(np.float64) * self.pixel_mm

    @property
    def length_mm(self) -> float:
        """Return the added path length."""
        return float(self.added_px.sum() * self.pixel_mm)

    @property
    def relative(self) -> float:
        """Return the share of the true contour that has to be drawn; 0 where there is no true contour."""
        whole = int(self.contour_px.sum())
        return int(self.added_px.sum()) / whole if whole else 0.0


def contours(occupied: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the contour pixels of each slice of a structure (k, j, i).

    They are the structure's own pixels that have one of their four neighbours in the slice outside; beyond the array
    is outside. What lies in the slices above and below does not count.
    """
    padded = np.pad(occupied, ((0, 0), (1, 1), (1, 1)))
    inner = padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1] & padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    edge: NDArray[np.bool_] = occupied & ~inner
    return edge


def added_path(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], pixel_mm: tuple[float, float], tolerance_px: int
) -> AddedPath:
    """Return what of the true contour has to be drawn in each slice, given another contour; both bool (k, j, i).

    `pixel_mm` is (j, i). A pixel of the true contour that lies further than `tolerance_px` from the other one in its
    slice counts. Distances are in pixels: 0 asks for the same pixel, 1 also takes its four neighbours; others are
    refused. To take away what is too much costs nothing here: that is how the measure is defined.
    """
    if tolerance_px not in (0, 1):
        raise ValueError(f"the added path length is defined here at 0 and 1 pixel, not at {tolerance_px}")
    true_contour, near = contours(truth), contours(predicted)
    if tolerance_px:
        near = _with_neighbours(near)
    return AddedPath(
        np.count_nonzero(true_contour & ~near, axis=(1, 2)),
        np.count_nonzero(true_contour, axis=(1, 2)),
        math.sqrt(pixel_mm[0] * pixel_mm[1]),
    )


def _with_neighbours(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels (k, j, i) and their four neighbours in the slice."""
    wider = pixels.copy()
    wider[:, 1:] |= pixels[:, :-1]
    wider[:, :-1] |= pixels[:, 1:]
    wider[:, :, 1:] |= pixels[:, :, :-1]
    wider[:, :, :-1] |= pixels[:, :, 1:]
    return wider
