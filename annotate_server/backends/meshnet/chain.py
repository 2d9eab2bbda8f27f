"""What a MeshNet is: a chain of convolutions without down-sampling, skips or branches.

Fedorov et al., "End-to-end learning of brain tissue segmentation from imperfect labeling" (IJCNN 2017).
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]


class Activation(StrEnum):
    """What follows a convolution."""

    LINEAR = "linear"
    RELU = "relu"
    ELU = "elu"
    GELU = "gelu"


@dataclass(frozen=True)
class Layer:
    """One convolution, zero-padded to keep the size, and what follows it.

    `kernel` is (out, in, d, h, w), all three sides 1 or 3. `normalised` asks for instance normalisation (no affine,
    epsilon 1e-5, biased variance over the whole crop) between convolution and activation.
    """

    kernel: Weights
    bias: Weights | None
    dilation: int
    activation: Activation
    normalised: bool = False


@dataclass(frozen=True)
class Chain:
    """The 3x3x3 convolutions in their order, all of one width, and the 1x1x1 convolution to one value a class."""

    body: tuple[Layer, ...]
    head: Layer

    @property
    def width(self) -> int:
        """Return the number of channels between the layers."""
        return int(self.body[0].kernel.shape[0])

    @property
    def classes(self) -> int:
        """Return the number of classes, background included."""
        return int(self.head.kernel.shape[0])

    @property
    def reach(self) -> int:
        """Return the largest dilation in voxels."""
        return max(layer.dilation for layer in self.body)
