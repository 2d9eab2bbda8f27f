"""Class values a few planes at a time, with windows that count the same everywhere or most at their centre."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from annotate_server.backends.engine.engine import Engine, SlidingWindow
from annotate_server.domain.errors import PredictionFailed

SHAPE, WINDOW = (31, 22, 26), (16, 12, 32)


def network() -> nn.Module:
    """Return a network that answers otherwise at the faces of a window."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 3, padding=1)).eval()


def values() -> np.ndarray:
    return np.random.default_rng(4).normal(size=SHAPE).astype(np.float32)


@pytest.mark.parametrize(("uniform", "mode"), [(True, "constant"), (False, "gaussian")])
def test_class_values_are_those_of_monais_sliding_window(uniform: bool, mode: str) -> None:
    own, seen = network(), values()
    engine = Engine(own, SlidingWindow(WINDOW, overlap=0.5, uniform=uniform, outside=0.25))
    planes = list(engine.class_planes(seen))
    with torch.inference_mode():
        expected = sliding_window_inference(
            torch.from_numpy(seen)[None, None], WINDOW, 1, own, overlap=0.5, mode=mode, cval=0.25
        )[0]
    assert torch.allclose(torch.cat([slab.values for slab in planes], dim=1), expected, atol=1e-5)
    assert [slab.first for slab in planes] == [0, *(slab.last for slab in planes[:-1])]
    assert max(slab.last - slab.first for slab in planes) < SHAPE[0]
    assert (engine.labels(seen).labels == expected.argmax(0).numpy()).mean() > 0.999


def test_windows_that_count_the_same_are_all_computed() -> None:
    body = np.zeros(SHAPE, np.bool_)
    body[2:4, 2:4, 2:4] = True
    everywhere = Engine(network(), SlidingWindow(WINDOW, uniform=True)).labels(values(), body)
    there = Engine(network(), SlidingWindow(WINDOW)).labels(values(), body)
    assert everywhere.tiles > there.tiles


def failing(after: int, times: int, runner: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a runner that has no memory `times` times, after some windows."""
    calls = iter(range(10_000))

    def run(batch: Tensor) -> Tensor:
        if after <= next(calls) < after + times:
            raise torch.OutOfMemoryError
        return runner(batch)

    return run


def test_a_device_that_is_short_of_memory_at_first_gets_a_second_chance() -> None:
    engine = Engine(network(), SlidingWindow(WINDOW, batch=4))
    expected = torch.cat([slab.values for slab in engine.class_planes(values())], dim=1)
    engine._runner = failing(0, 1, engine._runner)
    again = torch.cat([slab.values for slab in engine.class_planes(values())], dim=1)
    assert torch.allclose(again, expected, atol=1e-5), "one window at a time rounds as it likes"


@pytest.mark.parametrize(("after", "times"), [(0, 2), (5, 1)])
def test_a_device_that_stays_short_of_memory_says_so(after: int, times: int) -> None:
    engine = Engine(network(), SlidingWindow(WINDOW, batch=1))
    engine._runner = failing(after, times, engine._runner)
    with pytest.raises(PredictionFailed, match="too little memory"):
        list(engine.class_planes(values()))
