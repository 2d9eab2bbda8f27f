"""The sliding window engine against MONAI's, and what it promises besides."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import SegResNet, UNet
from numpy.typing import NDArray
from torch import Tensor, nn

from annotate_server.backends.engine.engine import Engine, SlidingWindow
from annotate_server.backends.engine.layers import with_faster_layers
from annotate_server.backends.engine.precision import Precision
from annotate_server.domain.errors import Cancelled, PredictionFailed
from annotate_server.domain.geometry import Box, Shape
from annotate_server.domain.ports import Control

WINDOW = (16, 24, 32)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads on cores that others use spend more time waiting for each other than these networks take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def unet(classes: int = 4, channels: int = 1) -> nn.Module:
    torch.manual_seed(3)
    return UNet(3, channels, classes, channels=(6, 12, 20), strides=(2, 2), num_res_units=1).eval()


def segresnet(classes: int = 4) -> nn.Module:
    torch.manual_seed(4)
    return SegResNet(3, init_filters=8, in_channels=1, out_channels=classes, blocks_down=(1, 1), blocks_up=(1,)).eval()


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def monai_values(network: nn.Module, values: NDArray[np.float32], overlap: float = 0.5) -> Tensor:
    volume = torch.from_numpy(values if values.ndim == 4 else values[None])[None]
    with torch.inference_mode():
        result = sliding_window_inference(volume, WINDOW, 1, network, overlap=overlap, mode="gaussian")
    assert isinstance(result, Tensor)
    return result[0]


def plain(**changes: object) -> SlidingWindow:
    return SlidingWindow(WINDOW, faster_layers=False, only_body=False, keep_pages=False, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(33, 41, 70), (16, 24, 32), (10, 30, 20), (40, 24, 33)])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
@pytest.mark.parametrize("make", [unet, segresnet])
def test_the_plain_engine_gives_monais_labels_and_probabilities(make, shape: Shape, overlap: float) -> None:
    network, values = make(), noise(shape)
    expected = monai_values(network, values, overlap)
    answer = Engine(network, plain(overlap=overlap, batch=2)).labels(values, confidence=True)
    assert np.array_equal(answer.labels, expected.argmax(0).numpy())
    assert answer.confidence == pytest.approx(expected.softmax(0).amax(0).numpy(), abs=1e-4)


@pytest.mark.parametrize("make", [unet, segresnet])
def test_faster_layers_compute_the_same_numbers(make) -> None:
    network = make()
    volume = torch.from_numpy(noise((2, 1, *WINDOW)))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.inference_mode():
        expected = network(volume)
        assert torch.allclose(with_faster_layers(network)(volume), expected, atol=1e-4)
        assert torch.equal(network(volume), expected)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_reduced_precision_is_close_to_float32() -> None:
    network, values = unet(), noise((20, 30, 40))
    exact = Engine(network, SlidingWindow(WINDOW)).labels(values).labels
    reduced = Engine(network, SlidingWindow(WINDOW, precision=Precision.REDUCED)).labels(values).labels
    assert (reduced == exact).mean() > 0.95


def test_faster_layers_in_bfloat16_stay_within_its_three_digits() -> None:
    network, volume = unet(), torch.from_numpy(noise((1, 1, *WINDOW)))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found, expected = with_faster_layers(network, torch.bfloat16)(volume).float(), network(volume).float()
    assert float((found - expected).abs().max() / expected.abs().max()) < 0.1


def test_a_normalisation_writes_over_no_features_that_are_used_again() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv3d(1, 4, 3, padding=1)
            self.branch = nn.Sequential(nn.InstanceNorm3d(4), nn.LeakyReLU(0.2), nn.Conv3d(4, 4, 1))

        def forward(self, volume: Tensor) -> Tensor:
            features = self.first(volume)
            return features + self.branch(features)

    network, volume = Twice().eval(), torch.from_numpy(noise((1, 1, 8, 9, 10)))
    with torch.inference_mode():
        assert torch.allclose(with_faster_layers(network)(volume), network(volume), atol=1e-5)


def test_the_default_engine_agrees_with_monai_inside_the_body() -> None:
    network, values = unet(), noise((40, 60, 90))
    body = np.zeros(values.shape, dtype=np.bool_)
    body[5:30, 20:50, 8:40] = True
    expected = monai_values(network, values).argmax(0).numpy()
    answer = Engine(network, SlidingWindow(WINDOW)).labels(values, body)
    assert (answer.labels == expected)[body].mean() >= 0.999
    assert answer.tiles < Engine(network, plain()).labels(values).tiles
    assert not answer.labels[30:].any()
    assert not answer.labels[..., 40:].any()


def test_a_box_stands_for_a_body_that_fills_it() -> None:
    network, values, box = unet(), noise((30, 50, 60)), Box((2, 10, 20), (20, 30, 50))
    body = np.zeros(values.shape, dtype=np.bool_)
    body[box.slices] = True
    engine = Engine(network, SlidingWindow(WINDOW))
    assert np.array_equal(engine.labels(values, box).labels, engine.labels(values, body).labels)


def test_an_empty_body_is_background_without_a_tile() -> None:
    values = noise((20, 30, 40))
    answer = Engine(unet(), SlidingWindow(WINDOW)).labels(values, np.zeros(values.shape, np.bool_), confidence=True)
    assert answer.tiles == 0
    assert not answer.labels.any()
    assert answer.confidence is not None
    assert not answer.confidence.any()


def test_several_channels_are_taken() -> None:
    network, values = unet(channels=2), noise((2, 20, 30, 40))
    answer = Engine(network, plain(), channels=2).labels(values)
    assert np.array_equal(answer.labels, monai_values(network, values).argmax(0).numpy())


def test_more_than_256_classes_are_kept_apart() -> None:
    network = nn.Conv3d(1, 300, 1)
    nn.init.zeros_(network.weight)
    with torch.no_grad():
        network.bias.copy_(torch.arange(300.0))
    answer = Engine(network, plain()).labels(noise((18, 25, 33)))
    assert answer.labels.dtype == np.uint16
    assert (answer.labels == 299).all()


def test_a_batch_changes_nothing() -> None:
    network, values = segresnet(), noise((34, 40, 50))
    one = Engine(network, SlidingWindow(WINDOW)).labels(values)
    assert np.array_equal(Engine(network, SlidingWindow(WINDOW, batch=3)).labels(values).labels, one.labels)


def test_cancelling_stops_between_batches_and_progress_rises() -> None:
    reports: list[float] = []
    control = Control(report=lambda fraction, _: reports.append(fraction), is_cancelled=lambda: len(reports) > 3)
    with pytest.raises(Cancelled):
        Engine(unet(), SlidingWindow(WINDOW)).labels(noise((33, 41, 70)), control=control)
    assert reports == sorted(reports)
    assert len(reports) == 4


def test_values_that_are_not_finite_are_an_error() -> None:
    class Broken(nn.Module):
        def forward(self, volume: Tensor) -> Tensor:
            return torch.cat([volume, volume * float("nan")], 1)

    with pytest.raises(PredictionFailed, match="not finite"):
        Engine(Broken(), plain()).labels(noise((20, 30, 40)))


def test_too_little_memory_is_tried_again_with_a_smaller_batch_and_then_named() -> None:
    sizes: list[int] = []

    class Greedy(nn.Module):
        most = 8

        def forward(self, volume: Tensor) -> Tensor:
            sizes.append(len(volume))
            if len(volume) > self.most:
                raise torch.OutOfMemoryError("no")
            return torch.cat([volume, -volume], 1)

    values, network = noise((33, 41, 70)), Greedy()
    engine = Engine(network, plain(batch=8))
    network.most = 2
    answer = engine.labels(values)
    assert np.array_equal(answer.labels, (values < 0).astype(np.uint8))
    assert max(sizes[:2]) == 8
    assert max(sizes[2:]) == 2
    network.most = 0
    with pytest.raises(PredictionFailed, match="memory"):
        engine.labels(values)
