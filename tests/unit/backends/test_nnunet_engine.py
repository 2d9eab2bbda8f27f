"""What the engine does for nnU-Net: its tiles, mirrored windows, several networks."""

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from annotate_server.backends.engine.engine import Engine, SlidingWindow
from annotate_server.backends.engine.tiles import Layout, TileGrid, window_weights

WINDOW = (6, 8, 10)


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(2).normal(size=shape).astype(np.float32)


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Conv3d(1, 3, 3, padding=1).eval()


def class_values(engine: Engine, values: NDArray[np.float32]) -> Tensor:
    return torch.cat([planes.values for planes in engine.class_planes(values)], dim=1)


def test_tiles_are_spread_evenly_and_no_further_apart_than_the_overlap_allows() -> None:
    grid = TileGrid.over((110, 64, 30), (64, 64, 64), 0.5, Layout.NNUNET)
    assert sorted({tile.start[0] for tile in grid.tiles}) == [0, 23, 46]
    assert {tile.start[1:] for tile in grid.tiles} == {(0, 0)}


def test_windows_of_one_slice_take_every_slice_once() -> None:
    grid = TileGrid.over((5, 8, 8), (1, 8, 8), 0.5, Layout.NNUNET)
    assert [tile.start[0] for tile in grid.tiles] == [0, 1, 2, 3, 4]


def test_weights_are_largest_behind_the_middle_and_nowhere_nothing() -> None:
    weights = window_weights((64, 48, 40), Layout.NNUNET)
    assert np.unravel_index(int(weights.argmax()), weights.shape) == (32, 24, 20)
    assert weights.max() == 10
    assert 0 < weights.min() < 1e-7


def test_class_values_are_the_mean_over_every_choice_of_mirrored_axes() -> None:
    values, tried = noise(*WINDOW), network(1)
    options = SlidingWindow(WINDOW, layout=Layout.NNUNET, mirror_axes=(0, 2))
    window = torch.from_numpy(values)[None, None]
    with torch.inference_mode():
        flips = [axes for count in range(3) for axes in combinations((2, 4), count)]
        expected = torch.stack([tried(window.flip(axes)).flip(axes)[0] for axes in flips]).mean(0)
        assert not torch.allclose(expected, tried(window)[0], atol=1e-3)
    assert torch.allclose(class_values(Engine(tried, options), values), expected, atol=1e-5)


def test_class_values_of_several_networks_are_averaged() -> None:
    values, options = noise(9, 15, 13), SlidingWindow(WINDOW, layout=Layout.NNUNET)
    one, two = (class_values(Engine(network(seed), options), values) for seed in (1, 2))
    both = class_values(Engine([network(1), network(2)], options), values)
    assert torch.allclose(both, (one + two) / 2, atol=1e-5)


def test_the_largest_class_value_of_every_voxel_is_its_label() -> None:
    values = noise(9, 15, 13)
    engine = Engine(network(3), SlidingWindow(WINDOW, layout=Layout.NNUNET, mirror_axes=(1,)))
    assert np.array_equal(class_values(engine, values).argmax(0).numpy(), engine.labels(values).labels)
