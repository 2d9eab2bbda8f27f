"""The training loop: augmented examples in, a network with averaged weights out; stops and resumes at any step."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from annotate_server.backends.torch_module.augment import Augmentation, augmented_example
from annotate_server.backends.torch_module.loss import deep_supervision_loss
from annotate_server.backends.torch_module.network import Network
from annotate_server.backends.torch_module.prediction import normalise

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledArray:
    """One case for the network: intensities and labels 0..n on the same canonical grid (k, j, i)."""

    name: str
    intensities: NDArray[np.generic]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class FitSettings:
    """What one training run needs to be repeated; lengths in voxels."""

    steps: int
    grid: tuple[int, int, int]
    classes: int
    batch: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 3e-2
    warmup_steps: int = 100
    gradient_norm: float = 5.0
    average_decay: float = 0.998
    seed: int = 0
    time_limit_s: float = math.inf
    report_every: int = 250
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: torch.dtype = torch.float32


@dataclass(frozen=True)
class FitProgress:
    """What is known after `step` steps; `network` holds the averaged weights and must not be changed."""

    step: int
    elapsed_s: float
    learning_rate: float
    loss: float
    network: Network


@dataclass
class _Run:
    """Everything that changes from step to step."""

    network: Network
    average: Network
    optimiser: torch.optim.Optimizer
    random: torch.Generator
    step: int = 0
    elapsed_s: float = 0.0


def fit(
    network: Network,
    cases: Sequence[LabelledArray],
    settings: FitSettings,
    on_progress: Callable[[FitProgress], bool],
    checkpoint: Path | None = None,
) -> Network:
    """Train `network` in place and return a second network with the exponential average of its weights.

    The learning rate rises for `warmup_steps` and falls as a cosine to zero at `steps`, or at `time_limit_s` where that
    comes first. `on_progress` is called every `report_every` steps and at the end, after the checkpoint was written;
    False from it stops the run. An existing `checkpoint` file is resumed.
    """
    examples = [as_channels(case, settings.classes) for case in cases]
    run = _start(network, settings)
    if checkpoint is not None and checkpoint.exists():
        _restore(run, checkpoint)
    losses: list[float] = []
    going = run.step < settings.steps
    started = time.monotonic() - run.elapsed_s
    while going:
        losses.append(_step(run, examples, settings))
        run.elapsed_s = time.monotonic() - started
        finished = _progress(run, settings) >= 1
        if finished or run.step % settings.report_every == 0:
            if checkpoint is not None:
                _save(run, checkpoint)
            rate = float(run.optimiser.param_groups[0]["lr"])
            going = on_progress(FitProgress(run.step, run.elapsed_s, rate, float(np.mean(losses)), run.average))
            losses.clear()
        going = going and not finished
    return run.average


def as_channels(case: LabelledArray, classes: int) -> Tensor:
    """Stack normalised intensities and one 0/1 channel per foreground class, (classes, k, j, i), float32."""
    foreground = [case.labels == label for label in range(1, classes)]
    return torch.from_numpy(np.stack([normalise(case.intensities), *foreground]).astype(np.float32))


def _start(network: Network, settings: FitSettings) -> _Run:
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, eps=1e-6
    )
    average = deepcopy(network).requires_grad_(requires_grad=False)
    random = torch.Generator().manual_seed(settings.seed)
    return _Run(network, average, optimiser, random)


def _step(run: _Run, examples: Sequence[Tensor], settings: FitSettings) -> float:
    """Update the weights and their average once; return the loss."""
    network = run.network
    network.train()
    for group in run.optimiser.param_groups:
        group["lr"] = _learning_rate(run, settings)
    volumes, labels = _batch(run, examples, settings)
    device = next(network.parameters()).device
    with torch.autocast(device.type, settings.precision, enabled=settings.precision != torch.float32):
        levels = run.network.every_resolution(volumes.to(device))
    loss = deep_supervision_loss(levels, labels.to(device))
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_norm)
    run.optimiser.step()
    run.step += 1
    _update_average(run.average, network, min(settings.average_decay, run.step / (run.step + 10)))
    return float(loss.detach())


def _batch(run: _Run, examples: Sequence[Tensor], settings: FitSettings) -> tuple[Tensor, Tensor]:
    chosen = torch.randint(len(examples), (settings.batch,), generator=run.random)
    made = [
        augmented_example(examples[index], settings.grid, settings.augmentation, run.random)
        for index in chosen.tolist()
    ]
    return torch.stack([volume for volume, _ in made]), torch.stack([labels for _, labels in made])


def _progress(run: _Run, settings: FitSettings) -> float:
    """Return the part of the run that is behind, 0 to 1: by steps or by time, whichever is further."""
    return max(run.step / settings.steps, run.elapsed_s / settings.time_limit_s)


def _learning_rate(run: _Run, settings: FitSettings) -> float:
    warmup = min(1.0, (run.step + 1) / settings.warmup_steps)
    return settings.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, _progress(run, settings))))


def _update_average(average: Network, network: Network, decay: float) -> None:
    with torch.no_grad():
        for mean, current in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(current, 1 - decay)


def _save(run: _Run, path: Path) -> None:
    """Write beside and rename, so that a kill leaves the old checkpoint or the new one."""
    state = {
        "network": run.network.state_dict(),
        "average": run.average.state_dict(),
        "optimiser": run.optimiser.state_dict(),
        "random": run.random.get_state(),
        "step": run.step,
        "elapsed_s": run.elapsed_s,
    }
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    temporary.replace(path)


def _restore(run: _Run, path: Path) -> None:
    state = torch.load(path, weights_only=True)
    run.network.load_state_dict(state["network"])
    run.average.load_state_dict(state["average"])
    run.optimiser.load_state_dict(state["optimiser"])
    run.random.set_state(state["random"])
    run.step, run.elapsed_s = int(state["step"]), float(state["elapsed_s"])
    log.info("resumed after step %d", run.step, extra={"action": "resume_training"})
