"""The scene in which a prompt is answered, and the voxels that prompts cover."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.growcut.grid import Grid
from annotate_server.backends.growcut.outline import outline_of
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.ports import Control
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.imaging.rasterise import Voxels, voxels_of


@dataclass(frozen=True)
class Scene:
    """What stays the same while one prompt is answered.

    `voxels` (k, j, i) are the volume's, never written to. `labels` (k, j, i) is the draft as it stands, never written
    to either; None for an empty one. `active` is the index of the segment that is asked about. A working grid has at
    most `most_cells`.
    """

    voxels: NDArray[np.generic]
    geometry: Geometry
    labels: NDArray[np.uint8] | NDArray[np.uint16] | None
    active: int
    most_cells: int
    control: Control

    def others(self, box: Box) -> NDArray[np.bool_]:
        """Return the voxels of a box that other segments own: they are background and never taken."""
        if self.labels is None:
            return np.zeros(box.shape, np.bool_)
        block = self.labels[box.slices]
        others: NDArray[np.bool_] = block != 0
        others &= block != self.active
        return others

    def present(self, box: Box) -> NDArray[np.bool_]:
        """Return the voxels of a box that the active segment owns."""
        if self.labels is None:
            return np.zeros(box.shape, np.bool_)
        present: NDArray[np.bool_] = self.labels[box.slices] == self.active
        return present

    def intensity(self, grid: Grid) -> NDArray[np.float32]:
        """Return the mean intensity of each cell of a working grid."""
        return grid.mean(self.voxels)


def is_outline(prompt: Prompt) -> bool:
    """Say whether a prompt describes the structure as a whole: a positive lasso or box."""
    return prompt.positive and prompt.kind in (PromptKind.LASSO, PromptKind.BOX)


@lru_cache(maxsize=256)
def stroke_voxels(prompt: Prompt, geometry: Geometry) -> Voxels:
    """Return the voxels (n, 3) that a prompt speaks about for sure: of a positive lasso those well inside the line.

    The array is read-only and kept: every later prompt asks for those of the earlier ones.
    """
    if prompt.positive and prompt.kind is PromptKind.LASSO:
        outline = outline_of(prompt, geometry)
        voxels = outline.voxels[outline.core]
    else:
        voxels = voxels_of(prompt, geometry)
    voxels.flags.writeable = False
    return voxels
