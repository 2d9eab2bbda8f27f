"""MeshNets made up for tests: as chains, as published files, and as plain PyTorch to compare with."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from annotate_server.backends.meshnet.chain import Activation, Chain, Layer


def random_chain(
    dilations: Sequence[int], activation: Activation, *, normalised: bool = False, width: int = 5, classes: int = 4
) -> Chain:
    """Return a chain whose features neither die out nor explode from layer to layer."""
    rng = np.random.default_rng(len(dilations) + 10 * width)
    body, channels = [], 1
    for dilation in dilations:
        kernel = rng.normal(0, 2 / np.sqrt(27 * channels), (width, channels, 3, 3, 3)).astype(np.float32)
        bias = None if normalised else rng.normal(0, 0.3, width).astype(np.float32)
        body.append(Layer(kernel, bias, dilation, activation, normalised))
        channels = width
    head = rng.normal(0, 1, (classes, width, 1, 1, 1)).astype(np.float32)
    return Chain(tuple(body), Layer(head, np.zeros(classes, np.float32), 1, Activation.LINEAR))


def bright_chain(threshold: float) -> Chain:
    """Return a chain whose class 1 is what is brighter than `threshold` (normalised), and nothing around it."""
    kernel = np.zeros((1, 1, 3, 3, 3), np.float32)
    kernel[0, 0, 1, 1, 1] = 1
    body = (Layer(kernel, np.zeros(1, np.float32), 1, Activation.RELU),) * 2
    head = np.array([0.0, 1.0], np.float32).reshape(2, 1, 1, 1, 1)
    return Chain(body, Layer(head, np.array([threshold, 0.0], np.float32), 1, Activation.LINEAR))


def plain_labels(chain: Chain, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the labels of the chain run layer by layer on the whole array, as anybody would write it."""
    activations = {
        Activation.RELU: functional.relu,
        Activation.ELU: functional.elu,
        Activation.GELU: functional.gelu,
        Activation.LINEAR: lambda features: features,
    }
    features = torch.from_numpy(values)[None, None]
    for layer in (*chain.body, chain.head):
        bias = None if layer.bias is None else torch.from_numpy(layer.bias)
        padding = layer.dilation if layer.kernel.shape[2] == 3 else 0
        kernel = torch.from_numpy(layer.kernel)
        features = functional.conv3d(features, kernel, bias, padding=padding, dilation=layer.dilation)
        if layer.normalised:
            features = functional.instance_norm(features)
        features = activations[layer.activation](features)
    return features.argmax(1)[0].numpy().astype(np.uint8)


def topology(chain: Chain, binary: str = "model.bin") -> dict[str, object]:
    """Return the content of a `model.json` for a chain."""
    layers: list[dict[str, object]] = [{"class_name": "InputLayer", "name": "input", "config": {}, "inbound_nodes": []}]
    weights, before = [], "input"
    for number, layer in enumerate((*chain.body, chain.head)):
        name = "output" if layer is chain.head else f"conv{number}" + ("_gn" if layer.normalised else "")
        layers.append(_convolution(name, layer, before))
        weights.append({"name": f"{name}/kernel", "shape": list(_stored(layer).shape), "dtype": "float32"})
        if layer.bias is not None:
            weights.append({"name": f"{name}/bias", "shape": list(layer.bias.shape), "dtype": "float32"})
        before = name
        if layer is not chain.head:
            before = f"activation{number}"
            config = {"name": before, "activation": layer.activation.value}
            nodes = [[[name, 0, 0, {}]]]
            layers.append({"class_name": "Activation", "name": before, "config": config, "inbound_nodes": nodes})
    network = {"layers": layers, "input_layers": [["input", 0, 0]], "output_layers": [["output", 0, 0]]}
    return {
        "format": "layers-model",
        "modelTopology": {"model_config": {"class_name": "Functional", "config": network}},
        "weightsManifest": [{"paths": [binary], "weights": weights}],
    }


def write_chain(chain: Chain, folder: Path) -> dict[str, Path]:
    """Write `model.json` and `model.bin` and return them by name."""
    files = {"model.json": folder / "model.json", "model.bin": folder / "model.bin"}
    files["model.json"].write_text(json.dumps(topology(chain)))
    numbers: list[NDArray[np.float32]] = []
    for layer in (*chain.body, chain.head):
        numbers.append(_stored(layer).ravel())
        if layer.bias is not None:
            numbers.append(layer.bias)
    files["model.bin"].write_bytes(np.concatenate(numbers).astype("<f4").tobytes())
    return files


def _stored(layer: Layer) -> NDArray[np.float32]:
    return layer.kernel.transpose(2, 3, 4, 1, 0)


def _convolution(name: str, layer: Layer, before: str) -> dict[str, object]:
    side = layer.kernel.shape[2]
    config = {
        "name": name,
        "filters": layer.kernel.shape[0],
        "kernel_size": [side] * 3,
        "strides": [1, 1, 1],
        "dilation_rate": [layer.dilation] * 3,
        "padding": "same",
        "data_format": "channels_last",
        "activation": "linear",
        "use_bias": layer.bias is not None,
    }
    return {"class_name": "Conv3D", "name": name, "config": config, "inbound_nodes": [[[before, 0, 0, {}]]]}
