"""From the working grid to the volume's own: borders are decided by the voxels themselves."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.classical.body import AIR_HU, TISSUE_HU
from annotate_server.backends.classical.scan import Scan
from annotate_server.backends.classical.shapes import Mask
from annotate_server.backends.classical.sides import Sides
from annotate_server.domain.geometry import Box

LEFT_LUNG, RIGHT_LUNG, AIRWAYS, BONE, BODY = 1, 2, 3, 4, 5
STRUCTURES = ("left_lung", "right_lung", "airways", "bone", "body")
LUMEN_EDGE_HU = -500.0
BONE_EDGE_HU = 130.0
SHARPNESS_HU = 150.0
"""So far from the edge's HU a voxel of the border decides alone, whatever the working grid says."""

Shares = NDArray[np.float32]


@dataclass(frozen=True)
class Findings:
    """What was found on the working grid; `filled` is what belongs to a lung without being air."""

    sides: Sides
    filled: Mask
    lumen: Mask
    bone: Mask
    body: Mask


def at_full_resolution(scan: Scan, found: Findings) -> NDArray[np.uint8]:
    """Return STRUCTURES as numbers from 1 on the full grid (k, j, i).

    It works slab by slab. Within a working voxel of a border the HU of the full grid decide; where a border lies in
    tissue (a closed vessel, consolidation) the interpolated mask does.
    """
    labels = np.zeros(scan.full_geometry.shape, dtype=np.uint8)
    for slab in scan.slabs_around(found.body):
        labels[slab.slices] = _slab(scan, found, slab)
    return labels


def _slab(scan: Scan, found: Findings, slab: Box) -> NDArray[np.uint8]:
    """Return the structures of a block: airways before lungs before bone before body."""
    hu = scan.full_hu(slab)
    left, right = scan.share(found.sides.left, slab), scan.share(found.sides.right, slab)
    in_tissue = np.minimum(1.0, 2.0 * scan.share(found.filled, slab))
    lung_needs = 0.5 + _leaning((hu - AIR_HU) * (1.0 - in_tissue))
    labels = np.zeros(slab.shape, dtype=np.uint8)
    labels[scan.share(found.body, slab) > 0.5 + _leaning(TISSUE_HU - hu)] = BODY
    labels[scan.share(found.bone, slab) > 0.5 + _leaning(BONE_EDGE_HU - hu)] = BONE
    labels[(left > lung_needs) & (left >= right)] = LEFT_LUNG
    labels[(right > lung_needs) & (right > left)] = RIGHT_LUNG
    labels[scan.share(found.lumen, slab) > 0.5 + _leaning(hu - LUMEN_EDGE_HU)] = AIRWAYS
    return labels


def _leaning(hu: Shares) -> Shares:
    """Return how much more of a mask (up to 0.45 of it) a voxel needs whose HU speak against the structure."""
    more: Shares = np.clip(hu / SHARPNESS_HU, -1.0, 1.0) * np.float32(0.45)
    return more
