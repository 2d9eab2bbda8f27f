"""A network ready to map a batch of windows to class values; which way is fastest is decided by a timed trial."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from annotate_server.backends.engine.layers import channels_last, with_faster_layers
from annotate_server.backends.engine.precision import Precision, autocast_dtype
from annotate_server.domain.geometry import Shape

Runner = Callable[[Tensor], Tensor]
"""Maps (n, channels, k, j, i) to (n, classes, k, j, i), both float32 on the device."""

_LEAST_GAIN = 1.05
_LARGEST_DIFFERENCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Of the largest class value: another order differs by a small part of that, a wrong layer by far more."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """What a network is tried with when it is loaded: the shape of a batch, and whether its layers may be replaced."""

    batch: int
    channels: int
    window: Shape
    faster_layers: bool

    def windows(self) -> Tensor:
        """Return a batch of noise, the same every time."""
        shape = (self.batch, self.channels, *self.window)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def runner_for(network: nn.Module, device: torch.device, precision: Precision, trial: Trial) -> Runner:
    """Return the network warmed up on a device; faster layers only where they give the same numbers sooner."""
    if precision.is_openvino:
        from annotate_server.backends.engine.openvino_runner import OpenVinoRunner  # noqa: PLC0415  an extra

        return OpenVinoRunner(network, precision, trial.windows())
    windows = trial.windows().to(device)
    dtype = autocast_dtype(precision, device)
    network = network.to(device).eval()
    with torch.inference_mode():
        if device.type != "cpu":
            runner = _torch_runner(network, dtype, device.type)
            runner(windows)
            return runner
        faster = trial.faster_layers and _has_onednn()
        best = _best(network, windows, torch.float32, faster=faster)
        if dtype is None or not (_has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())):
            return best
        # Where the processor has no bfloat16 it is emulated, and slower than float32.
        reduced = _best(network, windows, dtype, faster=faster)
        gain = _seconds(best, windows) / _seconds(reduced, windows)
        _log.info("reduced precision is %.2f times as fast here", gain, extra={"action": "precision-trial"})
        return reduced if gain >= _LEAST_GAIN else best


def averaged(runners: Sequence[Runner], mirror_axes: Sequence[int]) -> Runner:
    """Return the mean of what several networks say of a batch and of all its mirror images; axis 0 is k."""
    flips = [[axis + 2 for axis in axes] for n in range(len(mirror_axes) + 1) for axes in combinations(mirror_axes, n)]
    if len(runners) == 1 and len(flips) == 1:
        return runners[0]

    def run(batch: Tensor) -> Tensor:
        total: Tensor | None = None
        for runner in runners:
            for axes in flips:
                values = runner(batch.flip(axes)).flip(axes) if axes else runner(batch)
                total = values.clone() if total is None else total.add_(values)
        if total is None:
            raise ValueError("no network to ask")
        return total.div_(len(runners) * len(flips))

    return run


def _best(network: nn.Module, windows: Tensor, dtype: torch.dtype, *, faster: bool) -> Runner:
    """Return the quickest of the runners of a precision on a CPU."""
    plain = _torch_runner(network, None if dtype is torch.float32 else dtype, "cpu")
    expected = plain(windows)
    return _faster_or(plain, network, windows, expected, dtype) if faster else plain


def _has_onednn() -> bool:
    available: Callable[[], bool] = torch.backends.mkldnn.is_available
    return available()


def _faster_or(plain: Runner, network: nn.Module, windows: Tensor, expected: Tensor, dtype: torch.dtype) -> Runner:
    """Return the runner with replaced layers, if the trial speaks for it."""
    layers = _torch_runner(with_faster_layers(network, dtype), None if dtype is torch.float32 else dtype, "cpu")

    def faster(batch: Tensor) -> Tensor:
        return layers(channels_last(batch))

    difference = float((faster(windows) - expected).abs().max() / expected.abs().max().clamp_min(1e-9))
    if not difference <= _LARGEST_DIFFERENCE[dtype]:
        _log.warning("replaced layers differ by %.1e and are not used", difference, extra={"action": "layer-trial"})
        return plain
    gain = _seconds(plain, windows) / _seconds(faster, windows)
    _log.info("replaced layers are %.2f times as fast here", gain, extra={"action": "layer-trial"})
    return faster if gain >= _LEAST_GAIN else plain


def _torch_runner(network: nn.Module, dtype: torch.dtype | None, device: str) -> Runner:
    def run(batch: Tensor) -> Tensor:
        with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None):
            values: Tensor = network(batch)
        return values.float()

    return run


def _seconds(runner: Runner, windows: Tensor) -> float:
    """Return the seconds of the faster of two runs."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        runner(windows)
        times.append(time.perf_counter() - start)
    return max(min(times), 1e-9)
