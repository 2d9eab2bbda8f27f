"""Reading the published format: right where it is right, refused where it is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from meshnet_files import random_chain, topology, write_chain

from annotate_server.backends.meshnet.chain import Activation
from annotate_server.backends.meshnet.tfjs import read_chain
from annotate_server.domain.errors import WeightsInvalid, WeightsMissing


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("activation", [Activation.RELU, Activation.ELU, Activation.GELU])
def test_what_was_written_is_read(activation: Activation, normalised: bool, tmp_path: Path) -> None:
    chain = random_chain((1, 2, 16), activation, normalised=normalised)
    read = read_chain(write_chain(chain, tmp_path))
    assert (read.width, read.classes, read.reach) == (5, 4, 16)
    for ours, theirs in zip((*read.body, read.head), (*chain.body, chain.head), strict=True):
        assert np.array_equal(ours.kernel, theirs.kernel)
        assert (ours.bias is None) == (theirs.bias is None)
        assert ours.bias is None or np.array_equal(ours.bias, theirs.bias)
        assert (ours.dilation, ours.activation, ours.normalised) == (
            theirs.dilation,
            theirs.activation,
            theirs.normalised,
        )


def layers(model: Any) -> Any:
    return model["modelTopology"]["model_config"]["config"]["layers"]


def change(path: str, value: object) -> Callable[[Any], None]:
    """Return what sets a member of the second layer's description."""

    def apply(model: Any) -> None:
        layers(model)[1]["config"][path] = value

    return apply


def manifest(model: Any) -> Any:
    return model["weightsManifest"][0]


DEFECTS: dict[str, Callable[[Any], object]] = {
    "another format": lambda m: m.update(format="graph-model"),
    "no topology": lambda m: m.pop("modelTopology"),
    "stride": change("strides", [2, 2, 2]),
    "valid padding": change("padding", "valid"),
    "channels first": change("data_format", "channels_first"),
    "groups": change("groups", 2),
    "kernel of five": change("kernel_size", [5, 5, 5]),
    "hidden activation": change("activation", "softmax"),
    "uneven dilation": change("dilation_rate", [1, 2, 2]),
    "dilation of zero": change("dilation_rate", [0, 0, 0]),
    "huge width": change("filters", 100_000),
    "negative width": change("filters", -1),
    "width as text": change("filters", "5"),
    "bias as number": change("use_bias", 1),
    "unknown layer": lambda m: layers(m)[1].update(class_name="Lambda"),
    "unknown activation": lambda m: layers(m)[2]["config"].update(activation="softmax"),
    "skip connection": lambda m: layers(m)[3].update(inbound_nodes=[[["input", 0, 0, {}]]]),
    "two inputs": lambda m: layers(m)[3]["inbound_nodes"][0].append(["input", 0, 0, {}]),
    "other output": lambda m: m["modelTopology"]["model_config"]["config"].update(output_layers=[["conv0", 0, 0]]),
    "same name twice": lambda m: layers(m)[2].update(name=layers(m)[1]["name"]),
    "too few layers": lambda m: layers(m).clear(),
    "layers no list": lambda m: m["modelTopology"]["model_config"]["config"].update(layers={"a": 1}),
    "quantised": lambda m: manifest(m)["weights"][0].update(quantization={"dtype": "uint8"}),
    "halves": lambda m: manifest(m)["weights"][0].update(dtype="float16"),
    "array missing": lambda m: manifest(m)["weights"].pop(),
    "array twice": lambda m: manifest(m)["weights"].append(manifest(m)["weights"][0]),
    "other shape": lambda m: manifest(m)["weights"][0].update(shape=[3, 3, 3, 1, 50_000_000]),
    "several files": lambda m: manifest(m)["paths"].append("more.bin"),
    "two groups": lambda m: m["weightsManifest"].append(manifest(m)),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_network_that_is_no_plain_meshnet_is_refused(name: str, tmp_path: Path) -> None:
    chain = random_chain((1, 2), Activation.RELU)
    files = write_chain(chain, tmp_path)
    model = topology(chain)
    DEFECTS[name](model)
    files["model.json"].write_text(json.dumps(model))
    with pytest.raises(WeightsInvalid, match=r"model\.json"):
        read_chain(files)


def test_widths_that_differ_are_refused(tmp_path: Path) -> None:
    narrow, wide = random_chain((1,), Activation.RELU, width=3), random_chain((1, 2), Activation.RELU)
    files = write_chain(type(wide)((narrow.body[0], *wide.body[1:]), wide.head), tmp_path)
    with pytest.raises(WeightsInvalid):
        read_chain(files)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null"])
def test_a_topology_that_is_no_json_is_refused(content: bytes, tmp_path: Path) -> None:
    files = write_chain(random_chain((1, 2), Activation.RELU), tmp_path)
    files["model.json"].write_bytes(content)
    with pytest.raises(WeightsInvalid):
        read_chain(files)


@pytest.mark.parametrize("change_bytes", [-4, 4, -1])
def test_a_binary_of_the_wrong_length_is_refused(change_bytes: int, tmp_path: Path) -> None:
    files = write_chain(random_chain((1, 2), Activation.RELU), tmp_path)
    content = files["model.bin"].read_bytes()
    files["model.bin"].write_bytes(content[:change_bytes] if change_bytes < 0 else content + bytes(change_bytes))
    with pytest.raises(WeightsInvalid, match=rf"{len(content) + change_bytes} bytes, not {len(content)}"):
        read_chain(files)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    files = write_chain(random_chain((1, 2), Activation.RELU), tmp_path)
    numbers = np.fromfile(files["model.bin"], "<f4")
    numbers[3] = np.nan
    files["model.bin"].write_bytes(numbers.tobytes())
    with pytest.raises(WeightsInvalid, match="not finite"):
        read_chain(files)


@pytest.mark.parametrize("name", ["model.json", "model.bin"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    files = write_chain(random_chain((1, 2), Activation.RELU), tmp_path)
    del files[name]
    with pytest.raises(WeightsMissing, match=name):
        read_chain(files)


def test_a_path_in_the_topology_leads_nowhere(tmp_path: Path) -> None:
    chain = random_chain((1, 2), Activation.RELU)
    files = write_chain(chain, tmp_path)
    files["model.json"].write_text(json.dumps(topology(chain, binary="/etc/passwd")))
    with pytest.raises(WeightsMissing, match="passwd"):
        read_chain(files)
