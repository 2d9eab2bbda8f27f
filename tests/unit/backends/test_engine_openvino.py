"""Networks through OpenVINO, and what is said where it is not installed."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from annotate_server.backends.engine import openvino_runner
from annotate_server.backends.engine.engine import Engine, SlidingWindow
from annotate_server.backends.engine.precision import Precision
from annotate_server.domain.errors import BackendUnavailable

WINDOW = (8, 12, 16)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv3d(1, 6, 3, padding=1), nn.InstanceNorm3d(6), nn.ReLU(), nn.Conv3d(6, 3, 1)).eval()


def test_without_openvino_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_runner, "find_spec", lambda _: None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'annotate-server\[openvino\]'"):
        Engine(network(), SlidingWindow(WINDOW, precision=Precision.OPENVINO))


def test_openvino_gives_the_labels_of_pytorch() -> None:
    if find_spec("openvino") is None:
        pytest.skip("OpenVINO, an optional extra, is not installed: pip install 'annotate-server[openvino]'")
    values = np.random.default_rng(0).normal(size=(20, 30, 40)).astype(np.float32)
    expected = Engine(network(), SlidingWindow(WINDOW)).labels(values).labels
    found = Engine(network(), SlidingWindow(WINDOW, batch=2, precision=Precision.OPENVINO)).labels(values).labels
    assert (found == expected).mean() >= 0.999
