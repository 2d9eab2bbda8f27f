"""From class values on the network's grid to labels on the volume's: nnU-Net resamples first and decides then.

It does so with all classes of the whole volume at once, which for thirty classes of a whole body are tens of gigabytes.
Here one plane of the volume exists at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from annotate_server.backends.engine.blending import ClassPlanes
from annotate_server.backends.nnunet.labels import LabelPlane, Outputs
from annotate_server.backends.nnunet.resampling import Taps


@dataclass(frozen=True)
class _Plane:
    """What is done within a plane (classes, j, i): linear to `sides`, then the `chosen` places along a thick axis."""

    sides: tuple[int, int]
    chosen: tuple[tuple[int, Tensor], ...]

    @classmethod
    def of(cls, taps: Sequence[Taps], values: Tensor) -> "_Plane":
        """Return that of the taps along j and i, for planes like those of `values` (classes, planes, j, i)."""
        j, i = (old if axis.is_nearest else len(axis.low) for axis, old in zip(taps, values.shape[2:], strict=True))
        chosen = tuple(
            (dim, torch.from_numpy(axis.low.astype(np.int64)).to(values.device))
            for dim, axis in enumerate(taps, 1)
            if axis.is_nearest
        )
        return cls((j, i), chosen)

    def resampled(self, values: Tensor) -> Tensor:
        """Return class values (classes, j, i) on the volume's voxels."""
        if tuple(values.shape[1:]) != self.sides:
            # The edges and centres of its voxels are scikit-image's; one call is ten times as fast as taps by index.
            values = functional.interpolate(values[None], self.sides, mode="bilinear", align_corners=False)[0]
        for dim, index in self.chosen:
            values = values.index_select(dim, index)
        return values


def restored(planes: Iterator[ClassPlanes], taps: tuple[Taps, Taps, Taps], outputs: Outputs) -> Iterator[LabelPlane]:
    """Yield the labels (j, i) of one plane of the volume's box after the other; `planes` come in the order of k."""
    upward = taps[0]
    within: _Plane | None = None
    kept: dict[int, Tensor] = {}
    done = 0
    for piece in planes:
        kept |= {n: piece.values[:, n - piece.first] for n in range(piece.first, piece.last)}
        within = within or _Plane.of(taps[1:], piece.values)
        while done < len(upward.low) and upward.high[done] < piece.last:
            yield outputs.labels(within.resampled(_between(kept, upward, done)))
            done += 1
        first = upward.low[done] if done < len(upward.low) else piece.last
        kept = {n: values for n, values in kept.items() if n >= first}


def _between(kept: dict[int, Tensor], taps: Taps, plane: int) -> Tensor:
    """Return the class values of a plane of the volume, between two planes of the network."""
    low, high, share = int(taps.low[plane]), int(taps.high[plane]), float(taps.share[plane])
    return kept[low] if share == 0 else torch.lerp(kept[low], kept[high], share)
