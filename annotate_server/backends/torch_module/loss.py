"""Dice and cross-entropy, summed over the supervised resolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def deep_supervision_loss(levels: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Return the mean loss over resolutions, each weighing half of the finer one.

    `levels`: logits (batch, classes, k, j, i), finest first, each half the size of the one before; `labels`: (batch,
    k, j, i) int64. Coarse targets are the fractions of each class in the block of voxels.
    """
    target = functional.one_hot(labels, levels[0].shape[1]).movedim(-1, 1).float()
    total = torch.zeros((), device=labels.device)
    for depth, logits in enumerate(levels):
        if depth:
            target = functional.avg_pool3d(target, 2)
        total = total + 0.5**depth * dice_and_cross_entropy(logits.float(), target)
    return total / sum(0.5**depth for depth in range(len(levels)))


def dice_and_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return cross-entropy plus one minus the soft Dice of the foreground classes; both (batch, classes, k, j, i).

    The Dice of a class is taken over the whole batch (Isensee et al. 2021, "batch Dice"), so that a class absent from
    one example does not decide the loss.
    """
    probabilities = logits.softmax(1)
    axes = (0, 2, 3, 4)
    overlap = (probabilities * target).sum(axes)
    size = probabilities.sum(axes) + target.sum(axes)
    dice = (2 * overlap + 1) / (size + 1)
    return functional.cross_entropy(logits, target) + 1 - dice[1:].mean()
