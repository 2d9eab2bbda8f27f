"""The networks of MONAI that run here, built from plain arguments, and how our engine and our training call them."""

import inspect
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from annotate_server.backends.monai_bundle.arguments import component_of
from annotate_server.backends.monai_bundle.expressions import Value
from annotate_server.domain.errors import BackendUnavailable, InvalidApp

_NETWORKS = {
    "unet": "UNet",
    "basicunet": "BasicUNet",
    "attentionunet": "AttentionUnet",
    "segresnet": "SegResNet",
    "segresnetds": "SegResNetDS",
    "dynunet": "DynUNet",
    "vnet": "VNet",
    "unetr": "UNETR",
    "swinunetr": "SwinUNETR",
}
_GONE = {"SwinUNETR": frozenset({"img_size"})}
"""Arguments that published bundles still give, and MONAI takes no more: they changed nothing."""
_NOT_FOR_NETWORKS = ("matplotlib", "nibabel", "pydicom")
"""Packages for pictures and files that MONAI imports where it finds them, and does without: 40 MB and a second."""
_LARGEST = 4096
_REASONS = {
    "vista3d132": "VISTA3D answers the classes and points that it is asked for, by code that comes with its bundle",
    "DiNTS": "its architecture is a pickled file",
}


@dataclass(frozen=True)
class NetworkPlan:
    """A network by its name and arguments: texts, numbers, yes or no, and lists and tables of them."""

    name: str
    arguments: Mapping[str, object]

    @property
    def outputs(self) -> int:
        """Return how many channels it answers."""
        return cast("int", self.arguments["out_channels"])

    def with_outputs(self, outputs: int) -> "NetworkPlan":
        """Return the same network with another number of channels."""
        return NetworkPlan(self.name, {**self.arguments, "out_channels": outputs})

    def build(self) -> "BundleNetwork":
        """Return the network with fresh weights; InvalidApp where MONAI does not take the arguments."""
        try:
            with warnings.catch_warnings():
                # MONAI warns of arguments that will change one day.
                warnings.simplefilter("ignore")
                network = _class_of(self.name)(**{name: _plain(value) for name, value in self.arguments.items()})
        except ImportError as error:
            raise BackendUnavailable(
                f"the network {self.name} needs a package that is not installed ({error})",
                remedy="Run: pip install 'annotate-server[monai]'",
            ) from error
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise InvalidApp(f"the network {self.name} cannot be built: {error}") from error
        return BundleNetwork(network)


def plan_from(value: Value, key: str) -> NetworkPlan:
    """Return the network that a bundle's configuration describes; InvalidApp names what is not understood."""
    name = name_from(value, key)
    table = value if isinstance(value, dict) else {}
    arguments = {
        own: each for own, each in table.items() if not own.startswith("_") and own not in _GONE.get(name, frozenset())
    }
    usual = inspect.signature(_class_of(name).__init__).parameters
    for own, each in list(arguments.items()):
        if each is None:
            if own in usual and usual[own].default is not None:
                raise InvalidApp(f"{key}::{own} is null, which an app cannot say")
            del arguments[own]
        else:
            _check_plain(each, f"{key}::{own}")
    for own in ("spatial_dims", "in_channels", "out_channels"):
        if own in usual and own not in arguments and isinstance(usual[own].default, int):
            arguments[own] = usual[own].default
    _check_channels(arguments, key)
    return NetworkPlan(name, arguments)


def name_from(value: Value, key: str) -> str:
    """Return which of the networks that run here a component is; InvalidApp says why another one does not."""
    given = component_of(value, key)
    name = _NETWORKS.get(given.lower())
    if name is None:
        reason = _REASONS.get(given, f"those that run here are {', '.join(_NETWORKS.values())}")
        raise InvalidApp(f"{key!r}: the network {given} does not run here: {reason}")
    return name


def _check_channels(arguments: Mapping[str, Value], key: str) -> None:
    if arguments.get("spatial_dims", 3) != 3:
        raise InvalidApp(f"{key!r} is a network for {arguments['spatial_dims']} dimensions, and volumes have 3")
    outputs, inputs = arguments.get("out_channels"), arguments.get("in_channels")
    if not isinstance(outputs, int) or outputs < 1 or not isinstance(inputs, int):
        raise InvalidApp(f"{key!r} does not say in_channels and out_channels as whole numbers")
    if inputs != 1:
        raise InvalidApp(
            f"{key!r} takes {inputs} channels (several scans, or clicks), and a case here is one volume",
            remedy="Use a bundle for a single series.",
        )


def _check_plain(value: Value, key: str) -> None:
    """Refuse what is no plain argument, or so large that building the network would take the machine's memory."""
    if isinstance(value, list | dict):
        if isinstance(value, dict) and "_target_" in value:
            raise InvalidApp(f"{key!r} is a component within a network, which is not understood")
        inner = value.values() if isinstance(value, dict) else value
        for each in inner:
            _check_plain(each, key)
        if len(value) > 32:
            raise InvalidApp(f"{key!r} has {len(value)} values, more than any network here needs")
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise InvalidApp(f"{key!r} is {value}; up to {_LARGEST} are allowed")
    elif value is None or not isinstance(value, str | int | float):
        raise InvalidApp(f"{key!r} holds {value!r}, which is no plain argument")


def _plain(value: object) -> object:
    """Return an argument as MONAI wants it: lists as tuples."""
    if isinstance(value, list | tuple):
        return tuple(_plain(each) for each in value)
    return dict(value) if isinstance(value, Mapping) else value


def _class_of(name: str) -> type[nn.Module]:
    if name not in _NETWORKS.values():
        raise InvalidApp(f"the network {name!r} does not run here")
    with warnings.catch_warnings():
        # MONAI and what it imports warn of their own old parts.
        warnings.simplefilter("ignore")
        with hidden(_NOT_FOR_NETWORKS):
            from monai.networks import nets  # noqa: PLC0415  half a second, for who uses a bundle only
    return cast("type[nn.Module]", getattr(nets, name))


@contextmanager
def hidden(packages: Iterable[str]) -> Iterator[None]:
    """Let packages seem not to be installed within the block, as far as nobody has imported them before."""
    names = [name for name in packages if name not in sys.modules]
    modules = cast("dict[str, object]", sys.modules)
    modules.update(dict.fromkeys(names))  # None says that there is no such module
    try:
        yield
    finally:
        for name in names:
            del modules[name]


class BundleNetwork(nn.Module):
    """A network of MONAI behind one answer, whatever it returns besides; weights are named as in the bundle."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network

    def forward(self, volume: Tensor) -> Tensor:
        """Return class values (n, classes, a, b, c) of (n, 1, a, b, c)."""
        return _levels(self.network(volume))[0]

    def every_resolution(self, volume: Tensor) -> list[Tensor]:
        """Return class values, finest first: those of deep supervision while it learns."""
        return _levels(self.network(volume))

    def state(self) -> dict[str, Tensor]:
        """Return the weights by their names in the bundle; each in memory of its own."""
        return {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}


def _levels(answer: Any) -> list[Tensor]:
    """Return the tensors of an answer: one, several in a row, or (DynUNet) stacked behind the first axis."""
    if isinstance(answer, Tensor):
        return list(answer.unbind(1)) if answer.ndim == 6 else [answer]
    return [each for each in answer if isinstance(each, Tensor)]


def with_steady_randomness(plan: NetworkPlan, seed: int) -> BundleNetwork:
    """Return the network with the fresh weights of a seed; the program's own randomness is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return plan.build()
