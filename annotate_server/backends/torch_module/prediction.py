"""From one canonical array to probabilities: pad, run, mirror, cut back.

Arrays are (k, j, i) in LPS order (i towards Left, j towards Posterior, k towards Superior) at the network's spacing.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

FloatArray = NDArray[np.float32]


def normalise(array: NDArray[np.generic], lower_percent: float = 0.5, upper_percent: float = 99.5) -> FloatArray:
    """Clip to two percentiles of the array, then shift and scale to zero mean and unit deviation; a float32 copy.

    A constant array becomes zeros.
    """
    values = np.nan_to_num(np.asarray(array, dtype=np.float64))
    low, high = np.percentile(values, [lower_percent, upper_percent])
    clipped = np.clip(values, low, high)
    deviation = clipped.std()
    if deviation == 0:
        return np.zeros(values.shape, dtype=np.float32)
    result: FloatArray = ((clipped - clipped.mean()) / deviation).astype(np.float32)
    return result


def predict_probabilities(
    network: nn.Module,
    values: FloatArray,
    *,
    smallest_grid: Sequence[int] = (1, 1, 1),
    mirror_axes: Sequence[int] = (),
    precision: torch.dtype = torch.float32,
) -> FloatArray:
    """Return the probability of every class, (classes, k, j, i), float32, of normalised `values` (k, j, i).

    The array is padded on all sides with 0 to `smallest_grid` or more, and predicted whole; for each of `mirror_axes`
    (0 is k) the mirrored array is predicted too and the probabilities are averaged.
    Side effect: puts the network in evaluation mode.
    """
    network.eval()
    parameter = next(network.parameters())
    volume = torch.from_numpy(values).to(parameter.device)[None, None]
    padded, inside = _pad(volume, smallest_grid, getattr(network, "stride", (1, 1, 1)))
    with torch.inference_mode(), torch.autocast(parameter.device.type, precision, enabled=precision != torch.float32):
        total = _probabilities(network, padded)
        for axis in mirror_axes:
            total += _probabilities(network, padded.flip(axis + 2)).flip(axis + 2)
    mean = total[0] / (1 + len(mirror_axes))
    result: FloatArray = mean[(slice(None), *inside)].cpu().numpy()
    return result


def _probabilities(network: nn.Module, volume: Tensor) -> Tensor:
    logits: Tensor = network(volume)
    return logits.float().softmax(1)


def _pad(volume: Tensor, smallest_grid: Sequence[int], stride: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    """Centre the volume on a grid that the network accepts, filled with 0; also return the box it occupies there."""
    sides = volume.shape[2:]
    rows = zip(sides, smallest_grid, stride, strict=True)
    target = [-(-max(side, least) // step) * step for side, least, step in rows]
    before = [(wide - side) // 2 for wide, side in zip(target, sides, strict=True)]
    amounts = [(first, wide - side - first) for first, wide, side in zip(before, target, sides, strict=True)]
    padded = functional.pad(volume, [amount for pair in reversed(amounts) for amount in pair])
    return padded, tuple(slice(first, first + side) for first, side in zip(before, sides, strict=True))
