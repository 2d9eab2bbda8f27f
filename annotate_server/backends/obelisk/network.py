"""The hybrid OBELISK network for eight abdominal organs.

Written after Heinrich, Oktay, Bouteldja, "OBELISK-Net: Fewer layers to solve 3D multi-organ segmentation with sparse
deformable convolutions", Medical Image Analysis 54 (2019), section 3, and made to load the weights that its authors
published. A small U-Net of three resolutions is joined by two branches that replace deep encoders: each reads a
blurred copy of the volume at a few hundred learnt offsets around every point of a coarse grid, and mixes what it read
with a densely connected stack of 1x1x1 convolutions.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from annotate_server.domain.errors import WeightsInvalid

SIDE = 144
"""Voxels along each side of the input: the offsets are fractions of it, and the weights know no other."""

CLASSES = 9
"""Those of the published weights, background included; a network that has learned more has more outputs."""
_SLOPE = 0.025
_UNREADABLE = (
    *(OSError, RuntimeError, KeyError, ValueError, EOFError, AttributeError, TypeError),
    *(UnpicklingError, SafetensorError),
)
_HALF, _QUARTER = (72, 72, 72), (36, 36, 36)
_FAR_GRID = (18, 36, 18)
"""The published weights were trained with this grid of the wide branch: the middle axis is twice as dense."""


class Obelisk(nn.Module):
    """Reads a volume at learnt offsets around each point of a grid and mixes the readings."""

    def __init__(self, grid: Sequence[int], offsets: int, groups: int, width_out: int) -> None:
        """Create fresh weights for `offsets` readings at each point of a grid of `grid` points."""
        super().__init__()
        self.grid = tuple(grid)
        self.offsets = nn.Parameter(torch.randn(1, offsets, 1, 1, 3) * 0.05)
        self.first = nn.Conv3d(offsets, 128, 1, groups=groups, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm3d(128 + 32 * depth) for depth in range(4))
        self.growth = nn.ModuleList(nn.Conv3d(128 + 32 * depth, 32, 1, bias=False) for depth in range(3))
        self.last = nn.Conv3d(224, width_out, 1, bias=False)

    def forward(self, blurred: Tensor) -> Tensor:
        """Map (1, 1, a, b, c) to (1, width_out, *grid)."""
        places = _grid_points(self.grid, blurred.device) + self.offsets
        readings = functional.grid_sample(blurred, places, align_corners=True)
        features = _leaky(self.first(readings.view(1, -1, *self.grid)))
        for norm, growth in zip(self.norms, self.growth, strict=False):
            features = torch.cat([features, _leaky(growth(norm(features)))], dim=1)
        return _leaky(self.last(self.norms[-1](features)))


class ObeliskNet(nn.Module):
    """The whole network; maps (1, 1, 144, 144, 144) to (1, classes, 144, 144, 144) logits.

    The axes of the input run towards Left, Anterior, Inferior; its values are HU / 1024 + 1.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        """Create fresh weights."""
        super().__init__()
        self.full = _convolution(1, 4)
        self.half_first = _convolution(4, 16, stride=2)
        self.half_second = _convolution(16, 16)
        self.quarter_in = _convolution(16, 32, stride=2)
        self.quarter_first = _convolution(32, 32)
        self.quarter_second = _convolution(32, 32)
        self.near = Obelisk(_QUARTER, offsets=128, groups=2, width_out=16)
        self.far = Obelisk(_FAR_GRID, offsets=512, groups=4, width_out=32)
        self.join_quarter = _convolution(64, 32)
        self.join_half = _convolution(64, 12)
        self.join_full = _convolution(16, CLASSES)
        self.head = nn.Conv3d(CLASSES, classes, 1)

    def forward(self, volume: Tensor) -> Tensor:
        """Return logits of the classes (0 is background) for one volume."""
        blurred = functional.avg_pool3d(volume, 3, padding=1, stride=1)
        near = self.near(blurred)
        far = self.far(functional.avg_pool3d(blurred, 3, padding=1, stride=1))
        full = _leaky(self.full(volume))
        half = _leaky(self.half_second(_leaky(self.half_first(full))))
        deep = _leaky(self.quarter_first(_leaky(self.quarter_in(half))))
        deep = _leaky(self.quarter_second(deep))
        deep = _leaky(self.join_quarter(torch.cat([deep, _resized(far, _QUARTER)], dim=1)))
        deep = torch.cat([_resized(deep, _HALF), _resized(near, _HALF), half], dim=1)
        deep = _resized(_leaky(self.join_half(deep)), volume.shape[2:])
        return cast("Tensor", self.head(_leaky(self.join_full(torch.cat([deep, full], dim=1)))))

    def every_resolution(self, volume: Tensor) -> list[Tensor]:
        """Return the logits in a list: the network has one resolution."""
        return [self(volume)]

    def fuse(self) -> None:
        """Fold each normalisation into the convolution before it; changes the network, for prediction only."""
        self.eval()
        for name, child in list(self.named_children()):
            if isinstance(child, nn.Sequential):
                setattr(self, name, fuse_conv_bn_eval(cast("nn.Conv3d", child[0]), cast("nn.BatchNorm3d", child[1])))


def load_network(path: Path) -> ObeliskNet:
    """Return the network with the weights of a file, fused, in evaluation mode.

    Raises WeightsInvalid for a file that holds other weights.
    """
    network = read_network(path)
    network.fuse()
    for parameter in network.parameters():
        parameter.requires_grad = False
    return network


def read_network(path: Path) -> ObeliskNet:
    """Return the network with the weights of a file as it is trained; raises WeightsInvalid."""
    state = state_of(path)
    network = ObeliskNet(len(state["head.bias"]))
    network.load_state_dict(state)
    return network


def state_of(path: Path) -> dict[str, Tensor]:
    """Return the weights of a file by the names of this module: safetensors, or a published one of one fold.

    Raises WeightsInvalid for a file that holds other weights.
    """
    try:
        if path.suffix == ".safetensors":
            state: dict[str, Tensor] = load_file(path)
        else:
            stored = cast("Mapping[str, Tensor]", torch.load(path, weights_only=True, map_location="cpu"))
            state = {_own_name(key): value for key, value in stored.items()}
        ObeliskNet(len(state["head.bias"])).load_state_dict(state)
    except _UNREADABLE as error:
        raise WeightsInvalid(
            "the file does not hold the weights of a hybrid OBELISK network",
            source=path.name,
            remedy="Install them again with `annotate models pull` or `annotate models import`",
        ) from error
    return state


def _own_name(published: str) -> str:
    """Return the name in this module of a published parameter; KeyError for one that it does not know."""
    layer, _, rest = published.partition(".")
    return f"{_PUBLISHED_NAMES[layer]}.{rest}" if rest else _PUBLISHED_NAMES[layer]


def _convolution(width_in: int, width_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(width_in, width_out, 3, stride=stride, padding=1), nn.BatchNorm3d(width_out))


def _leaky(features: Tensor) -> Tensor:
    return functional.leaky_relu(features, _SLOPE, inplace=not features.requires_grad)


def _resized(features: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(features, size=tuple(size), mode="trilinear", align_corners=False)


def _grid_points(grid: Sequence[int], device: torch.device) -> Tensor:
    """Return the points of a grid over the volume, (1, 1, points, 1, 3): -1 to 1, the last axis of the array first."""
    axes = [torch.linspace(-1, 1, points, device=device) for points in grid]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flip(-1)
    return points.reshape(1, 1, -1, 1, 3)


_PUBLISHED_NAMES: Mapping[str, str] = {
    "conv0": "full.0",
    "batch0": "full.1",
    "conv1": "half_first.0",
    "batch1": "half_first.1",
    "conv11": "half_second.0",
    "batch11": "half_second.1",
    "conv2": "quarter_in.0",
    "batch2": "quarter_in.1",
    "conv22": "quarter_first.0",
    "batch22": "quarter_first.1",
    "conv3": "quarter_second.0",
    "batch3": "quarter_second.1",
    "offset1": "near.offsets",
    "linear1a": "near.first",
    "batch1a": "near.norms.0",
    "linear1b": "near.growth.0",
    "batch1b": "near.norms.1",
    "linear1c": "near.growth.1",
    "batch1c": "near.norms.2",
    "linear1d": "near.growth.2",
    "batch1d": "near.norms.3",
    "linear1e": "near.last",
    "offset2": "far.offsets",
    "linear2a": "far.first",
    "batch2a": "far.norms.0",
    "linear2b": "far.growth.0",
    "batch2b": "far.norms.1",
    "linear2c": "far.growth.1",
    "batch2c": "far.norms.2",
    "linear2d": "far.growth.2",
    "batch2d": "far.norms.3",
    "linear2e": "far.last",
    "conv6bU": "join_quarter.0",
    "batch6bU": "join_quarter.1",
    "conv6U": "join_half.0",
    "batch6U": "join_half.1",
    "conv7U": "join_full.0",
    "batch7U": "join_full.1",
    "conv77U": "head",
}
