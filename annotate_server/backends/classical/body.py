"""The patient: without table, blankets, cables and separate arms, and with the air that the body encloses."""

from dataclasses import dataclass

import numpy as np
from skimage.morphology import convex_hull_image

from annotate_server.backends.classical.scan import Scan
from annotate_server.backends.classical.shapes import (
    Mask,
    Part,
    Parts,
    described,
    enclosed_in_slices,
    grown,
    largest_part,
    numbered,
    shrunk,
)

TISSUE_HU = -300.0
"""Half way between air and soft tissue or fat: what is above is no air."""
AIR_HU = -400.0
"""Half way between lung (-850) and the chest wall (50): the border of a lung to half a voxel."""
LINK_MM = 2.5
"""Half the thickness of what is cut off as a link: table tops and covers are thinner than 5 mm, chest walls thicker."""
ROOM_AIR_HU = -950.0


@dataclass(frozen=True)
class Body:
    """The patient on the working grid: `tissue` is what is dense, `region` adds everything that it encloses."""

    tissue: Mask
    region: Mask

    @property
    def is_empty(self) -> bool:
        """Say whether there is no patient in the volume."""
        return not bool(self.region.any())


def find_body(scan: Scan) -> Body:
    """Return the largest dense thing with what it encloses slice by slice.

    Thin things (table tops, covers, blankets, cables) and what hangs on the patient by them go first, so that the air
    between patient and table stays outside. A lung that the volume's side cuts open counts as enclosed.
    """
    dense = (scan.hu > TISSUE_HU) & ~scan.padding
    radius = max(LINK_MM, min(scan.spacing_mm[1:]))
    core = largest_part(shrunk(dense, radius, scan.spacing_mm))
    tissue = dense & grown(core, radius + max(scan.spacing_mm[1:]), scan.spacing_mm)
    region = enclosed_in_slices(tissue)
    return Body(tissue, region | _cut_lungs(scan, tissue, region))


def _cut_lungs(scan: Scan, tissue: Mask, region: Mask) -> Mask:
    """Return what reaches the side of a narrow field of view, looks like lung, and lies within the patient's outline.

    A mattress looks like lung too, but lies outside the convex outline of the tissue.
    """
    parts, count = numbered(~region & ~scan.padding, 6, scan.voxels_of(10.0))
    kept = np.zeros(count + 1, dtype=np.bool_)
    for part in described(parts, count, scan.hu, scan.geometry.voxel_ml, ROOM_AIR_HU):
        if -940.0 < part.median < -600.0 and part.share_below < 0.2:
            kept[part.number] = _share_in_outline(parts, part, tissue) > 0.7
    cut: Mask = kept[parts]
    return cut


def _share_in_outline(parts: Parts, part: Part, tissue: Mask) -> float:
    """Return which share of a part lies within the convex outline of the tissue, slice by slice."""
    inside = total = 0
    for k in range(part.box.start[0], part.box.stop[0]):
        plane = parts[k] == part.number
        total += int(plane.sum())
        if tissue[k].any():
            inside += int((plane & convex_hull_image(tissue[k])).sum())
    return inside / total
