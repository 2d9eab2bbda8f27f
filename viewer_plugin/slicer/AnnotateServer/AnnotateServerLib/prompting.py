"""From a stroke in a view to a prompt about the case, where nothing has moved since the session was opened."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from AnnotateServerLib import volumes
from AnnotateServerLib.answers import Prompt
from AnnotateServerLib.frame import Box
from AnnotateServerLib.masking import Masking, editor_of, masking_of
from AnnotateServerLib.places import Grid
from AnnotateServerLib.problem import Problem
from AnnotateServerLib.sheet import Sheet
from AnnotateServerLib.strokes import BOX, Stroke


class Table(NamedTuple):
    """What is worked on: a volume (None where it was deleted), its grid when the session was opened, and the draft."""

    volume: object | None
    grid: Grid
    sheet: Sheet

    def check(self) -> None:
        """Raise Problem where the volume is gone, or lies elsewhere than when the session was opened."""
        if self.volume is None:
            raise Problem("The volume was deleted.", "Press “Show the draft again”.", kind="node-deleted")
        if volumes.grid_of(self.volume).digest != self.grid.digest:
            remedy = "Undo that, or delete the volume and press “Show the draft again”."
            raise Problem("The volume's spacing, origin or orientation was changed.", remedy, kind="geometry-changed")
        if not self.sheet.has_grid():
            remedy = "Delete the segmentation and press “Show the draft again”."
            raise Problem("The segmentation's geometry was changed.", remedy, kind="geometry-changed")

    def prompt(self, stroke: Stroke, host_id: str, model: str) -> Prompt:
        """Return a stroke about a segment of Slicer's as a prompt; raises Problem."""
        segment = index_of(self.sheet, host_id)
        self.check()
        points = volumes.lps_of_view(self.volume, np.array(stroke.points))
        if not self.grid.contains(points).any() and stroke.kind != BOX:
            raise Problem("The prompt lies outside the volume.", "Draw it inside.")
        return Prompt(stroke.kind, tuple(map(tuple, points.tolist())), segment, bool(stroke.is_positive), model)

    def masking(self) -> Masking:
        """Return what the host says of where may be drawn."""
        return masking_of(editor_of(self.sheet.node), self.sheet.node, self.sheet.ids)

    def intensities(self, box: Box) -> np.ndarray:
        """Return the volume's voxels in a box of the draft."""
        return volumes.voxels_on(self.volume, self.sheet.grid)[box.slices]


def index_of(sheet: Sheet, host_id: str) -> int:
    """Return the server's index of a segment of Slicer's; raises Problem for one that the server does not know."""
    for index, name in sheet.ids.items():
        if name == host_id:
            return index
    raise Problem("No segment of the draft is selected.", "Select one in the list of segments.")
