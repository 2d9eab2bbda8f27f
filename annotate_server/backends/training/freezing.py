"""Which weights a training changes."""

from collections.abc import Collection

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.recipe import Freezing

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def freeze(network: nn.Module, freezing: Freezing, fresh: Collection[str]) -> None:
    """Let only those weights learn that `freezing` leaves; those named `fresh` hold new outputs and always learn.

    Raises InvalidRequest where nothing is left.
    """
    norms = {
        f"{name}.{own}" if name else own
        for name, module in network.named_modules()
        if isinstance(module, _NORMS)
        for own, _ in module.named_parameters(recurse=False)
    }
    for name, parameter in network.named_parameters():
        learns = {
            Freezing.NOTHING: True,
            Freezing.NORMS: name not in norms,
            Freezing.ALL_BUT_NORMS: name in norms,
        }[freezing]
        parameter.requires_grad = learns or name in fresh
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InvalidRequest(
            "this network has no normalisation with weights, so nothing is left to learn",
            remedy='Use freezing = "nothing" in the recipe.',
        )


def train_mode(network: nn.Module) -> None:
    """Put a network in training mode, with the statistics of batch normalisation as they are: batches are small."""
    network.train()
    for module in network.modules():
        if isinstance(module, _NormBase) and module.track_running_stats:
            module.eval()
