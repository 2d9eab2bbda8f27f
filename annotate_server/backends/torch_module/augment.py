"""Random training examples: one volume with its labels, moved, deformed and re-exposed on a fixed grid.

Arrays are (k, j, i). All randomness comes from the generator that is passed in, so a run can be repeated and resumed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """How strongly examples are varied; lengths in voxels of the network's grid."""

    mirror_axes: tuple[int, ...] = ()
    shift: float = 3.0
    spatial_chance: float = 0.65
    rotation_degrees: float = 15.0
    scale: float = 0.2
    anisotropic_scale: float = 0.07
    elastic_chance: float = 0.5
    elastic_shift: float = 2.0
    intensity_chance: float = 0.25


def augmented_example(
    channels: Tensor, grid: tuple[int, int, int], augmentation: Augmentation, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cut one example from `channels`: normalised intensities, then one 0/1 channel a segment, (1 + segments, k, j, i).

    Returns the volume (1, *grid), float32, and the labels (*grid), int64. Outside the array lies background of mean
    intensity (0).
    """
    coordinates = _sampling_coordinates(tuple(channels.shape[1:]), grid, augmentation, random)
    moved = functional.grid_sample(channels[None], coordinates[None], align_corners=True)[0]
    return _vary_intensity(moved[:1], augmentation.intensity_chance, random), _most_likely(moved[1:])


def _most_likely(foreground: Tensor) -> Tensor:
    """Return labels (k, j, i) of the largest interpolated share.

    A loop over the segments: argmax over an outer axis took five times as long as the resampling itself.
    """
    best = 1 - foreground.sum(0)
    labels = torch.zeros(best.shape, dtype=torch.int64)
    for label, share in enumerate(foreground, start=1):
        labels = torch.where(share > best, label, labels)
        best = torch.maximum(best, share)
    return labels


def _sampling_coordinates(
    shape: tuple[int, ...], grid: tuple[int, int, int], augmentation: Augmentation, random: torch.Generator
) -> Tensor:
    """Say where each voxel of the grid is read, (*grid, 3), as grid_sample wants it: -1..1, (i, j, k)."""
    sides, target = torch.tensor(shape), torch.tensor(grid)
    axes = [torch.arange(side) - (side - 1) / 2 for side in grid]
    centred = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    # Without deformation every voxel is read exactly at a voxel: half a voxel off would blur each undeformed example.
    shift = _uniform(random, -augmentation.shift, augmentation.shift, 3).round() + 0.5 * ((sides - target) % 2)
    matrix = torch.eye(3)
    if _happens(random, augmentation.spatial_chance):
        matrix = _random_matrix(augmentation, random)
        if _happens(random, augmentation.elastic_chance):
            centred = centred + _smooth_displacement(grid, augmentation.elastic_shift, random)
    for axis in augmentation.mirror_axes:
        if _happens(random, 0.5):
            matrix[axis] = -matrix[axis]
    position = centred @ matrix.T + shift
    return (2 * position / (sides - 1).clamp_min(1)).flip(-1)


def _random_matrix(augmentation: Augmentation, random: torch.Generator) -> Tensor:
    """Draw a rotation about the three axes after scaling, (3, 3) on (k, j, i) offsets from the centre."""
    angles = torch.deg2rad(_uniform(random, -augmentation.rotation_degrees, augmentation.rotation_degrees, 3))
    common = _uniform(random, -augmentation.scale, augmentation.scale, 1)
    single = _uniform(random, -augmentation.anisotropic_scale, augmentation.anisotropic_scale, 3)
    matrix = torch.diag(torch.exp(common + single))
    for axis in range(3):
        turn, (first, second) = torch.eye(3), [other for other in range(3) if other != axis]
        cosine, sine = angles[axis].cos(), angles[axis].sin()
        turn[first, first], turn[first, second] = cosine, -sine
        turn[second, first], turn[second, second] = sine, cosine
        matrix = turn @ matrix
    return matrix


def _smooth_displacement(grid: tuple[int, int, int], largest: float, random: torch.Generator) -> Tensor:
    """Draw a displacement (*grid, 3) in voxels: normal at nodes about 9 voxels apart, interpolated in between."""
    nodes = [max(3, round(side / 9) + 1) for side in grid]
    deviation = float(_uniform(random, 0.3, largest, 1))
    coarse = torch.randn(1, 3, *nodes, generator=random) * deviation
    field = functional.interpolate(coarse, size=grid, mode="trilinear", align_corners=True)
    return field[0].permute(1, 2, 3, 0)


def _vary_intensity(volume: Tensor, chance: float, random: torch.Generator) -> Tensor:
    """Apply blur, low resolution, bias field, gamma, contrast, brightness and noise by chance; (1, k, j, i)."""
    if _happens(random, chance):
        volume = _blurred(volume, float(_uniform(random, 0.3, 0.9, 1)))
    if _happens(random, chance):
        volume = _coarsened(volume, random)
    if _happens(random, chance):
        volume = volume * _bias_field(volume, random)
    if _happens(random, 2 * chance):
        volume = _gamma(volume, float(torch.exp(_uniform(random, -0.45, 0.45, 1))))
    if _happens(random, 2 * chance):
        volume = volume * torch.exp(_uniform(random, -0.3, 0.3, 1)) + _uniform(random, -0.3, 0.3, 1)
    if _happens(random, chance):
        volume = volume + torch.randn(volume.shape, generator=random) * _uniform(random, 0.02, 0.25, 1)
    return volume


def _blurred(volume: Tensor, deviation: float) -> Tensor:
    """Blur with a Gaussian of the given standard deviation (voxels), cut at two voxels."""
    offsets = torch.arange(-2.0, 3.0)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = 5, 2
        volume = functional.conv3d(volume[None], kernel.view(shape), padding=padding)[0]
    return volume


def _coarsened(volume: Tensor, random: torch.Generator) -> Tensor:
    """Make it as if scanned with voxels up to twice as large, drawn for each axis by itself."""
    keep = _uniform(random, 0.5, 1.0, 3)
    size = [max(2, round(side * float(part))) for side, part in zip(volume.shape[1:], keep, strict=True)]
    small = functional.interpolate(volume[None], size=size, mode="trilinear", align_corners=False)
    back = functional.interpolate(small, size=volume.shape[1:], mode="trilinear", align_corners=False)
    return back[0]


def _bias_field(volume: Tensor, random: torch.Generator) -> Tensor:
    coarse = torch.randn(1, 1, 3, 3, 3, generator=random) * 0.15
    field = functional.interpolate(coarse, size=volume.shape[1:], mode="trilinear", align_corners=True)
    return torch.exp(field[0])


def _gamma(volume: Tensor, exponent: float) -> Tensor:
    """Take a power of the intensities between their extremes; mean and deviation stay as they were."""
    low, high = volume.min(), volume.max()
    mean, deviation = volume.mean(), volume.std()
    powered = ((volume - low) / (high - low).clamp_min(1e-6)) ** exponent
    return (powered - powered.mean()) / powered.std().clamp_min(1e-6) * deviation + mean


def _uniform(random: torch.Generator, low: float, high: float, count: int) -> Tensor:
    return torch.rand(count, generator=random) * (high - low) + low


def _happens(random: torch.Generator, chance: float) -> bool:
    return bool(torch.rand(1, generator=random) < chance)
