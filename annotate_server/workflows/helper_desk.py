"""What lies on the desk when a helper is carried out: the order, the volume, the draft and the active segment."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.geometry import Box, Geometry, Shape, Vector
from annotate_server.domain.helper import HelperOrder
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume
from annotate_server.imaging.editing.occupied import box_of_value


@dataclass(frozen=True)
class Change:
    """The active segment afterwards, in a box of the grid (k, j, i); outside the box it stays as it is."""

    box: Box
    segment: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Desk:
    """An order with what it is about."""

    order: HelperOrder
    volume: Volume
    draft: Labelmap
    active: Segment
    control: Control

    @property
    def geometry(self) -> Geometry:
        """Return the grid of volume and draft."""
        return self.volume.geometry

    @property
    def spacing_mm(self) -> Vector:
        """Return the size of a voxel (k, j, i)."""
        return self.volume.geometry.spacing_mm

    @property
    def whole(self) -> Box:
        """Return the box of the whole grid."""
        return Box.whole(self.geometry.shape)

    def owners(self, box: Box) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Return the draft's labels in a box; a view."""
        return self.draft.voxels[box.slices]

    def present(self, box: Box) -> NDArray[np.bool_]:
        """Return the voxels of the active segment in a box."""
        present: NDArray[np.bool_] = self.owners(box) == self.active.index
        return present

    def allowed(self, box: Box) -> NDArray[np.bool_]:
        """Return the voxels of a box that no other segment owns."""
        allowed: NDArray[np.bool_] = self.owners(box) == 0
        allowed |= self.present(box)
        return allowed

    def extent(self) -> Box:
        """Return the box of the active segment; raises InvalidRequest where it is empty."""
        box = box_of_value(self.draft.voxels, self.active.index)
        if box is None:
            raise InvalidRequest(f"the segment {self.active.name!r} is empty", remedy="Draw something first.")
        return box

    def around(self, reach_mm: float) -> Box:
        """Return the box of the active segment with what lies up to a distance from it."""
        k, j, i = (math.ceil(reach_mm / side) for side in self.spacing_mm)
        return self.extent().grown((k, j, i), self.geometry.shape)

    def seed(self) -> Shape:
        """Return the voxel of the order's seed; raises InvalidRequest for one that lies outside the volume."""
        if self.order.seed_mm is None:
            raise InvalidRequest(f"{self.order.kind} needs seed_mm here")
        if not self.geometry.contains(self.order.seed_mm).all():
            raise InvalidRequest("the seed lies outside the volume")
        k, j, i = (int(n) for n in np.floor(self.geometry.index(self.order.seed_mm)[0] + 0.5))
        return k, j, i

    def free_seed(self) -> Shape:
        """Return the voxel of a seed from which the segment may grow; raises InvalidRequest in another segment."""
        seed = self.seed()
        owner = int(self.draft.voxels[seed])
        if owner not in (0, self.active.index):
            raise InvalidRequest(f"the seed lies in {named(self.draft, owner).name!r}, which is not overwritten")
        return seed

    def distance_mm(self, most: float = math.inf) -> float:
        """Return the order's distance where it has to be a length; raises InvalidRequest."""
        distance = self.order.distance_mm or 0.0
        if not 0.0 < distance <= most:
            limit = f" and at most {most:g} mm" if math.isfinite(most) else ""
            raise InvalidRequest(f"distance_mm is {distance:g}; it has to be more than 0{limit}")
        return distance


def named(draft: Labelmap, index: int) -> Segment:
    """Return the segment of an index; raises InvalidRequest where the draft has none."""
    for segment in draft.segments:
        if segment.index == index:
            return segment
    raise InvalidRequest(f"the draft has no segment of the index {index}")
