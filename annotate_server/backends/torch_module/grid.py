"""Between a volume and the network's grid: voxels, labels and probabilities."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.torch_module.parameters import TorchModuleParameters
from annotate_server.backends.torch_module.prediction import normalise
from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.geometry import Geometry, Shape
from annotate_server.imaging.reorientation import Reorientation, reoriented
from annotate_server.imaging.resampling import Interpolation, resample, smoothed_for

FloatArray = NDArray[np.float32]
_MOST_SHARES = 16
"""Up to so many labels, each is resampled as a share of every voxel; of more the nearest voxel's counts."""


def check_size(shape: Shape, parameters: TorchModuleParameters, model: str) -> None:
    """Refuse a volume that is too large to be predicted whole, for a network that cannot take it in pieces."""
    if parameters.tile is None and math.prod(shape) > parameters.most_voxels:
        raise NotMadeFor(f"{model} takes crops; at its spacing this volume has {shape} voxels")


@dataclass(frozen=True)
class CanonicalGrid:
    """The network's grid over one volume: `turn` takes the volume's array to the network's order of axes.

    Where the spacing is right already, `geometry` is that of the turned volume and nothing is interpolated.
    """

    turn: Reorientation
    geometry: Geometry

    @classmethod
    def over(cls, volume: Geometry, parameters: TorchModuleParameters) -> "CanonicalGrid":
        """Return the grid over a volume."""
        turn = reoriented(volume, parameters.orientation)
        grid = turn.geometry.resized(parameters.spacing_mm)
        is_right = np.allclose(turn.geometry.spacing_mm, grid.spacing_mm, rtol=0.01)
        return cls(turn, turn.geometry if is_right else grid)

    @property
    def is_the_volumes(self) -> bool:
        """Say whether the voxels of the grid are those of the volume."""
        return self.geometry is self.turn.geometry

    def values(self, voxels: NDArray[np.generic], parameters: TorchModuleParameters) -> FloatArray:
        """Return voxels of the volume (its own order) as the network's input, (k, j, i) of the grid."""
        turned = self.turn.apply(voxels)
        if not self.is_the_volumes:
            smooth = smoothed_for(turned, self.turn.geometry.spacing_mm, self.geometry.spacing_mm)
            outside = float(smooth.min())
            turned = resample(smooth, self.turn.geometry, self.geometry, Interpolation.LINEAR, outside=outside)
        found = parameters.intensities
        if found is None:
            return normalise(turned)
        clipped = np.clip(np.nan_to_num(turned.astype(np.float32), nan=found.low), found.low, found.high)
        return np.ascontiguousarray((clipped - found.mean) / found.deviation, dtype=np.float32)

    def labels(self, labels: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return labels of the volume's voxels on the grid: of every voxel the one with the largest share."""
        turned = self.turn.apply(labels)
        if self.is_the_volumes:
            return np.ascontiguousarray(turned)
        source, present = self.turn.geometry, np.unique(turned)
        if len(present) > _MOST_SHARES:
            return resample(turned, source, self.geometry, Interpolation.NEAREST).astype(np.int16)
        result = np.zeros(self.geometry.shape, dtype=np.int16)
        best = np.zeros(self.geometry.shape, dtype=np.float32)
        for label in (0, *(int(n) for n in present if n != 0)):
            # Without smoothing, which would make small round segments smaller still.
            share = resample((turned == label).astype(np.float32), source, self.geometry, Interpolation.LINEAR).astype(
                np.float32, copy=False
            )
            result[share > best] = label
            best = np.maximum(best, share)
        return result

    def shares(self, shares: FloatArray) -> FloatArray:
        """Return probabilities (classes, k, j, i) of the grid on the voxels of the volume; beyond it is background."""
        if self.is_the_volumes:
            return np.stack([self.turn.undo(channel) for channel in shares])
        back = [
            resample(channel, self.geometry, self.turn.geometry, Interpolation.LINEAR, outside=1.0 if n == 0 else 0.0)
            for n, channel in enumerate(shares)
        ]
        return np.stack([self.turn.undo(channel).astype(np.float32, copy=False) for channel in back])
