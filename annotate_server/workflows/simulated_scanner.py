"""A simulated scanner: the same head as another machine would show it. For simulations only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from annotate_server.domain.geometry import Vector
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.volume import Volume
from annotate_server.imaging.resampling import Interpolation, resample


@dataclass(frozen=True)
class Scanner:
    """How another scanner differs: contrast (`gamma`, shares of the intensity range), spacing, and noise.

    `coarser` multiplies the spacing (k, j, i). `noise` is the standard deviation of each of the two channels whose
    magnitude is taken (Rician noise), as a share of the range between the 1st and the 99th percentile. `inverted` turns
    dark into bright, as between T1 and T2 weighting.
    """

    gamma: float = 2.0
    coarser: Vector = (1.4, 1.2, 1.2)
    noise: float = 0.06
    inverted: bool = False


class ScannerKind(StrEnum):
    """How hard another scanner is for a network that has not seen any like it."""

    MILD = "mild"
    HARD = "hard"


SCANNERS: Mapping[ScannerKind, Scanner] = {
    ScannerKind.MILD: Scanner(),
    ScannerKind.HARD: Scanner(gamma=1.0, coarser=(1.6, 1.3, 1.3), noise=0.08, inverted=True),
}
"""Mild: darker middle tones, which a network that was trained on varied contrast nearly knows. Hard: dark is bright."""


def scanned_again(volume: Volume, truth: Labelmap, scanner: Scanner, seed: int) -> tuple[Volume, Labelmap]:
    """Return a volume as the scanner would show it, and its label on the new grid; same arguments, same voxels."""
    k, j, i = (side * factor for side, factor in zip(volume.geometry.spacing_mm, scanner.coarser, strict=True))
    grid = volume.geometry.resized((k, j, i))
    values = volume.voxels.astype(np.float32)
    low, high = (float(value) for value in np.percentile(values, (1, 99)))
    shares = np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0)
    shares = 1.0 - shares if scanner.inverted else shares
    seen = resample(shares**scanner.gamma, volume.geometry, grid, Interpolation.LINEAR).astype(np.float64)
    random = np.random.default_rng(seed)
    real, imaginary = (random.normal(0.0, scanner.noise, seen.shape) for _ in range(2))
    noisy = (np.hypot(seen + real, imaginary) * 1000.0).astype(np.float32)
    voxels = resample(truth.voxels, truth.geometry, grid, Interpolation.NEAREST)
    labels = voxels.astype(np.uint8) if truth.voxels.dtype == np.uint8 else voxels.astype(np.uint16)
    return replace(volume, voxels=noisy, geometry=grid), Labelmap(labels, grid, truth.segments)
