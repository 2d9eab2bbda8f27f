"""The OBELISK network against a plain way to compute it, and the reading of its published weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from annotate_server.backends.obelisk.network import _PUBLISHED_NAMES, Obelisk, ObeliskNet, load_network
from annotate_server.domain.errors import WeightsInvalid

SLOPE = 0.025
GRID = (2, 3, 4)


def randomised(network: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """Statistics as after training: fresh ones are all 0 and 1, and hide what is left out."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0.0, 0.3)
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
    return network.eval()


def trilinear(volume: NDArray[np.float64], place: NDArray[np.float64]) -> float:
    """The value at a place in voxels, between eight neighbours; 0 beyond the volume."""
    value = 0.0
    low = np.floor(place).astype(int)
    for corner in np.ndindex(2, 2, 2):
        voxel = low + corner
        weight = float(np.prod(1.0 - np.abs(place - voxel)))
        if all(0 <= v < n for v, n in zip(voxel, volume.shape, strict=True)):
            value += weight * volume[tuple(voxel)]
    return value


def leaky(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values > 0, values, SLOPE * values)


def numbers(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().numpy()


def normalised(features: NDArray[np.float64], norm: torch.nn.Module) -> NDArray[np.float64]:
    mean, spread = numbers(norm.running_mean), np.sqrt(numbers(norm.running_var) + norm.eps)
    return ((features.T - mean) / spread * numbers(norm.weight) + numbers(norm.bias)).T


def by_hand(branch: Obelisk, volume: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the branch computes, point by point: (width_out, points)."""
    offsets = numbers(branch.offsets)[0, :, 0, 0]
    size = np.array(volume.shape)
    readings = []
    for place in np.ndindex(*GRID):
        point = np.array([-1.0 + 2.0 * p / (n - 1) for p, n in zip(place, GRID, strict=True)])
        shifted = point + offsets[:, ::-1]
        readings.append([trilinear(volume, (each + 1.0) / 2.0 * (size - 1)) for each in shifted])
    values = np.array(readings).T
    weights = numbers(branch.first.weight)[:, :, 0, 0, 0]
    groups = np.split(values, branch.first.groups)
    rows = np.split(weights, branch.first.groups)
    features = leaky(np.concatenate([w @ v for w, v in zip(rows, groups, strict=True)]))
    for norm, growth in zip(list(branch.norms)[:3], branch.growth, strict=True):
        grown = leaky(numbers(growth.weight)[:, :, 0, 0, 0] @ normalised(features, norm))
        features = np.concatenate([features, grown])
    return leaky(numbers(branch.last.weight)[:, :, 0, 0, 0] @ normalised(features, branch.norms[3]))


def test_a_branch_reads_where_its_offsets_say_and_mixes_what_it_read() -> None:
    torch.manual_seed(0)
    branch = randomised(Obelisk(GRID, offsets=6, groups=2, width_out=5))
    assert isinstance(branch, Obelisk)
    branch.offsets.data.normal_(0.0, 0.4)
    volume = torch.randn(1, 1, 5, 6, 7)
    with torch.inference_mode():
        found = branch(volume)
    assert found.shape == (1, 5, *GRID)
    expected = by_hand(branch, numbers(volume)[0, 0]).reshape(5, *GRID)
    assert np.abs(numbers(found)[0] - expected).max() < 1e-4


def test_folding_the_normalisations_in_changes_no_answer() -> None:
    network = randomised(ObeliskNet())
    assert isinstance(network, ObeliskNet)
    names = [name for name, child in network.named_children() if isinstance(child, torch.nn.Sequential)]
    inputs = {name: torch.randn(1, getattr(network, name)[0].in_channels, 6, 7, 8) for name in names}
    with torch.inference_mode():
        before = {name: getattr(network, name)(inputs[name]) for name in names}
        network.fuse()
        for name in names:
            assert isinstance(getattr(network, name), torch.nn.Conv3d)
            assert torch.allclose(getattr(network, name)(inputs[name]), before[name], atol=1e-4), name


@pytest.mark.slow
def test_the_whole_network_answers_every_voxel_the_same_fused_or_not() -> None:
    network = randomised(ObeliskNet())
    assert isinstance(network, ObeliskNet)
    volume = torch.randn(1, 1, 144, 144, 144)
    with torch.inference_mode():
        before = network(volume)
        network.fuse()
        after = network(volume)
    assert before.shape == (1, 9, 144, 144, 144)
    assert torch.allclose(before, after, atol=1e-3)


def published(network: ObeliskNet) -> dict[str, torch.Tensor]:
    """The weights under the names of the public repository."""
    names = {own: theirs for theirs, own in _PUBLISHED_NAMES.items()}
    stored = {}
    for key, value in network.state_dict().items():
        own, rest = next((own, key[len(own) :]) for own in names if key == own or key.startswith(own + "."))
        stored[names[own] + rest] = value
    return stored


def test_published_weights_are_read_name_by_name(tmp_path: Path) -> None:
    network = randomised(ObeliskNet())
    assert isinstance(network, ObeliskNet)
    torch.save(published(network), tmp_path / "fold.pth")
    loaded = load_network(tmp_path / "fold.pth")
    assert torch.equal(loaded.far.offsets, network.far.offsets)
    assert torch.equal(loaded.near.growth[1].weight, network.near.growth[1].weight)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not loaded.training
    network.fuse()
    assert torch.allclose(loaded.join_half.weight, network.join_half.weight)


def test_every_published_name_is_a_layer_and_every_layer_has_one() -> None:
    names = set(_PUBLISHED_NAMES.values())
    assert len(names) == len(_PUBLISHED_NAMES)
    assert all(any(key == own or key.startswith(own + ".") for own in names) for key in ObeliskNet().state_dict())


def test_other_weights_are_refused_by_name_of_the_file(tmp_path: Path) -> None:
    stored = published(ObeliskNet())
    wrong_shape = {**stored, "conv77U.weight": torch.zeros(3, 3)}
    unknown = {**stored, "conv99.weight": torch.zeros(1)}
    missing = {key: value for key, value in stored.items() if key != "conv0.weight"}
    for number, weights in enumerate((wrong_shape, unknown, missing, [1, 2], {})):
        path = tmp_path / f"fold{number}.pth"
        torch.save(weights, path)
        with pytest.raises(WeightsInvalid, match=f"{path.name}.*hybrid OBELISK"):
            load_network(path)
    whole = tmp_path / "whole.pth"
    torch.save(stored, whole)
    for number, content in enumerate((b"", b"no weights", whole.read_bytes()[:5000])):
        path = tmp_path / f"damaged{number}.pth"
        path.write_bytes(content)
        with pytest.raises(WeightsInvalid, match=path.name):
            load_network(path)
