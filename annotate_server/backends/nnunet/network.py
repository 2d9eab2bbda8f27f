"""The two networks of nnU-Net, with the names of weights that its checkpoints have.

Own code after their description: Isensee et al., Nature Methods 18, 203-211 (2021) for the plain one, Isensee et al.,
"nnU-Net Revisited", MICCAI 2024 for the residual encoder, whose blocks are ResNet-D's (He et al., CVPR 2019).
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from annotate_server.backends.nnunet.architecture import Activation, NetworkPlan, Norm, Sides

_CONVOLUTION: Mapping[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: Mapping[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOL: Mapping[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_ACTIVATION: Mapping[str, type[nn.Module]] = {"ReLU": nn.ReLU, "ELU": nn.ELU, "GELU": nn.GELU, "SiLU": nn.SiLU}
_NORM: Mapping[tuple[str, int], Callable[..., nn.Module]] = {
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
}


def build(plan: NetworkPlan, channels: int, outputs: int) -> nn.Module:
    """Return the network with fresh weights: (n, channels, k, j, i) to (n, outputs, k, j, i).

    One of two dimensions takes slices of thickness 1 in the same form.
    """
    network = UNet(plan, channels, outputs)
    return Slices(network) if plan.dimensions == 2 else network


class UNet(nn.Module):
    """An encoder, and a decoder that meets its features again from the coarsest up."""

    def __init__(self, plan: NetworkPlan, channels: int, outputs: int) -> None:
        """Make the layers of a plan."""
        super().__init__()
        self.encoder = _Encoder(plan, channels)
        self.decoder = _Decoder(plan, outputs)

    def forward(self, volume: Tensor) -> Tensor:
        """Map (n, channels, …) to the class values (n, outputs, …) of the same sides."""
        values: Tensor = self.decoder(self.encoder(volume))
        return values


class Slices(nn.Module):
    """A network for slices that takes them as volumes of one plane."""

    def __init__(self, network: UNet) -> None:
        """Keep the network's own names of weights."""
        super().__init__()
        self.encoder, self.decoder = network.encoder, network.decoder

    def forward(self, volume: Tensor) -> Tensor:
        """Map (n, channels, 1, j, i) to (n, outputs, 1, j, i)."""
        values: Tensor = self.decoder(self.encoder(volume[:, :, 0]))
        return values[:, :, None]


class _Encoder(nn.Module):
    def __init__(self, plan: NetworkPlan, channels: int) -> None:
        super().__init__()
        self.stem: nn.Module | None = None
        if plan.is_residual:
            one = (1,) * plan.dimensions
            self.stem = _Convolutions(plan, (channels, plan.stem_features), plan.kernels[0], one, 1)
        widths = (plan.stem_features if plan.is_residual else channels, *plan.features)
        make = _Blocks if plan.is_residual else _in_chain
        self.stages = nn.Sequential(*(make(plan, widths[stage], stage) for stage in range(len(plan.features))))

    def forward(self, volume: Tensor) -> list[Tensor]:
        """Return the features of every stage, finest first."""
        features = volume if self.stem is None else self.stem(volume)
        found = []
        for stage in self.stages:
            features = stage(features)
            found.append(features)
        return found


class _Decoder(nn.Module):
    def __init__(self, plan: NetworkPlan, outputs: int) -> None:
        super().__init__()
        convolution, transposed = _CONVOLUTION[plan.dimensions], _TRANSPOSED[plan.dimensions]
        stages, upward, heads = [], [], []
        for number, count in enumerate(plan.decoder_convolutions):
            stage = len(plan.features) - 2 - number
            below, width, stride = plan.features[stage + 1], plan.features[stage], plan.strides[stage + 1]
            upward.append(transposed(below, width, stride, stride, bias=plan.has_bias))
            one = (1,) * plan.dimensions
            stages.append(_Convolutions(plan, (2 * width, width), plan.kernels[stage], one, count))
            # All but the last were for training; they are kept because the checkpoints have them.
            heads.append(convolution(width, outputs, 1))
        self.stages, self.transpconvs = nn.ModuleList(stages), nn.ModuleList(upward)
        self.seg_layers = nn.ModuleList(heads)

    def forward(self, found: Sequence[Tensor]) -> Tensor:
        """Return the class values of the finest stage."""
        features = found[-1]
        for stage, upward, skip in zip(self.stages, self.transpconvs, reversed(found[:-1]), strict=True):
            features = stage(torch.cat((upward(features), skip), 1))
        values: Tensor = self.seg_layers[-1](features)
        return values


class _ResidualBlock(nn.Module):
    """Two convolutions, and beside them the input, pooled and projected where their result has another shape."""

    def __init__(self, plan: NetworkPlan, channels: Sides, kernel: Sides, stride: Sides) -> None:
        super().__init__()
        before, width = channels
        one = (1,) * plan.dimensions
        self.conv1 = _convolution(plan, (before, width), kernel, stride)
        self.conv2 = _convolution(plan, (width, width), kernel, one, is_activated=False)
        beside: list[nn.Module] = []
        if max(stride) > 1:
            beside.append(_POOL[plan.dimensions](stride, stride))
        if before != width:
            unbiased = replace(plan, has_bias=False)
            beside.append(_convolution(unbiased, (before, width), one, one, is_activated=False))
        self.skip = nn.Sequential(*beside)
        self.nonlin2 = nn.Identity() if plan.activation is None else _activated(plan.activation)

    def forward(self, features: Tensor) -> Tensor:
        beside = self.skip(features)
        result: Tensor = self.nonlin2(self.conv2(self.conv1(features)) + beside)
        return result


class _Blocks(nn.Module):
    """Residual blocks one after the other; the first takes the stage's stride."""

    def __init__(self, plan: NetworkPlan, before: int, stage: int) -> None:
        super().__init__()
        width, kernel, one = plan.features[stage], plan.kernels[stage], (1,) * plan.dimensions
        first = _ResidualBlock(plan, (before, width), kernel, plan.strides[stage])
        rest = [_ResidualBlock(plan, (width, width), kernel, one) for _ in range(plan.convolutions[stage] - 1)]
        self.blocks = nn.Sequential(first, *rest)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.blocks(features)
        return result


def _in_chain(plan: NetworkPlan, before: int, stage: int) -> nn.Module:
    """Return a stage of the plain encoder, in a chain of one as the checkpoints name it."""
    channels = (before, plan.features[stage])
    return nn.Sequential(
        _Convolutions(plan, channels, plan.kernels[stage], plan.strides[stage], plan.convolutions[stage])
    )


class _Convolutions(nn.Module):
    """Convolutions one after the other; the first takes the stage's stride and `before` channels."""

    def __init__(self, plan: NetworkPlan, channels: Sides, kernel: Sides, stride: Sides, count: int) -> None:
        super().__init__()
        _, width = channels
        one = (1,) * plan.dimensions
        first = _convolution(plan, channels, kernel, stride)
        rest = [_convolution(plan, (width, width), kernel, one) for _ in range(count - 1)]
        self.convs = nn.Sequential(first, *rest)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.convs(features)
        return result


def _convolution(
    plan: NetworkPlan, channels: Sides, kernel: Sides, stride: Sides, *, is_activated: bool = True
) -> nn.Module:
    """Return a convolution with what follows it; a chain, so that the engine can run its layers as one."""
    before, width = channels
    padding = tuple((side - 1) // 2 for side in kernel)
    layers: list[tuple[str, nn.Module]] = []
    if plan.norm is not None:
        layers.append(("norm", _normalised(plan.norm, plan.dimensions, width)))
    if plan.activation is not None and is_activated:
        layers.append(("nonlin", _activated(plan.activation)))
    if plan.activates_first:
        layers.reverse()
    convolution = _CONVOLUTION[plan.dimensions](before, width, kernel, stride, padding, bias=plan.has_bias)
    return nn.Sequential(OrderedDict([("conv", convolution), *layers]))


def _normalised(norm: Norm, dimensions: int, width: int) -> nn.Module:
    return _NORM[norm.kind, dimensions](width, eps=norm.eps, affine=norm.is_affine)


def _activated(activation: Activation) -> nn.Module:
    if activation.kind == "LeakyReLU":
        return nn.LeakyReLU(activation.slope)
    return _ACTIVATION[activation.kind]()
