"""Checkpoints of nnU-Net: read without running anything that is in them, and kept as safetensors."""

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from annotate_server.backends.nnunet.network import build
from annotate_server.backends.nnunet.plans import Plan
from annotate_server.domain.errors import WeightsInvalid

_NUMPY = (multiarray.scalar, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType)
_SAFE: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    *_NUMPY,
    (multiarray.scalar, "numpy.core.multiarray.scalar"),
]
"""Beyond tensors, plain values and containers: the numbers that the log of a training holds (old numpy's name too)."""
_TWICE = re.compile(r"^decoder\.encoder\.|\.all_modules\.")
"""Names under which nnU-Net's networks have weights a second time."""
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Trained:
    """What a checkpoint says: its weights by our names, and how it was trained."""

    weights: Mapping[str, Tensor]
    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...]


def read_checkpoint(path: Path, source: str) -> Trained:
    """Return what a `checkpoint_….pth` holds; raises WeightsInvalid for what is damaged or more than numbers."""
    content = _loaded(path, source)
    try:
        weights = cast("Mapping[str, Tensor]", content["network_weights"])
        axes = cast("tuple[int, ...] | None", content.get("inference_allowed_mirroring_axes"))
        return Trained(
            weights={_own_name(name): value for name, value in weights.items() if not _TWICE.search(name)},
            trainer=str(content["trainer_name"]),
            configuration=str(cast("Mapping[str, object]", content["init_args"])["configuration"]),
            mirror_axes=tuple(sorted({int(axis) for axis in axes or ()})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsInvalid(f"it is no checkpoint of nnU-Net v2: {error!r}", source=source) from error


def _loaded(path: Path, source: str) -> Mapping[str, object]:
    try:
        with torch.serialization.safe_globals(_SAFE):
            # Mapped: the state of the optimiser, twice the weights, is never read.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        wanted = f" ({named.group(1)})" if named else ""
        raise WeightsInvalid(
            f"it asks for more than numbers{wanted}, which could run any program",
            source=source,
            remedy="Let its maker save the weights with a usual trainer of nnU-Net v2.",
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise WeightsInvalid(f"it cannot be read: {str(error).splitlines()[0]}", source=source) from error
    if not isinstance(content, dict):
        raise WeightsInvalid("it is no checkpoint of nnU-Net v2", source=source)
    return content


def _own_name(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def converted(trained: Trained, plan: Plan, target: Path, source: str) -> None:
    """Write the weights as safetensors; raises WeightsInvalid where they are not those of the plan's network."""
    if not all(isinstance(value, Tensor) for value in trained.weights.values()):
        raise WeightsInvalid("its weights are no tensors", source=source)
    numbers = {
        name: (value.float() if value.is_floating_point() else value).clone(memory_format=torch.contiguous_format)
        for name, value in trained.weights.items()
    }
    _filled(plan, numbers, f"{source} ({trained.trainer})")
    save_file(numbers, target)


def network_of(path: Path, plan: Plan, source: str) -> nn.Module:
    """Return the plan's network with the weights of a file of `converted`; raises WeightsInvalid."""
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsInvalid(f"the weights cannot be read: {error}", source=source) from error
    return _filled(plan, weights, source)


def _filled(plan: Plan, weights: Mapping[str, Tensor], source: str) -> nn.Module:
    """Return the network; it takes no memory of its own, so that a plan cannot ask for more than the file holds."""
    with torch.device("meta"):
        network = build(plan.network, 1, plan.outputs.count)
    try:
        network.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsInvalid(
            f"its weights are not those of the network in plans.json: {_first_reason(error)}", source=source
        ) from error
    return network.eval()


def _first_reason(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
    return lines[0][:200]
