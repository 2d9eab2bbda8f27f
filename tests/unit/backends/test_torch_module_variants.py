"""What a network says twice, of a volume and of its mirror image, and how unsure that makes its draft."""

import numpy as np
import torch
from torch import Tensor, nn

from annotate_server.backends.torch_module.prediction import predict_probabilities


class Sided(nn.Module):
    """Is sure of the second class in the first half of the last axis, whatever it is shown there."""

    stride = (1, 1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.none = nn.Parameter(torch.zeros(1))

    def forward(self, volume: Tensor) -> Tensor:
        logits = torch.zeros(1, 2, *volume.shape[2:])
        logits[:, 1, ..., :3] = 20.0
        logits[:, 0, ..., 3:] = 20.0
        return logits


def test_a_draft_is_unsure_where_it_and_that_of_the_mirror_image_disagree() -> None:
    values = np.zeros((4, 5, 7), np.float32)
    plain, mean = (predict_probabilities(Sided(), values, mirror_axes=axes).max(0) for axes in ((), (2,)))
    assert plain.min() > 0.99
    assert np.allclose(mean[..., [0, 1, 2, 4, 5, 6]], 0.5, atol=1e-3)
    assert (mean[..., 3] > 0.99).all()
