"""What contrast medium made as dense as bone: blood, kidneys, bowel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from annotate_server.backends.classical.scan import Scan
from annotate_server.backends.classical.shapes import Mask, Parts, distance_to, numbered, sizes_of
from annotate_server.domain.geometry import Box

POOL_HU = 140.0
POOL_ML = 0.3
PRESENT_ML = 15.0
"""Less than this in a whole scan is marrow mistaken for contrast medium."""
SOFT_HU = (-150.0, 150.0)
RIM = (1.1, 3.3)
"""Where a cortex is looked for around an even core: so many voxels away, because roughness reaches one voxel."""
REACH_MM = 15.0
"""How far along bright voxels contrast medium is followed from where it is sure."""
CORTEX_ROUGH_HU = 110.0
CORTEX_HU = 350.0
POOL, BONE = 1, 2


@dataclass(frozen=True)
class Enhanced:
    """Where contrast medium is, its highest level (HU, -inf without any), and how much HU vary around each voxel."""

    region: Mask
    level: float
    rough: NDArray[np.float32]


def find_enhanced(scan: Scan, bright: Mask) -> Enhanced:
    """Return which part of the bright voxels is contrast medium.

    Pools are evenly bright without a brighter rim; marrow is evenly bright too, but its cortex is brighter. Pools, and
    what is clearly denser than the nearest of them, then share out the bright voxels; the border between them runs
    where HU vary most (watershed).
    """
    rough = roughness(scan.hu)
    limit = max(30.0, 1.8 * noise_of(scan.hu, rough))
    cores, count = numbered(bright & (scan.hu > POOL_HU) & (rough < limit), 6, scan.voxels_of(POOL_ML))
    level = np.full(count + 1, -np.inf, dtype=np.float32)
    for number, slices in enumerate(ndimage.find_objects(cores.astype(np.int32), max_label=count), start=1):
        level[number] = _level_of_pool(scan, cores, number, slices)
    present_ml = float(sizes_of(cores, count)[np.isfinite(level)].sum()) * scan.geometry.voxel_ml
    if present_ml < PRESENT_ML:
        return Enhanced(np.zeros_like(bright), -np.inf, rough)
    basins = watershed(rough, markers=cores.astype(np.int32), mask=bright)
    denser = bright & (scan.hu > np.maximum(CORTEX_HU, just_above(level[basins])))
    is_pool = np.isfinite(level)
    markers = np.where(is_pool[cores], POOL, np.where((cores > 0) | denser, BONE, 0)).astype(np.int32)
    shared = watershed(rough, markers=markers, mask=bright)
    near = distance_to(is_pool[cores], scan.spacing_mm) <= REACH_MM
    return Enhanced((shared == POOL) & near, float(level.max()), rough)


def _level_of_pool(scan: Scan, cores: Parts, number: int, slices: tuple[slice, slice, slice]) -> float:
    """Return the median HU of an even core that is a pool; -inf for marrow, which has a brighter rim."""
    near, far = (voxels * max(scan.spacing_mm[1:]) for voxels in RIM)
    k, j, i = (int(far / s) + 1 for s in scan.spacing_mm)
    start, stop = [s.start for s in slices], [s.stop for s in slices]
    box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])).grown((k, j, i), scan.geometry.shape)
    core, hu = cores[box.slices] == number, scan.hu[box.slices]
    away = distance_to(core, scan.spacing_mm)
    level = float(np.median(hu[core]))
    rim = hu[(away > near) & (away <= far)]
    brighter = float((rim > level + 20.0).mean()) if rim.size else 0.0
    large = float(core.sum()) * scan.geometry.voxel_ml > 5.0
    return level if brighter < (0.3 if large else 0.15) else -np.inf


def folds_among(scan: Scan, sure: Mask, enhanced: Enhanced) -> Mask:
    """Return small parts that are no denser than contrast medium and too smooth to have a cortex: folds of bowel."""
    parts, count = numbered(sure, 26, 1.0)
    if count == 0 or not np.isfinite(enhanced.level):
        return np.zeros_like(sure)
    index = np.arange(1, count + 1)
    densest = ndimage.labeled_comprehension(scan.hu, parts, index, _ninth_decile, np.float32, 0.0)
    smooth = ndimage.median(enhanced.rough, parts, index) < CORTEX_ROUGH_HU
    small = sizes_of(parts, count)[1:] < scan.voxels_of(20.0)
    is_fold = np.concatenate(
        [[False], smooth & small & (densest < just_above(np.array(enhanced.level, dtype=np.float32)))]
    )
    folds: Mask = is_fold[parts]
    return folds


def just_above(level_hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return up to which HU something may still be the same contrast medium."""
    return np.float32(1.15) * level_hu + np.float32(30.0)


def _ninth_decile(values: NDArray[np.float32]) -> np.float32:
    return np.float32(np.percentile(values, 90.0))


def noise_of(hu: NDArray[np.float32], rough: NDArray[np.float32]) -> float:
    """Return the noise of soft tissue in HU, 0 where there is none: the lower quartile of its roughness.

    The upper quartiles hold the borders of organs.
    """
    soft = rough[(hu > SOFT_HU[0]) & (hu < SOFT_HU[1])]
    return float(np.percentile(soft, 25.0)) if soft.size else 0.0


def roughness(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the standard deviation of HU among the 27 voxels around each."""
    mean = ndimage.uniform_filter(hu, 3)
    variance = ndimage.uniform_filter(hu * hu, 3) - mean * mean
    rough: NDArray[np.float32] = np.sqrt(np.maximum(variance, 0.0))
    return rough
