"""Architectures by name: small segmentation networks of plain PyTorch.

Every network maps (batch, channels, k, j, i), normalised intensities, to (batch, classes, k, j, i) logits whose softmax
is the probability of each segment (class 0 is background). Each side of the input must be a multiple of that of
`network.stride`; `prediction.predict_probabilities` pads to that.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

Sides = tuple[int, int, int]


@dataclass(frozen=True)
class Level:
    """One resolution of a U-Net: channels, sides of its kernels, and the step from the finer level (k, j, i)."""

    width: int
    kernel: Sides = (3, 3, 3)
    stride: Sides = (2, 2, 2)


class ConvolutionBlock(nn.Module):
    """Two times convolution, instance normalisation, leaky ReLU; a skip around the second when `residual`."""

    def __init__(self, width_in: int, level: Level, *, stride: Sides = (1, 1, 1), residual: bool = False) -> None:
        """Create fresh weights."""
        super().__init__()
        width_out, kernel = level.width, level.kernel
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.first = nn.Conv3d(width_in, width_out, kernel, stride=stride, padding=padding, bias=False)
        self.first_norm = nn.InstanceNorm3d(width_out, affine=True)
        self.second = nn.Conv3d(width_out, width_out, kernel, padding=padding, bias=False)
        self.second_norm = nn.InstanceNorm3d(width_out, affine=True)
        self.activation = nn.LeakyReLU(0.01, inplace=True)
        self.residual = residual

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, width_in, k, j, i) to (batch, width_out, k/stride, j/stride, i/stride)."""
        inner = self.activation(self.first_norm(self.first(features)))
        outer = self.second_norm(self.second(inner))
        return cast("Tensor", self.activation(outer + inner if self.residual else outer))


class UNet(nn.Module):
    """U-Net with strided convolutions down, transposed ones up, and deep supervision.

    After Isensee et al., nnU-Net (Nature Methods 2021), section "Blueprint parameters": two convolutions a level,
    instance normalisation, leaky ReLU of slope 0.01, a supervised head at every resolution but the coarsest.
    """

    def __init__(self, levels: Sequence[Level], classes: int, channels: int = 1, *, residual: bool = False) -> None:
        """Create fresh weights; the first level's step is not taken."""
        super().__init__()
        self.stride = _product([level.stride for level in levels[1:]])
        pairs = list(pairwise(levels))
        stem = ConvolutionBlock(channels, levels[0], residual=residual)
        down = [ConvolutionBlock(fine.width, coarse, stride=coarse.stride, residual=residual) for fine, coarse in pairs]
        self.encoder = nn.ModuleList([stem, *down])
        self.upsampling = nn.ModuleList(
            nn.ConvTranspose3d(coarse.width, fine.width, coarse.stride, coarse.stride, bias=False)
            for fine, coarse in pairs
        )
        self.decoder = nn.ModuleList(ConvolutionBlock(2 * fine.width, fine, residual=residual) for fine, _ in pairs)
        self.heads = nn.ModuleList(nn.Conv3d(fine.width, classes, 1) for fine, _ in pairs)
        self.apply(_initialise)

    def every_resolution(self, volume: Tensor) -> list[Tensor]:
        """Return logits of every resolution but the coarsest, finest first."""
        levels = self._decode(volume)
        return [head(features) for head, features in zip(self.heads, levels, strict=True)]

    def forward(self, volume: Tensor) -> Tensor:
        """Map (batch, channels, k, j, i) to logits (batch, classes, k, j, i)."""
        return cast("Tensor", self.heads[0](self._decode(volume)[0]))

    def _decode(self, features: Tensor) -> list[Tensor]:
        skips = []
        for block in self.encoder:
            features = block(features)
            skips.append(features)
        levels: list[Tensor] = []
        for depth in reversed(range(len(self.decoder))):
            features = torch.cat([self.upsampling[depth](features), skips[depth]], dim=1)
            features = self.decoder[depth](features)
            levels.insert(0, features)
        return levels


class Ensemble(nn.Module):
    """Networks of one architecture whose probabilities are averaged; trained one by one, served as one file."""

    def __init__(self, members: Sequence[UNet]) -> None:
        """Hold `members`; they are not copied."""
        super().__init__()
        self.stride = members[0].stride
        self.members = nn.ModuleList(members)

    def forward(self, volume: Tensor) -> Tensor:
        """Return logits whose softmax is the mean of the members' probabilities."""
        return _average([member(volume) for member in self.members])


def _average(logits: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean probability, in float32."""
    return torch.stack([each.float().softmax(1) for each in logits]).mean(0).clamp_min(1e-8).log()


def _initialise(module: nn.Module) -> None:
    """Initialise after He for leaky ReLU of slope 0.01; biases become zero."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _product(strides: Sequence[Sides]) -> Sides:
    k, j, i = (math.prod(stride[axis] for stride in strides) for axis in range(3))
    return k, j, i


def _unet(parameters: Mapping[str, object]) -> UNet:
    widths = cast("Sequence[int]", parameters["widths"])
    kernels = cast("Sequence[Sides]", parameters.get("kernels", [(3, 3, 3)] * len(widths)))
    strides = cast("Sequence[Sides]", parameters.get("strides", [(2, 2, 2)] * len(widths)))
    rows = zip(widths, kernels, strides, strict=True)
    levels = [Level(width, _sides(kernel), _sides(stride)) for width, kernel, stride in rows]
    classes, channels = cast("int", parameters["classes"]), cast("int", parameters.get("channels", 1))
    return UNet(levels, classes, channels, residual=bool(parameters.get("residual", False)))


def _sides(values: Sequence[int]) -> Sides:
    k, j, i = (int(value) for value in values)
    return k, j, i


def _unet_ensemble(parameters: Mapping[str, object]) -> Ensemble:
    return Ensemble([_unet(parameters) for _ in range(cast("int", parameters["members"]))])


Network: TypeAlias = UNet | Ensemble
ARCHITECTURES: Mapping[str, Callable[[Mapping[str, object]], Network]] = {
    "unet": _unet,
    "unet_ensemble": _unet_ensemble,
}


def build(name: str, parameters: Mapping[str, object]) -> Network:
    """Make a network with fresh weights.

    "unet": `widths` (one a level, finest first), `classes` (with background), `channels` (1), `residual` (false),
    `kernels` ([3, 3, 3] a level) and `strides` ([2, 2, 2] a level, that of the first is not looked at);
    "unet_ensemble": the same and `members`. Raises KeyError for an unknown name or a missing parameter, TypeError or
    ValueError for one that makes no sense.
    """
    return ARCHITECTURES[name](parameters)
