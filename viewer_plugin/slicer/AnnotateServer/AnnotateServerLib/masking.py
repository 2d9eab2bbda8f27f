"""Where the host lets an effect draw: Segment Editor's masking, for what comes from a model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import slicer

EVERYWHERE, INSIDE_ALL, INSIDE_VISIBLE, OUTSIDE_ALL, OUTSIDE_VISIBLE, INSIDE_ONE = range(6)
"""The values of `vtkMRMLSegmentationNode.EditAllowed…`, the same since Slicer 5.0."""


class Masking(NamedTuple):
    """What the host says: the mode, the indices of the visible segments and of the one to stay inside, a range."""

    mode: int = EVERYWHERE
    visible: tuple[int, ...] = ()
    inside: int | None = None
    intensities: tuple[float, float] | None = None

    @property
    def is_open(self) -> bool:
        """Say whether everything may be drawn."""
        return self.mode == EVERYWHERE and self.intensities is None

    def editable(self, labels: np.ndarray, intensities: np.ndarray | None) -> np.ndarray:
        """Return where may be drawn, for a box of the draft before the change and the volume's voxels in it."""
        may = self._by_segments(labels)
        if self.intensities is not None and intensities is not None:
            low, high = self.intensities
            may &= (intensities >= low) & (intensities <= high)
        return may

    def _by_segments(self, labels: np.ndarray) -> np.ndarray:
        if self.mode == INSIDE_ONE and self.inside is not None:
            return labels == self.inside
        chosen = labels != 0 if self.mode in (INSIDE_ALL, OUTSIDE_ALL) else np.isin(labels, self.visible)
        if self.mode in (INSIDE_ALL, INSIDE_VISIBLE):
            return chosen
        if self.mode in (OUTSIDE_ALL, OUTSIDE_VISIBLE):
            return ~chosen
        return np.ones(labels.shape, np.bool_)


def masking_of(editor: object | None, node: object, ids: dict) -> Masking:
    """Return the masking of a segment editor node; `ids` are those of the segments by the server's index."""
    if editor is None:
        return Masking()
    display = node.GetDisplayNode()
    visible = tuple(at for at, name in ids.items() if display is None or display.GetSegmentVisibility(name))
    inside = next((at for at, name in ids.items() if name == editor.GetMaskSegmentID()), None)
    spread = tuple(editor.GetSourceVolumeIntensityMaskRange()) if editor.GetSourceVolumeIntensityMask() else None
    return Masking(editor.GetMaskMode(), visible, inside, spread)


def editor_of(node: object) -> object | None:
    """Return the segment editor's node that edits a segmentation."""
    for editor in slicer.util.getNodesByClass("vtkMRMLSegmentEditorNode"):
        if editor.GetSegmentationNode() is node:
            return editor
    return None
