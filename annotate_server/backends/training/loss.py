"""Dice and cross-entropy over the supervised resolutions, for labels that do not say everything.

Where a label does not speak about a segment, that segment may be anywhere in its background: the probability of the
background and of all unknown segments are taken together (the marginal loss of Shi et al., "Marginal loss and exclusion
loss for partially supervised multi-organ segmentation", Medical Image Analysis 70, 2021). Voxels that hold `IGNORED`
count nowhere.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from annotate_server.domain.training import IGNORED

_NEVER = -30_000.0
"""A logit whose probability is exactly 0 and whose gradient is no NaN."""


def deep_supervision_loss(levels: Sequence[Tensor], target: Tensor, known: Tensor) -> Tensor:
    """Return the mean loss over resolutions, each weighing half of the finer one.

    `levels`: logits (batch, classes, k, j, i), finest first, each side a whole part of the finest's; `target`: (batch,
    k, j, i) int64 with `IGNORED`; `known`: (batch, classes) bool on the processor, true for what a label speaks about
    and for background. Coarse targets are the fractions of each class in the block of voxels.
    """
    counted = (target != IGNORED).float()[:, None]
    shares = torch.zeros((len(target), levels[0].shape[1], *target.shape[1:]), device=target.device)
    shares.scatter_(1, target.clamp_min(0)[:, None], counted)
    total = torch.zeros((), device=target.device)
    for depth, logits in enumerate(levels):
        block = [whole // side for whole, side in zip(target.shape[1:], logits.shape[2:], strict=True)]
        coarse = shares if max(block) == 1 else functional.avg_pool3d(shares, block)
        total = total + 0.5**depth * dice_and_cross_entropy(logits.float(), coarse, known)
    return total / sum(0.5**depth for depth in range(len(levels)))


def dice_and_cross_entropy(logits: Tensor, shares: Tensor, known: Tensor) -> Tensor:
    """Return cross-entropy plus one minus the soft Dice of the foreground classes; both (batch, classes, k, j, i).

    `shares` add up to the part of each voxel that counts. The Dice of a class is taken over the examples of the batch
    that know it, together (Isensee et al. 2021, "batch Dice"), so that a class absent from one of them does not decide
    the loss.
    """
    if not bool(known.all()):
        logits = merged_into_background(logits, known.to(logits.device))
    logarithms = logits.log_softmax(1)
    counted = shares.sum(1, keepdim=True)
    entropy = -(shares * logarithms).sum() / counted.sum().clamp_min(1.0)
    probabilities = logarithms.exp() * counted
    axes = (0, 2, 3, 4)
    overlap = (probabilities * shares).sum(axes)
    size = probabilities.sum(axes) + shares.sum(axes)
    dice = (2 * overlap + 1) / (size + 1)
    spoken_of = known.any(0)[1:].to(dice.device)
    return entropy + 1 - (dice[1:] * spoken_of).sum() / spoken_of.sum().clamp_min(1)


def merged_into_background(logits: Tensor, known: Tensor) -> Tensor:
    """Return logits whose background also stands for the classes that an example does not know."""
    unknown = ~known[:, :, None, None, None]
    background = logits.masked_fill(
        ~unknown.index_fill(1, torch.zeros(1, dtype=torch.int64, device=known.device), True), _NEVER
    )
    merged = background.logsumexp(1, keepdim=True)
    return torch.cat([merged, logits[:, 1:].masked_fill(unknown[:, 1:], _NEVER)], dim=1)
