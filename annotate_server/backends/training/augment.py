"""Random training examples: patches of a case, moved, deformed and re-exposed, made on the device that trains.

Arrays are (k, j, i). What is drawn comes from a generator on the processor, so that no step waits for a card; noise and
resampling happen on the device.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from annotate_server.backends.training.cases import Voxels
from annotate_server.backends.training.drawing import Drawn
from annotate_server.domain.geometry import Box, Shape
from annotate_server.domain.training import IGNORED

_MOST_SHARES = 4
"""Up to so many labels in a patch, each is interpolated as a share of the voxels; of more the nearest voxel counts."""


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


@dataclass(frozen=True)
class Chance:
    """Where an example's randomness comes from: `choice` on the processor, `noise` on the device."""

    choice: torch.Generator
    noise: torch.Generator

    @classmethod
    def of_example(cls, seed: int, number: int, device: torch.device) -> "Chance":
        """Return the randomness of the `number`th example of a training.

        It depends on nothing that came before: a resumed run goes on as it would have gone, and it makes no difference
        which of several processes makes an example.
        """
        choice = torch.Generator().manual_seed((seed & 0xFFFF_FFFF) << 31 ^ number)
        noise = choice if device.type == "cpu" else torch.Generator(device).manual_seed((seed & 0xFFFF) << 31 ^ number)
        return cls(choice, noise)


def augmented_example(
    drawn: Drawn, patch: Shape, augmentation: Augmentation, voxels: Voxels, chance: Chance
) -> tuple[Tensor, Tensor]:
    """Return values (channels, *patch), float32, and the target (*patch), int64, of an augmented patch.

    Beyond the case lies background of mean intensity (0).
    """
    motion = _motion(drawn, patch, augmentation, chance.choice)
    box = motion.box(drawn.case.shape)
    values, target = voxels.cut(drawn.case, box)
    coordinates = _normalised(motion.places(values.device), box)
    moved = functional.grid_sample(values[None], coordinates, align_corners=True)[0]
    labels = _moved_target(target, coordinates, _present(target, drawn))
    return _vary_intensity(moved, augmentation.intensity_chance, chance), labels


@dataclass(frozen=True)
class Motion:
    """Where the voxels of a patch are read in a case: `matrix` @ (voxel - middle of the patch) + `centre` + a drift.

    `drift` is (1, 3, *nodes) in voxels, on the processor, None where nothing is deformed.
    """

    patch: Shape
    matrix: Tensor
    centre: tuple[float, float, float]
    drift: Tensor | None

    def box(self, shape: Shape) -> Box:
        """Return a part of a case of a shape that all is read from; one voxel at least."""
        half = torch.tensor([(side - 1) / 2 for side in self.patch])
        reach = (self.matrix.abs() @ half).tolist()
        drift = [0.0] * 3 if self.drift is None else self.drift.abs().amax((0, 2, 3, 4)).tolist()
        low = [centre - a - b for centre, a, b in zip(self.centre, reach, drift, strict=True)]
        high = [centre + a + b for centre, a, b in zip(self.centre, reach, drift, strict=True)]
        start = [min(max(math.floor(a), 0), side - 1) for a, side in zip(low, shape, strict=True)]
        stop = [min(max(math.ceil(b) + 1, a + 1), side) for a, b, side in zip(start, high, shape, strict=True)]
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    def places(self, device: torch.device) -> Tensor:
        """Return the voxel of the case that each voxel of the patch is read at, (3, *patch), on a device."""
        axes = (torch.arange(side, dtype=torch.float32, device=device) - (side - 1) / 2 for side in self.patch)
        k, j, i = axes
        rows = []
        for axis in range(3):
            along_k, along_j, along_i = (float(n) for n in self.matrix[axis])
            plane = (along_j * j)[:, None] + (along_i * i)[None, :] + self.centre[axis]
            rows.append((along_k * k)[:, None, None] + plane[None])
        places = torch.stack(rows)
        if self.drift is None:
            return places
        size, drift = self.patch, self.drift.to(device)
        return places + functional.interpolate(drift, size=size, mode="trilinear", align_corners=True)[0]


def _present(target: Tensor, drawn: Drawn) -> list[int]:
    """Return the labels but 0 that there may be; a card is not asked, which would take until it has caught up."""
    if target.device.type != "cpu":
        return sorted({IGNORED, *drawn.case.places} - {0})
    counts = torch.bincount((target.flatten() - IGNORED).long())
    return [int(place) + IGNORED for place in counts.nonzero() if int(place) != -IGNORED]


def _normalised(places: Tensor, box: Box) -> Tensor:
    """Return places (3, *patch) in voxels of the case as grid_sample wants them in the box, (1, *patch, 3)."""
    axes = []
    for axis in (2, 1, 0):
        side = box.stop[axis] - box.start[axis]
        inside = places[axis] - box.start[axis]
        # An axis of one voxel has no length: what is read beside it must lie outside.
        axes.append(2 * inside / (side - 1) - 1 if side > 1 else 2 * inside)
    return torch.stack(axes, dim=-1)[None]


def _moved_target(target: Tensor, coordinates: Tensor, present: list[int]) -> Tensor:
    """Return the labels at coordinates; background beyond the case."""
    if len(present) > _MOST_SHARES:
        shifted = (target.float() - IGNORED + 1)[None, None]
        nearest = functional.grid_sample(shifted, coordinates, mode="nearest", align_corners=True)[0, 0]
        labels = nearest.round().long() + IGNORED - 1
        return labels.where(nearest > 0, 0)
    labels = torch.zeros(coordinates.shape[1:4], dtype=torch.int64, device=target.device)
    if not present:
        return labels
    shares = torch.stack([(target == label).float() for label in present])[None]
    moved = functional.grid_sample(shares, coordinates, align_corners=True)[0]
    # A loop over the labels: argmax over an outer axis takes five times as long as the resampling itself on a CPU.
    best = 1 - moved.sum(0)
    for label, share in zip(present, moved, strict=True):
        labels = labels.masked_fill(share > best, label)
        best = torch.maximum(best, share)
    return labels


def _motion(drawn: Drawn, patch: Shape, augmentation: Augmentation, random: torch.Generator) -> Motion:
    """Draw how a patch is moved."""
    # Without deformation every voxel is read exactly at a voxel: half a voxel off would blur each undeformed example.
    shift = _uniform(random, -augmentation.shift, augmentation.shift, 3).round().tolist()
    matrix, drift = torch.eye(3), None
    if _happens(random, augmentation.spatial_chance):
        matrix = _random_matrix(augmentation, random)
        if _happens(random, augmentation.elastic_chance):
            drift = _drift(patch, augmentation.elastic_shift, random)
    for axis in augmentation.mirror_axes:
        if _happens(random, 0.5):
            matrix[:, axis] = -matrix[:, axis]
    k, j, i = (_on_voxel(c, side) + by for c, side, by in zip(drawn.centre, patch, shift, strict=True))
    return Motion(patch, matrix, (k, j, i), drift)


def _on_voxel(centre: float, side: int) -> float:
    """Return the centre at which a patch of `side` voxels falls on the voxels of the case."""
    half = (side - 1) / 2
    return round(centre - half) + half


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


def _drift(patch: Shape, largest: float, random: torch.Generator) -> Tensor:
    """Draw displacements (1, 3, *nodes) in voxels: normal, at nodes about 9 voxels apart."""
    nodes = [max(3, round(side / 9) + 1) for side in patch]
    deviation = float(_uniform(random, 0.3, largest, 1))
    return torch.randn(1, 3, *nodes, generator=random) * deviation


def _vary_intensity(volume: Tensor, chance_of_each: float, chance: Chance) -> Tensor:
    """Apply blur, low resolution, bias field, gamma, contrast, brightness and noise by chance; (channels, k, j, i)."""
    random = chance.choice
    if _happens(random, chance_of_each):
        volume = _blurred(volume, float(_uniform(random, 0.3, 0.9, 1)))
    if _happens(random, chance_of_each):
        volume = _coarsened(volume, random)
    if _happens(random, chance_of_each):
        volume = volume * _bias_field(volume, random)
    if _happens(random, 2 * chance_of_each):
        volume = _gamma(volume, float(torch.exp(_uniform(random, -0.45, 0.45, 1))))
    if _happens(random, 2 * chance_of_each):
        factor = float(torch.exp(_uniform(random, -0.3, 0.3, 1)))
        volume = volume * factor + float(_uniform(random, -0.3, 0.3, 1))
    if _happens(random, chance_of_each):
        noise = torch.randn(volume.shape, generator=chance.noise, device=volume.device)
        volume = volume + noise * float(_uniform(random, 0.02, 0.25, 1))
    return volume


def _blurred(volume: Tensor, deviation: float) -> Tensor:
    """Blur with a Gaussian of the given standard deviation (voxels), cut at two voxels."""
    offsets = torch.arange(-2, 3, device=volume.device)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = 5, 2
        volume = functional.conv3d(volume[:, None], kernel.view(shape), padding=padding)[:, 0]
    return volume


def _coarsened(volume: Tensor, random: torch.Generator) -> Tensor:
    """Make it as if scanned with voxels up to twice as large, drawn for each axis by itself."""
    keep = _uniform(random, 0.5, 1.0, 3)
    size = [max(2, round(side * float(part))) for side, part in zip(volume.shape[1:], keep, strict=True)]
    small = functional.interpolate(volume[None], size=size, mode="trilinear", align_corners=False)
    return functional.interpolate(small, size=volume.shape[1:], mode="trilinear", align_corners=False)[0]


def _bias_field(volume: Tensor, random: torch.Generator) -> Tensor:
    coarse = torch.randn(1, 1, 3, 3, 3, generator=random).to(volume.device) * 0.15
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
