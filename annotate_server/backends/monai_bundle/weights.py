"""Weights of a bundle: read without running what a file says, fitted exactly, and kept as safetensors."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from annotate_server.backends.monai_bundle.files import BundleFiles
from annotate_server.backends.monai_bundle.network import BundleNetwork
from annotate_server.domain.errors import WeightsInvalid

WEIGHTS = "weights.safetensors"
State = dict[str, Tensor]
_MOST_NAMED = 4
_REMEDY = "Save the plain state_dict: torch.save(network.state_dict(), 'models/model.pt')."


def checkpoint_of(files: BundleFiles, wanted: str | None) -> Path:
    """Return the file of weights that a bundle names (relative to its root), else the only one in `models`."""
    names = [name for name in files.paths if name.startswith("models/") and name.endswith((".pt", ".pth", ".ts"))]
    asked = None if wanted is None else wanted.replace("\\", "/").removeprefix("./").lstrip("/")
    if asked is not None:
        # Found among the bundle's own files, by the end of the path: its root may be written down as any folder.
        found = next((name for name in names if f"/{asked}".endswith(f"/{name}")), None)
    else:
        found = names[0] if len(names) == 1 else None
    if found is None:
        raise WeightsInvalid(
            f"the bundle has no {asked or 'single file of weights in models/'}",
            source=files.label,
            remedy="Download the bundle with its weights: python -m monai.bundle download NAME --bundle_dir DIR",
        )
    return files.paths[found]


def state_in(path: Path, label: str, key: str = "model") -> State:
    """Return the weights of a PyTorch file in float32, by name; nothing that the file says is run.

    They may lie at `key`, `model` or `state_dict`. Raises WeightsInvalid.
    """
    _check_no_program(path, label)
    try:
        with warnings.catch_warnings():
            # It warns of files that it then refuses.
            warnings.simplefilter("ignore")
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError) as error:
        raise WeightsInvalid(
            "the file of weights holds more than numbers, or is damaged; it is not read", source=label, remedy=_REMEDY
        ) from error
    for name in (key, "model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not content or not all(isinstance(n, Tensor) for n in content.values()):
        raise WeightsInvalid("the file of weights holds no state_dict", source=label, remedy=_REMEDY)
    state = {str(name): _float(value) for name, value in content.items()}
    if all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): value for name, value in state.items()}
    return state


def kept_state(path: Path, label: str) -> State:
    """Return the weights that an app holds; raises WeightsInvalid."""
    try:
        return {name: _float(value) for name, value in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise WeightsInvalid(f"the weights cannot be read: {error}", source=label) from error


def fill(network: BundleNetwork, state: Mapping[str, Tensor], label: str) -> BundleNetwork:
    """Return the network with weights that fit exactly; WeightsInvalid names what is missing, too much or another."""
    own = network.network.state_dict()
    defects = []
    if missing := sorted(own.keys() - state.keys()):
        defects.append(f"they lack {_named(missing)}")
    if unknown := sorted(state.keys() - own.keys()):
        defects.append(f"they have {_named(unknown)}, which the network has not")
    others = [name for name in sorted(own.keys() & state.keys()) if own[name].shape != state[name].shape]
    if others:
        name = others[0]
        shapes = f"{tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        defects.append(f"{_named(others)} have another shape ({name}: {shapes})")
    if defects:
        raise WeightsInvalid(f"the weights are another network's: {'; '.join(defects)}", source=label)
    if not all(bool(torch.isfinite(value).all()) for value in state.values() if value.is_floating_point()):
        raise WeightsInvalid("the weights hold numbers that are not finite", source=label)
    network.network.load_state_dict(dict(state), strict=True)
    return network


def _check_no_program(path: Path, label: str) -> None:
    """Refuse TorchScript, which is a program: its archives hold code beside the numbers."""
    names: list[str] = []
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            raise WeightsInvalid("the file of weights is damaged", source=label) from error
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        raise WeightsInvalid(
            "the file of weights is TorchScript, a program, and no program of a bundle is run",
            source=label,
            remedy=_REMEDY,
        )


def _float(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    return shown if len(names) <= _MOST_NAMED else f"{shown} and {len(names) - _MOST_NAMED} more"
