"""One pass of the network over a window: voxels in, probabilities out, and what can be read from them.

Windows and volumes are (k, j, i) towards Inferior, Anterior and Left; the network's own axes run L, A, I.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from annotate_server.backends.obelisk.network import SIDE, ObeliskNet
from annotate_server.domain.geometry import Box, Vector

SPLEEN, LEFT_KIDNEY, LIVER = 1, 3, 6

_DARKEST_HU, _BRIGHTEST_HU = -1024.0, 3071.0
_CONFIDENT = 0.8
_ENHANCED_HU = 85.0
_PORTAL_HU = 100.0
_STRONGEST_SHIFT_HU = 60.0
_SMALLEST_SLICE_CM2 = 1.0
_SMALLEST_PART = 0.2


@dataclass(frozen=True, slots=True)
class Findings:
    """What a pass saw, as far as it decides where and how to look again.

    `liver_ml` counts only voxels of which the network is sure. `top_mm` is the dome of the liver and `bottom_mm` the
    lowest end of liver and left kidney, measured from the first slice towards the feet. `parenchyma_hu` is the median
    of the liver or of the spleen, whichever is brighter: a fatty liver alone is no sign of missing contrast medium.
    """

    liver_ml: float
    top_mm: float
    bottom_mm: float
    parenchyma_hu: float

    @property
    def contrast_shift_hu(self) -> float:
        """Return what to add to soft tissue so that a scan without contrast medium looks like the training cases."""
        if self.parenchyma_hu >= _ENHANCED_HU:
            return 0.0
        return min(_PORTAL_HU - self.parenchyma_hu, _STRONGEST_SHIFT_HU)


def sampled(voxels: NDArray[np.generic], window: Box) -> Tensor:
    """Return a window of a CT in HU on the network's grid, (L, A, I), float32.

    Linear, without smoothing, edge to edge, as the training cases were made (the axes one after the other, which is the
    same and needs no copy of the window). Slices beyond the volume repeat its last one.
    """
    rows, columns = window.slices[1:]
    planes = torch.empty(window.shape[0], SIDE, SIDE)
    for place, k in enumerate(range(window.start[0], window.stop[0])):
        plane = voxels[min(max(k, 0), len(voxels) - 1), rows, columns].astype(np.float32)
        plane = np.nan_to_num(plane, nan=_DARKEST_HU).clip(_DARKEST_HU, _BRIGHTEST_HU)
        planes[place] = _in_plane(torch.from_numpy(plane)[None, None], (SIDE, SIDE))[0, 0]
    cube = functional.interpolate(planes[None, None], size=(SIDE,) * 3, mode="trilinear", align_corners=False)
    return cube[0, 0].permute(2, 1, 0)


def enhanced(cube: Tensor, shift_hu: float) -> Tensor:
    """Return HU with soft tissue brightened by `shift_hu`; fat and air stay, between -30 and 10 HU it sets in."""
    if shift_hu == 0:
        return cube
    return cube + shift_hu * ((cube + 30.0) / 40.0).clamp(0.0, 1.0)


def scaled(cube: Tensor) -> Tensor:
    """Return HU as the networks take them."""
    return (cube / 1024.0 + 1.0).contiguous()


def probabilities(networks: Sequence[ObeliskNet], cube: Tensor) -> Tensor:
    """Return the mean probability of the classes over networks, (classes, L, A, I), for HU on their grid."""
    device = next(networks[0].parameters()).device
    volume = scaled(cube)[None, None].to(device)
    with torch.inference_mode():
        total = networks[0](volume).softmax(1)
        for network in networks[1:]:
            total += network(volume).softmax(1)
    mean: Tensor = total[0] / len(networks)
    return mean.cpu()


def read_findings(chances: Tensor, cube: Tensor, window: Box, spacing_mm: Vector) -> Findings:
    """Return what a pass over `window` saw; `chances` (classes, L, A, I), `cube` the HU that it was made from."""
    sizes_mm = [extent * size / SIDE for extent, size in zip(window.shape, spacing_mm, strict=True)]
    confident = {organ: chances[organ] > _CONFIDENT for organ in (LIVER, SPLEEN)}
    brightness = [float(cube[where].median()) for where in confident.values() if where.any()]
    seen = [_heights(chances[organ], sizes_mm[1] * sizes_mm[2] / 100.0) for organ in (LIVER, LEFT_KIDNEY)]
    last = max(height.stop for height in seen)
    begin_mm = window.start[0] * spacing_mm[0]
    return Findings(
        liver_ml=float(confident[LIVER].sum()) * math.prod(sizes_mm) / 1000.0,
        top_mm=begin_mm + seen[0].start * sizes_mm[0],
        bottom_mm=begin_mm + last * sizes_mm[0],
        parenchyma_hu=max(brightness, default=_PORTAL_HU),
    )


def without_fragments(chances: Tensor) -> Tensor:
    """Return the probabilities with each organ kept only where it is in one large piece; changes them in place.

    Pieces below a fifth of the organ's largest go to the next likely class: every organ here is one body, and what lies
    apart is bowel with contrast medium far more often than the organ.
    """
    labels = chances.argmax(0).numpy().astype(np.uint8)
    for organ in range(1, len(chances)):
        parts = cc3d.connected_components(labels == organ, connectivity=6)
        sizes = np.bincount(parts.ravel())
        if len(sizes) > 2:
            small = np.flatnonzero(sizes < _SMALLEST_PART * sizes[1:].max())
            chances[organ][torch.from_numpy(np.isin(parts, small[small > 0]))] = 0.0
    return chances


def upsampled(chances: Tensor, window: Box, inside: Box) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return labels and uncertainty, (k, j, i) of the box `inside`, from probabilities (classes, L, A, I) of `window`.

    Probabilities are interpolated linearly and the likeliest class is taken at every voxel, slice by slice, so that
    nothing of the size of all classes at full resolution exists. Uncertainty is one minus the lead of the likeliest.
    """
    slices = chances.permute(3, 0, 2, 1).contiguous()
    labels = np.empty(inside.shape, np.uint8)
    uncertainty = np.empty(inside.shape, np.float32)
    scale = SIDE / window.shape[0]
    for place, k in enumerate(range(inside.start[0], inside.stop[0])):
        height = min(max((k - window.start[0] + 0.5) * scale - 0.5, 0.0), SIDE - 1.0)
        below = min(int(height) + 1, SIDE - 1)
        plane = torch.lerp(slices[int(height)], slices[below], height - int(height))
        plane = _in_plane(plane[None], inside.shape[1:])[0]
        best, label = plane.max(0)
        second = plane.scatter_(0, label[None], -1.0).amax(0)
        labels[place] = label.numpy()
        uncertainty[place] = (1.0 - (best - second)).numpy()
    return labels, uncertainty


def _heights(chances: Tensor, pixel_cm2: float) -> range:
    """Return the slices (axis I) that an organ's largest piece occupies; an empty range where there is none."""
    parts = cc3d.connected_components((chances > 0.5).numpy(), connectivity=6)
    sizes = np.bincount(parts.ravel())
    if len(sizes) < 2:
        return range(0)
    areas_cm2 = (parts == 1 + int(sizes[1:].argmax())).sum(axis=(0, 1)) * pixel_cm2
    seen = np.flatnonzero(areas_cm2 >= _SMALLEST_SLICE_CM2)
    return range(int(seen[0]), int(seen[-1]) + 1) if seen.size else range(0)


def _in_plane(planes: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(planes, size=size, mode="bilinear", align_corners=False)
