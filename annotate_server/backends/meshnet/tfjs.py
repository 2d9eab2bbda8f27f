"""Reading the published weights: a TensorFlow.js layers model (`model.json`) and one file of float32 numbers.

The topology is read strictly: a straight chain of Conv3D and Activation layers and nothing else. Every size is taken
from the topology and compared with the table of weights and with the length of the binary file before it is read.
Two of the exporter's customs are not in the topology: batch normalisation is already folded into the kernels, and a
layer whose name ends in `_gn` is followed by instance normalisation (brainchop, `inference-logic.js`).
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from annotate_server.backends.meshnet.chain import Activation, Chain, Layer, Weights
from annotate_server.backends.meshnet.json_reading import Node
from annotate_server.domain.errors import WeightsInvalid, WeightsMissing, about

TOPOLOGY = "model.json"
_LARGEST_TOPOLOGY_BYTES = 4_000_000
_LARGEST_WIDTH, _LARGEST_DILATION, _MOST_LAYERS = 256, 64, 200
_PULL = "Install the weights again."


@dataclass(frozen=True)
class _Convolution:
    """A Conv3D layer as the topology describes it, with the activation that follows."""

    name: str
    kernel_shape: tuple[int, int, int, int, int]
    dilation: int
    has_bias: bool
    activation: Activation


def read_chain(files: Mapping[str, Path]) -> Chain:
    """Return the network whose `model.json` and binary file are among `files`, by name.

    Raises WeightsMissing where one of the two is not there, WeightsInvalid where they are damaged, contradict each
    other or describe a network that is no plain MeshNet.
    """
    topology = _present(files, TOPOLOGY)
    with about(str(topology)):
        model = _parsed(topology)
        convolutions = _convolutions(model)
        names, binary = _table(model, convolutions)
    values = _values(_present(files, binary), names)
    layers = [_layer(convolution, values) for convolution in convolutions]
    return Chain(tuple(layers[:-1]), layers[-1])


def _present(files: Mapping[str, Path], name: str) -> Path:
    if name not in files:
        raise WeightsMissing(f"the file {name!r} is not among the weights", remedy=_PULL)
    return files[name]


def _parsed(path: Path) -> Node:
    if path.stat().st_size > _LARGEST_TOPOLOGY_BYTES:
        raise WeightsInvalid(f"a topology of {path.stat().st_size} bytes is no MeshNet's", remedy=_PULL)
    try:
        return Node(json.loads(path.read_bytes()), "model")
    except (ValueError, RecursionError) as error:
        raise WeightsInvalid(f"it is not JSON ({error})", remedy=_PULL) from error


def _convolutions(model: Node) -> tuple[_Convolution, ...]:
    """Return the convolutions of the chain, the last of which is the 1x1x1 one."""
    model.at("format").must_be("layers-model")
    network = model.at("modelTopology").at("model_config")
    network.at("class_name").must_be("Functional", "Model")
    layers = network.at("config").at("layers").each()
    if not 3 <= len(layers) <= _MOST_LAYERS:
        raise WeightsInvalid(f"a chain of {len(layers)} layers is no MeshNet")
    _check_is_straight(layers, network.at("config"))
    convolutions = tuple(_read_pairs(layers[1:]))
    _check_widths(convolutions)
    return convolutions


def _check_is_straight(layers: Sequence[Node], config: Node) -> None:
    """Refuse a network that branches, joins or has other inputs and outputs than its first and last layer."""
    layers[0].at("class_name").must_be("InputLayer")
    names = [layer.at("name").of(str) for layer in layers]
    if len(set(names)) != len(names):
        raise WeightsInvalid("two layers have the same name")
    for before, layer in pairwise(layers):
        sources = [source for node in layer.at("inbound_nodes").each() for source in node.each()]
        if len(sources) != 1 or sources[0].each()[0].of(str) != before.at("name").of(str):
            raise WeightsInvalid(f"the layer {layer.at('name').of(str)!r} does not follow the one before it alone")
    for key, name in (("input_layers", names[0]), ("output_layers", names[-1])):
        ends = config.at(key).each()
        if len(ends) != 1 or ends[0].each()[0].of(str) != name:
            raise WeightsInvalid(f"{key} is not the {name!r} alone")


def _read_pairs(layers: Sequence[Node]) -> Iterator[_Convolution]:
    """Yield each convolution with the activation behind it; the last has none."""
    channels = 1
    for layer, following in zip(layers[::2], [*layers[1::2], None], strict=True):
        layer.at("class_name").must_be("Conv3D")
        activation = Activation.LINEAR
        if following is not None:
            following.at("class_name").must_be("Activation")
            kind = following.at("config").at("activation")
            kind.must_be(Activation.RELU.value, Activation.ELU.value, Activation.GELU.value)
            activation = Activation(kind.of(str))
        convolution = _convolution(layer, channels, activation)
        channels = convolution.kernel_shape[-1]
        yield convolution


def _convolution(layer: Node, channels: int, activation: Activation) -> _Convolution:
    config = layer.at("config")
    side = 1 if activation is Activation.LINEAR else 3
    config.at("kernel_size").must_be([side] * 3)
    config.at("strides").must_be([1, 1, 1])
    config.at("padding").must_be("same")
    config.at("data_format").must_be("channels_last")
    config.at("activation").must_be("linear")
    if config.has("groups"):
        config.at("groups").must_be(1)
    width, dilations = config.at("filters").of(int), config.at("dilation_rate").numbers()
    if not 1 <= width <= _LARGEST_WIDTH:
        raise WeightsInvalid(f"{config.place} has {width} filters; 1 to {_LARGEST_WIDTH} can be run here")
    if len(set(dilations)) != 1 or len(dilations) != 3 or not 1 <= dilations[0] <= _LARGEST_DILATION:
        raise WeightsInvalid(f"{config.place} has the dilation {dilations}")
    shape = (side, side, side, channels, width)
    return _Convolution(layer.at("name").of(str), shape, dilations[0], config.at("use_bias").of(bool), activation)


def _check_widths(convolutions: Sequence[_Convolution]) -> None:
    """Refuse a chain whose layers differ in width: the engine keeps one buffer for all."""
    widths = {convolution.kernel_shape[-1] for convolution in convolutions[:-1]}
    if len(widths) != 1:
        raise WeightsInvalid(f"its layers have the widths {sorted(widths)}; a MeshNet has one")


def _table(model: Node, convolutions: Sequence[_Convolution]) -> tuple[dict[str, tuple[int, ...]], str]:
    """Return shape by name of every array, in the order of the file, and the file's name."""
    groups = model.at("weightsManifest").each()
    if len(groups) != 1 or len(groups[0].at("paths").each()) != 1:
        raise WeightsInvalid("its weights are in several files; one can be read")
    shapes: dict[str, tuple[int, ...]] = {}
    for entry in groups[0].at("weights").each():
        entry.at("dtype").must_be("float32")
        if entry.has("quantization"):
            raise WeightsInvalid("its weights are quantised")
        shapes[entry.at("name").of(str)] = entry.at("shape").numbers()
    expected: dict[str, tuple[int, ...]] = {}
    for convolution in convolutions:
        expected[f"{convolution.name}/kernel"] = convolution.kernel_shape
        if convolution.has_bias:
            expected[f"{convolution.name}/bias"] = convolution.kernel_shape[-1:]
    if shapes != expected or len(shapes) != len(groups[0].at("weights").each()):
        raise WeightsInvalid("the table of weights does not fit the layers", remedy=_PULL)
    return shapes, groups[0].at("paths").each()[0].of(str)


def _values(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Weights]:
    """Return the arrays of the binary file by name; its length is checked before it is read."""
    needed = 4 * sum(math.prod(shape) for shape in shapes.values())
    if path.stat().st_size != needed:
        raise WeightsInvalid(f"it has {path.stat().st_size} bytes, not {needed}", source=str(path), remedy=_PULL)
    numbers = np.fromfile(path, dtype="<f4").astype(np.float32, copy=False)
    if not np.isfinite(numbers).all():
        raise WeightsInvalid("it holds numbers that are not finite", source=str(path), remedy=_PULL)
    arrays, start = {}, 0
    for name, shape in shapes.items():
        arrays[name] = numbers[start : start + math.prod(shape)].reshape(shape)
        start += math.prod(shape)
    return arrays


def _layer(convolution: _Convolution, values: Mapping[str, Weights]) -> Layer:
    """Return a layer with its weights; the file's kernels are (d, h, w, in, out)."""
    kernel = values[f"{convolution.name}/kernel"].transpose(4, 3, 0, 1, 2)
    return Layer(
        kernel=np.ascontiguousarray(kernel),
        bias=values.get(f"{convolution.name}/bias"),
        dilation=convolution.dilation,
        activation=convolution.activation,
        normalised=convolution.name.endswith("_gn"),
    )
