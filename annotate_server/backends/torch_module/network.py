"""Architectures by name: small segmentation networks of plain PyTorch.

Every network maps (batch, channels, k, j, i), normalised intensities, to (batch, classes, k, j, i) logits whose softmax
is the probability of each segment (class 0 is background). Each side of the input must be a multiple of
`network.stride`; `prediction.predict_probabilities` pads to that.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn


class ConvolutionBlock(nn.Module):
    """Two times convolution 3x3x3, instance normalisation, leaky ReLU; a skip around the second when `residual`."""

    def __init__(self, width_in: int, width_out: int, *, stride: int = 1, residual: bool = False) -> None:
        """Create fresh weights."""
        super().__init__()
        self.first = nn.Conv3d(width_in, width_out, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.InstanceNorm3d(width_out, affine=True)
        self.second = nn.Conv3d(width_out, width_out, 3, padding=1, bias=False)
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

    def __init__(self, widths: Sequence[int], classes: int, channels: int = 1, *, residual: bool = False) -> None:
        """Create fresh weights."""
        super().__init__()
        self.stride = 2 ** (len(widths) - 1)
        pairs = list(pairwise(widths))
        stem = ConvolutionBlock(channels, widths[0], residual=residual)
        down = [ConvolutionBlock(fine, coarse, stride=2, residual=residual) for fine, coarse in pairs]
        self.encoder = nn.ModuleList([stem, *down])
        self.upsampling = nn.ModuleList(nn.ConvTranspose3d(coarse, fine, 2, 2, bias=False) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(ConvolutionBlock(2 * fine, fine, residual=residual) for fine, _ in pairs)
        self.heads = nn.ModuleList(nn.Conv3d(fine, classes, 1) for fine, _ in pairs)
        self.apply(_initialise)

    def every_resolution(self, volume: Tensor) -> list[Tensor]:
        """Return logits of every resolution but the coarsest, finest first, each half the size of the one before."""
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
        self.stride = max(member.stride for member in members)
        self.members = nn.ModuleList(members)

    def every_resolution(self, volume: Tensor) -> list[Tensor]:
        """Return averaged logits of every supervised resolution: fine-tuning treats the ensemble as one network."""
        every = [cast("UNet", member).every_resolution(volume) for member in self.members]
        return [_average(list(level)) for level in zip(*every, strict=True)]

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


def _unet(parameters: Mapping[str, object]) -> UNet:
    widths = cast("Sequence[int]", parameters["widths"])
    classes, channels = cast("int", parameters["classes"]), cast("int", parameters.get("channels", 1))
    return UNet(widths, classes, channels, residual=bool(parameters.get("residual", False)))


def _unet_ensemble(parameters: Mapping[str, object]) -> Ensemble:
    return Ensemble([_unet(parameters) for _ in range(cast("int", parameters["members"]))])


Network: TypeAlias = UNet | Ensemble
ARCHITECTURES: Mapping[str, Callable[[Mapping[str, object]], Network]] = {
    "unet": _unet,
    "unet_ensemble": _unet_ensemble,
}


def build(name: str, parameters: Mapping[str, object]) -> Network:
    """Make a network with fresh weights.

    "unet": `widths` (one a level, finest first), `classes` (with background), `channels` (1), `residual` (false);
    "unet_ensemble": the same and `members`. Raises KeyError for an unknown name or a missing parameter.
    """
    return ARCHITECTURES[name](parameters)
