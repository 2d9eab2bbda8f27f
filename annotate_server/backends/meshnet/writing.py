"""Writing a MeshNet as it is published: a TensorFlow.js layers model and one file of float32 numbers."""

import json
from pathlib import Path

import numpy as np

from annotate_server.backends.meshnet.chain import Chain, Layer
from annotate_server.backends.meshnet.tfjs import TOPOLOGY
from annotate_server.imaging.whole_file import whole_file

BINARY = "model.bin"


def write_chain(chain: Chain, folder: Path) -> dict[str, Path]:
    """Write a chain into a folder, and return its two files by name: what `tfjs.read_chain` reads back."""
    files = {TOPOLOGY: folder / TOPOLOGY, BINARY: folder / BINARY}
    with whole_file(files[BINARY]) as temporary, temporary.open("wb") as stream:
        for layer in (*chain.body, chain.head):
            # The file's kernels are (d, h, w, in, out).
            stream.write(layer.kernel.transpose(2, 3, 4, 1, 0).astype("<f4").tobytes())
            if layer.bias is not None:
                stream.write(layer.bias.astype("<f4").tobytes())
    with whole_file(files[TOPOLOGY]) as temporary:
        temporary.write_text(json.dumps(_model(chain)))
    return files


def _model(chain: Chain) -> dict[str, object]:
    layers: list[object] = [{"class_name": "InputLayer", "name": "input", "config": {}, "inbound_nodes": []}]
    weights: list[object] = []
    before = "input"
    for number, layer in enumerate((*chain.body, chain.head)):
        name = f"conv3d_{number}_gn" if layer.normalised else f"conv3d_{number}"
        layers.append(_convolution(name, layer, before))
        shape = np.array(layer.kernel.shape)[[2, 3, 4, 1, 0]].tolist()
        weights.append({"name": f"{name}/kernel", "shape": shape, "dtype": "float32"})
        if layer.bias is not None:
            weights.append({"name": f"{name}/bias", "shape": [len(layer.bias)], "dtype": "float32"})
        before = name
        if number < len(chain.body):
            before = f"activation_{number}"
            layers.append(_node("Activation", {"name": before, "activation": layer.activation.value}, name))
    network = {"layers": layers, "input_layers": [["input", 0, 0]], "output_layers": [[before, 0, 0]]}
    return {
        "format": "layers-model",
        "modelTopology": {"model_config": {"class_name": "Functional", "config": network}},
        "weightsManifest": [{"paths": [BINARY], "weights": weights}],
    }


def _convolution(name: str, layer: Layer, before: str) -> dict[str, object]:
    config = {
        "name": name,
        "filters": layer.kernel.shape[0],
        "kernel_size": [layer.kernel.shape[2]] * 3,
        "strides": [1, 1, 1],
        "dilation_rate": [layer.dilation] * 3,
        "padding": "same",
        "data_format": "channels_last",
        "activation": "linear",
        "use_bias": layer.bias is not None,
    }
    return _node("Conv3D", config, before)


def _node(kind: str, config: dict[str, object], before: str) -> dict[str, object]:
    return {"class_name": kind, "name": config["name"], "config": config, "inbound_nodes": [[[before, 0, 0, {}]]]}
