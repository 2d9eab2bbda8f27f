"""What runs in nnInteractive's own environment when a release is adopted: its checkpoint, read as plain data."""

import pickle
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from annotate_server.backends.environments.messages import Arrays, Report, Words
from annotate_server.domain.errors import WeightsInvalid

_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_TRAINER = "nnInteractiveTrainer_stub"
"""What nnInteractive's own releases say; another name would make it look for a class of that name."""


class ConvertingDesk:
    """Fulfils `messages.Desk`."""

    def answer(self, verb: str, words: Words, arrays: Arrays, report: Report) -> tuple[Words, Arrays]:
        """Write the checkpoint `source` anew as `target`: the weights and the name of their configuration."""
        report(0.1, "Reading the checkpoint")
        checkpoint = _read(str(words["source"]))
        try:
            weights = cast("Mapping[str, torch.Tensor]", checkpoint["network_weights"])
            configuration = cast("Mapping[str, object]", checkpoint["init_args"])["configuration"]
            plain = {str(name): value for name, value in weights.items() if isinstance(value, torch.Tensor)}
        except (KeyError, TypeError, AttributeError) as error:
            raise WeightsInvalid("it is no checkpoint of nnInteractive") from error
        if len(plain) != len(weights) or not isinstance(configuration, str):
            raise WeightsInvalid("it holds something other than weights where the weights should be")
        report(0.6, "Writing the weights")
        kept = {"network_weights": plain, "init_args": {"configuration": configuration}, "trainer_name": _TRAINER}
        torch.save(kept, str(words["target"]))
        return {"configuration": configuration}, {}


def open(words: Words) -> ConvertingDesk:
    """Return the desk; it is told nothing."""
    return ConvertingDesk()


def _read(path: str) -> Mapping[str, object]:
    """Return a checkpoint as tensors, texts and numbers; whatever else is in it is refused, and nothing is run."""
    kinds = [np.dtype, *(type(np.dtype(code)) for code in "bBhHiIlLqQefd?")]
    scalar = getattr(np, "_core", None) or np.core
    allowed: list[Any] = [*kinds, *((scalar.multiarray.scalar, name) for name in _SCALARS)]
    try:
        with torch.serialization.safe_globals(allowed):
            read = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise WeightsInvalid(
            "the checkpoint cannot be read as plain data: it is damaged, or holds something that could run",
            remedy="Get it again from its authors.",
        ) from error
    if not isinstance(read, Mapping):
        raise WeightsInvalid("it is no checkpoint of nnInteractive")
    return read
