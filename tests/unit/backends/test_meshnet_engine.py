"""The engine against plain convolutions with the same weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from meshnet_files import plain_labels, random_chain
from numpy.typing import NDArray

from annotate_server.backends.meshnet import engine as engine_module
from annotate_server.backends.meshnet.chain import Activation
from annotate_server.backends.meshnet.engine import Engine
from annotate_server.backends.meshnet.parameters import Precision
from annotate_server.backends.meshnet.precision import chosen_dtype
from annotate_server.domain.errors import Cancelled
from annotate_server.domain.ports import Control


def noise(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    return np.random.default_rng(7).random(shape).astype(np.float32)


@pytest.mark.parametrize("slab_bytes", [1, 15_000, 30_000_000])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("activation", [Activation.RELU, Activation.ELU, Activation.GELU])
def test_labels_are_those_of_plain_convolutions(
    activation: Activation, normalised: bool, slab_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engine_module._SLAB_BYTES, "cpu", slab_bytes)
    chain = random_chain((1, 2, 4, 8, 2, 1), activation, normalised=normalised)
    values = noise((13, 17, 15))
    labels = Engine(chain, "cpu").labels(values, Control())
    expected = plain_labels(chain, values)
    assert len(np.unique(expected)) > 1
    assert (labels == expected).mean() >= 0.9999


@given(
    dilations=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)),
)
@settings(max_examples=25, deadline=None)
def test_any_order_of_dilations_and_any_shape_is_right(dilations: list[int], shape: tuple[int, int, int]) -> None:
    chain = random_chain(dilations, Activation.ELU, width=3)
    values = noise(shape)
    assert (Engine(chain, "cpu").labels(values, Control()) == plain_labels(chain, values)).mean() >= 0.999


def test_input_is_not_modified_and_a_second_answer_is_equal() -> None:
    engine = Engine(random_chain((1, 2, 1), Activation.GELU, normalised=True), "cpu")
    values = noise((12, 13, 14))
    kept = values.copy()
    first, second = (engine.labels(values, Control()) for _ in range(2))
    assert np.array_equal(values, kept)
    assert np.array_equal(first, second)


def test_bfloat16_agrees_nearly() -> None:
    chain = random_chain((1, 2, 4, 2, 1), Activation.ELU, width=8)
    values = noise((16, 17, 18))
    labels = Engine(chain, "cpu", torch.bfloat16).labels(values, Control())
    assert (labels == plain_labels(chain, values)).mean() > 0.9


def test_progress_rises_from_layer_to_layer() -> None:
    seen: list[float] = []
    control = Control(report=lambda fraction, _: seen.append(fraction))
    Engine(random_chain((1, 2, 1), Activation.RELU), "cpu").labels(noise((8, 9, 10)), control)
    assert seen == sorted(seen)
    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert len(seen) == 4


def test_cancelling_stops_within_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engine_module._SLAB_BYTES, "cpu", 1)
    asked = 0

    def cancel_after_three() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    engine = Engine(random_chain((1, 2, 1), Activation.RELU), "cpu")
    with pytest.raises(Cancelled):
        engine.labels(noise((30, 9, 10)), Control(is_cancelled=cancel_after_three))
    assert asked == 4


def test_float32_needs_no_trial_and_bfloat16_only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_dtype(Precision.FLOAT32, 8, "cpu") is torch.float32
    seconds = {torch.float32: 1.0, torch.bfloat16: 0.5}
    monkeypatch.setattr(
        "annotate_server.backends.meshnet.precision._seconds", lambda width, device, dtype: seconds[dtype]
    )
    assert chosen_dtype(Precision.BFLOAT16, 8, "cpu") is torch.bfloat16
    seconds[torch.bfloat16] = 1.1
    assert chosen_dtype(Precision.BFLOAT16, 8, "cpu") is torch.float32


def test_trial_runs_on_this_processor() -> None:
    assert chosen_dtype(Precision.BFLOAT16, 4, "cpu") in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("activation", [Activation.RELU, Activation.ELU, Activation.GELU])
def test_activation_is_pytorchs_exact_one(activation: Activation) -> None:
    features = torch.linspace(-4, 4, 1000).reshape(1, 4, 5, 5, 10)
    expected = getattr(torch.nn.functional, activation.value)(features)
    engine_module._activate(features, activation)
    assert torch.allclose(features, expected, atol=1e-6)
