"""The same network with faster layers for a CPU: the same numbers, added up in another order.

Three things are slow in a plain network of PyTorch that predicts one window at a time. For small windows and few
channels `Conv3d` takes a kernel that is up to ten times as slow as oneDNN's, which is called here directly. Features
lie channels first, which oneDNN repacks for every layer; here they lie channels last from end to end. And
normalisation over a window reads the features once for each moment and once for each result; here moments are added
up a cache's worth of voxels at a time, and the activation follows while its input is still in the cache.
"""

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

_CHUNK = 131_072
"""Numbers worked on at a time: 512 kB, so that they stay in the second-level cache."""
_CHANNELS_LAST = torch.channels_last_3d


def with_faster_layers(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a copy of a network in evaluation mode for a CPU; layers that are not known stay as they are.

    Convolutions take and give `dtype`, normalisation computes in float32 whatever it is given.
    """
    faster = copy.deepcopy(network).eval()
    _replace(faster)
    for layer in faster.modules():
        if isinstance(layer, Convolution):
            layer.to(dtype)
    for parameter in faster.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=_CHANNELS_LAST)
    return faster


def channels_last(volume: Tensor) -> Tensor:
    """Return (n, c, k, j, i) channels last; with one channel only the strides say so, and layers look at them."""
    if volume.shape[1] > 1:
        return volume.contiguous(memory_format=_CHANNELS_LAST)
    _, _, depth, height, width = volume.shape
    return volume.contiguous().as_strided(volume.shape, (depth * height * width, 1, height * width, width, 1))


def _replace(module: nn.Module) -> None:
    for name, child in module.named_children():
        faster = _faster(child)
        if faster is None:
            _replace(child)
        else:
            setattr(module, name, faster)
    if _is_chain(module):
        _join(list(_links(module)))


def _faster(layer: nn.Module) -> nn.Module | None:
    """Return a layer's replacement; None for one that has none."""
    if type(layer) is nn.Conv3d and not isinstance(layer.padding, str) and layer.padding_mode == "zeros":
        return Convolution(layer)
    if type(layer) is nn.GroupNorm:
        return Normalisation(layer.num_groups, layer.eps, layer.weight, layer.bias)
    if type(layer) is nn.InstanceNorm3d and not layer.track_running_stats:
        return Normalisation(layer.num_features, layer.eps, layer.weight, layer.bias)
    return None


def _is_chain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _links(chain: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield parent, name and layer of what a chain runs one after the other, chains within it included."""
    for name, child in chain.named_children():
        if _is_chain(child):
            yield from _links(child)
        else:
            yield chain, name, child


def _join(links: list[tuple[nn.Module, str, nn.Module]]) -> None:
    """Let a normalisation write over what the convolution before it made, and do the activation after it."""
    links = [link for link in links if not isinstance(link[2], (nn.Dropout, nn.Dropout3d, nn.Identity))]
    for (_, _, before), (_, _, layer) in pairwise(links):
        if isinstance(layer, Normalisation) and isinstance(before, (Convolution, nn.ConvTranspose3d)):
            layer.overwrites = True
    for (_, _, layer), (parent, name, after) in pairwise(links):
        slope = _slope(after)
        if isinstance(layer, Normalisation) and layer.slope is None and slope is not None:
            layer.slope = slope
            setattr(parent, name, nn.Identity())


def _slope(activation: nn.Module) -> float | None:
    """Return what an activation multiplies negative numbers with; None if it is another function."""
    if isinstance(activation, nn.ReLU):
        return 0.0
    if isinstance(activation, nn.LeakyReLU):
        return float(activation.negative_slope)
    if isinstance(activation, nn.PReLU) and activation.num_parameters == 1:
        return float(activation.weight.detach())
    return None


class Convolution(nn.Module):
    """A `Conv3d` that always takes oneDNN's kernel."""

    def __init__(self, layer: nn.Conv3d) -> None:
        """Share the weights of a layer."""
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        padding = [int(side) for side in layer.padding]
        self._geometry = (padding, list(layer.stride), list(layer.dilation), layer.groups)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, in, k, j, i) to (n, out, k', j', i')."""
        return torch.mkldnn_convolution(features.to(self.weight.dtype), self.weight, self.bias, *self._geometry)


class Normalisation(nn.Module):
    """Instance or group normalisation of features that lie channels last, and the activation behind it."""

    def __init__(self, groups: int, eps: float, weight: Tensor | None, bias: Tensor | None) -> None:
        """Share the weights of a layer; one group a channel is instance normalisation."""
        super().__init__()
        self._groups, self._eps = groups, eps
        self._weight = None if weight is None else weight.detach()
        self._bias = None if bias is None else bias.detach()
        self.overwrites = False
        self.slope: float | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, c, k, j, i) to the same shape."""
        features = features.contiguous(memory_format=_CHANNELS_LAST)
        result = features if self.overwrites else torch.empty_like(features)
        channels = features.shape[1]
        for source, target in zip(features, result, strict=True):
            voxels = source.permute(1, 2, 3, 0).reshape(-1, channels)
            written = target.permute(1, 2, 3, 0).view(-1, channels)
            scale, shift = self._scale_and_shift(voxels)
            rows = max(1, _CHUNK // channels)
            for part, place in zip(torch.split(voxels, rows), torch.split(written, rows), strict=True):
                torch.addcmul(shift, part.float(), scale, out=place)
                if self.slope is not None:
                    functional.leaky_relu_(place, self.slope)
        return result

    def _scale_and_shift(self, voxels: Tensor) -> tuple[Tensor, Tensor]:
        """Return what to multiply each channel by, and what to add; moments are added up in float64."""
        channels = voxels.shape[1]
        moments = torch.zeros((2, channels), dtype=torch.float64)
        for part in torch.split(voxels, max(1, _CHUNK // channels)):
            numbers = part.float()
            moments[0] += numbers.sum(0)
            moments[1] += numbers.square().sum(0)
        grouped = moments.view(2, self._groups, -1).mean(2) / len(voxels)
        mean, square = grouped.repeat_interleave(channels // self._groups, dim=1)
        scale = torch.rsqrt((square - mean**2).clamp_min_(0) + self._eps)
        scale = scale if self._weight is None else scale * self._weight
        shift = -mean * scale
        shift = shift if self._bias is None else shift + self._bias
        return scale.float(), shift.float()
