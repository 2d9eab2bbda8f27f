"""Bone: dense, with a cortex; not blood, kidneys or bowel that contrast medium made as dense."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from annotate_server.backends.classical.body import Body
from annotate_server.backends.classical.contrast import find_enhanced, folds_among, noise_of, roughness
from annotate_server.backends.classical.scan import Scan
from annotate_server.backends.classical.shapes import Mask, closed, grown, without_slice_holes, without_small

SURE_HU = 220.0
LIKELY_HU = 130.0
MARROW_HU = 50.0
REACH_MM = 4.5
"""How far bone goes on from where it is sure: a rib in a thick slice fades out over this distance."""
SMALLEST_ML = 0.15
NOISY_HU = 45.0
HOLLOW_MM = 17.0
FAR_MM = 1e4
"""A distance between slices at which no slice sees another: what is closed is closed within each."""


def find_bone(scan: Scan, body: Body, lungs: Mask) -> Mask:
    """Return bone with its marrow, the spinal canal left open; never within the lungs, where only vessels are dense."""
    scan = _quiet(scan)
    bright = body.region & (scan.hu > LIKELY_HU) & ~lungs
    enhanced = find_enhanced(scan, bright)
    sure = without_small(bright & (scan.hu > SURE_HU) & ~enhanced.region, scan.voxels_of(SMALLEST_ML))
    sure &= ~folds_among(scan, sure, enhanced)
    bone = bright & ~enhanced.region & grown(sure, REACH_MM, scan.spacing_mm)
    return _with_marrow(scan, body, bone, enhanced.region)


def _quiet(scan: Scan) -> Scan:
    """Return the scan, smoothed where its noise would pass for cortex."""
    if noise_of(scan.hu, roughness(scan.hu)) < NOISY_HU:
        return scan
    return replace(scan, hu=ndimage.gaussian_filter(scan.hu, [0.9 * min(scan.spacing_mm) / s for s in scan.spacing_mm]))


def _with_marrow(scan: Scan, body: Body, bone: Mask, enhanced: Mask) -> Mask:
    """Return bone with what its cortex encloses: marrow, but not the softer spinal canal.

    Where the cortex is closed in a slice, all that is not fluid is marrow. Elsewhere a hollow of bone is filled where
    it is denser than nearly all of the body's soft tissue.
    """
    smooth = ndimage.uniform_filter(scan.hu, 3)
    shell = closed(bone, 1.5 * max(scan.spacing_mm[1:]), scan.spacing_mm)
    enclosed = without_slice_holes(shell, 2500.0, scan.spacing_mm) & (smooth > MARROW_HU)
    tissue = smooth[body.tissue][::11]
    denser = float(np.clip(np.percentile(tissue, 95) + 15.0, 80.0, 200.0)) if tissue.size else 200.0
    in_plane = (FAR_MM, *scan.spacing_mm[1:])
    hollow = closed(bone, HOLLOW_MM, in_plane) & (smooth > denser) & ~enhanced
    whole: Mask = bone | enclosed | hollow
    return whole
