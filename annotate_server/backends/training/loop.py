"""The training loop: augmented patches in, a network with averaged weights out; stops and resumes at any step."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from annotate_server.backends.engine.pages import pages_kept
from annotate_server.backends.training.augment import Chance, augmented_example
from annotate_server.backends.training.cases import Voxels
from annotate_server.backends.training.drawing import Drawing
from annotate_server.backends.training.freezing import freeze, train_mode
from annotate_server.backends.training.lesson import Batch, Learned, Learner, Lesson, Rank, voices
from annotate_server.backends.training.loss import deep_supervision_loss
from annotate_server.backends.training.precision import chosen_dtype
from annotate_server.backends.training.run import Run, add_point, curve_until
from annotate_server.domain.errors import PredictionFailed
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import IGNORED, TrainingPlace, TrainingPoint

POINT_EVERY = 10
"""Steps between two points of the curve: a card is waited for no more often."""
_ALONE = Rank()


def learn(lesson: Lesson, place: TrainingPlace, control: Control, rank: Rank = _ALONE) -> Learned:
    """Train a copy of the lesson's network on `control.device`, or resume what was interrupted in `place.folder`.

    The learning rate rises for `warmup_steps` and falls as a cosine to zero. What comes back is the exponential average
    of the weights, on the processor. Raises Cancelled, and PredictionFailed where the loss is no number any more or the
    device has too little memory.
    """
    device = torch.device(control.device)
    try:
        with _steady(device):
            teacher = Teacher(lesson, device, rank)
            teacher.resume(place)
            teacher.finish(place, control)
    except torch.OutOfMemoryError as error:
        raise PredictionFailed(
            f"the device has too little memory to train on patches of {lesson.patch} voxels",
            remedy="Use smaller patches in the recipe, or --device cpu.",
        ) from error
    run = teacher.run
    return Learned(run.average.to("cpu").eval(), run.step, run.voxels, run.seconds)


class Teacher:
    """A run with what its steps need: cases, randomness, precision."""

    def __init__(self, lesson: Lesson, device: torch.device, rank: Rank = _ALONE) -> None:
        """Put a copy of the network on the device."""
        recipe = lesson.recipe
        self.lesson, self.rank, self._device = lesson, rank, device
        self._dtype = chosen_dtype(recipe.precision, device)
        network = deepcopy(lesson.network).to(device)
        freeze(network, recipe.freezing, lesson.fresh)
        train_mode(network)
        self.run = Run.begin(lesson, network, scaled=self._dtype is torch.float16, device=device)
        self._levels = rank.shared(Levels(network), device)
        self._drawing = Drawing(lesson.cases, recipe.new_share, lesson.patch)
        self._voxels = Voxels(device)
        self._slots = range(rank.number, recipe.batch, rank.of)

    def resume(self, place: TrainingPlace) -> None:
        """Go on where the same training was interrupted."""
        self.run.resume(place.folder)
        if self.rank.is_first:
            curve_until(place.folder, self.run.step)

    def finish(self, place: TrainingPlace, control: Control) -> None:
        """Take every step that is left; points and checkpoints come from the first process."""
        run, recipe = self.run, self.lesson.recipe
        begun, before = time.monotonic(), run.seconds
        while run.step < recipe.steps:
            control.check()
            self.step(self.batch())
            run.seconds = before + time.monotonic() - begun
            is_last = run.step == recipe.steps
            if run.step % POINT_EVERY == 0 or is_last:
                self._tell(place, control)
            if self.rank.is_first and (run.step % recipe.checkpoint_every == 0 or is_last):
                run.save(place.folder)

    def batch(self) -> Batch:
        """Return the examples of the next step that this process learns from."""
        lesson, examples, known = self.lesson, [], []
        for slot in self._slots:
            number = self.run.step * lesson.recipe.batch + slot
            chance = Chance.of_example(lesson.recipe.seed, number, self._device)
            drawn = self._drawing.draw(number, chance.choice)
            values, target = augmented_example(drawn, lesson.patch, lesson.augmentation, self._voxels, chance)
            examples.append((values, _without_border(target, lesson.border)))
            known.append([label == 0 or label in drawn.case.known for label in range(lesson.classes)])
        every_values, targets = zip(*examples, strict=True)
        return Batch(torch.stack(every_values), torch.stack(targets), torch.tensor(known))

    def step(self, batch: Batch) -> None:
        """Update the weights and their average once."""
        run, recipe = self.run, self.lesson.recipe
        for group in run.optimiser.param_groups:
            group["lr"] = learning_rate(recipe, run.step)
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not torch.float32):
            every = self._levels(batch.values)
        losses = [deep_supervision_loss(levels, batch.target, batch.known) for levels in every]
        run.optimiser.zero_grad(set_to_none=True)
        run.scaler.scale(torch.stack(losses).sum()).backward()  # type: ignore[no-untyped-call]  # torch left it untyped
        run.scaler.unscale_(run.optimiser)
        nn.utils.clip_grad_norm_(self._learning, recipe.gradient_norm)
        run.scaler.step(run.optimiser)
        run.scaler.update()
        run.step += 1
        run.voxels += recipe.batch * math.prod(self.lesson.patch) * len(losses)
        run.losses.append(torch.stack(losses).detach().mean())
        _average(run, min(recipe.average_decay, run.step / (run.step + 10)))

    @property
    def _learning(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.run.network.parameters() if parameter.requires_grad]

    def _tell(self, place: TrainingPlace, control: Control) -> None:
        """Report a point of the curve; raises PredictionFailed where the loss is no number any more."""
        run, recipe = self.run, self.lesson.recipe
        loss = float(torch.stack([loss.cpu() for loss in run.losses]).mean())
        run.losses.clear()
        if not math.isfinite(loss):
            raise PredictionFailed(
                f"the training diverged before step {run.step}",
                remedy='Use a lower learning_rate in the recipe, or precision = "fp32".',
            )
        if not self.rank.is_first:
            return
        point = TrainingPoint(run.step, recipe.steps, loss, learning_rate(recipe, run.step - 1), run.seconds)
        add_point(place.folder, point)
        place.on_point(point)
        control.report(0.1 + 0.9 * run.step / recipe.steps, f"step {run.step} of {recipe.steps}, loss {loss:.3f}")


class Levels(nn.Module):
    """A network as something to call: every resolution of every voice."""

    def __init__(self, network: nn.Module) -> None:
        """Share the network's weights."""
        super().__init__()
        self.network = network

    def forward(self, volume: Tensor) -> list[list[Tensor]]:
        """Return logits by voice and resolution."""
        return [cast("Learner", voice).every_resolution(volume) for voice in voices(self.network)]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the rate of a step, counted from 0: a warm-up, then a cosine to zero."""
    warmup = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    return recipe.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))


def _without_border(target: Tensor, border: int) -> Tensor:
    """Return the target with nothing said at the faces of the patch."""
    if border == 0:
        return target
    inner = (slice(border, -border),) * 3
    result = torch.full_like(target, IGNORED)
    result[inner] = target[inner]
    return result


def _average(run: Run, decay: float) -> None:
    """Move the average towards the weights; early on it forgets faster, so that it does not stay at the beginning."""
    with torch.no_grad():
        pairs = zip(run.average.parameters(), run.network.parameters(), strict=True)
        learning = [(mean, current) for mean, current in pairs if current.requires_grad]
        torch._foreach_lerp_([mean for mean, _ in learning], [current for _, current in learning], 1 - decay)


@contextmanager
def _steady(device: torch.device) -> Iterator[None]:
    """Take the same kernels every time, and on a processor keep the memory between the layers."""
    kept = pages_kept() if device.type == "cpu" else nullcontext()
    with kept, torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield
