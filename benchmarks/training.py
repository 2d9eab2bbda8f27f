"""Measure the training loop on this machine: steps a second by precision, waiting for examples, drafts.

    python benchmarks/training.py [--device cpu|cuda:0] [--steps 20] [--patch 40 56 40] [--quick] [--json]

Prints what machine it ran on. The cases are phantoms: no data is needed. `loader_share` is the part of a step that
passes until its examples are there; on a card it is measured with the card idle before and after: an upper bound of
what a step waits for. On a processor seconds are those of all its threads together, whatever else it is doing.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from annotate_server.backends.devices import processor
from annotate_server.backends.torch_module.network import build
from annotate_server.backends.torch_module.prediction import predict_probabilities
from annotate_server.backends.training.augment import Augmentation
from annotate_server.backends.training.cases import GridCase, ShelvedCase, shelve
from annotate_server.backends.training.lesson import Lesson
from annotate_server.backends.training.loop import Teacher
from annotate_server.domain.recipe import Precision, Recipe
from annotate_server.domain.training import Part, TrainingEntry

CASES = 8
CLASSES = 3


@dataclass(frozen=True)
class Rate:
    """What was measured in one precision."""

    precision: str
    steps_per_s: float
    voxels_per_s: float
    step_ms: float
    loader_share: float
    drafts_per_s: float
    of_fp32: float | None = None


def cases(folder: Path, patch: tuple[int, int, int]) -> tuple[ShelvedCase, ...]:
    """Return phantoms somewhat larger than the patch."""
    random = np.random.default_rng(0)
    made = []
    for number in range(CASES):
        shape = tuple(side + 8 for side in patch)
        target = np.zeros(shape, np.int16)
        target[8:-8, 8:-8, 8 : shape[2] // 2] = 1
        target[8:-8, 8:-8, shape[2] // 2 : -8] = 2
        values = random.normal(0, 1, shape).astype(np.float32) + target
        entry = TrainingEntry(str(number), str(number), str(number), Part.TRAIN, ())
        made.append(shelve(entry, GridCase(values[None], target, frozenset({1, 2})), folder))
    return tuple(made)


def measured(lesson: Lesson, device: torch.device, steps: int) -> Rate:
    """Return the rates of a lesson."""
    teacher = Teacher(lesson, device)
    for _ in range(3):
        teacher.step(teacher.batch())
    now = time.process_time if device.type == "cpu" else time.perf_counter
    waited = 0.0
    _settle(device)
    begun = now()
    for _ in range(steps):
        teacher.step(teacher.batch())
    _settle(device)
    seconds = (now() - begun) / steps
    for _ in range(steps):
        _settle(device)
        asked = now()
        batch = teacher.batch()
        _settle(device)
        waited += now() - asked
        teacher.step(batch)
    voxels = lesson.recipe.batch * float(np.prod(lesson.patch))
    drafts = _drafts_per_s(teacher, lesson, now)
    name = lesson.recipe.precision.value
    return Rate(name, 1 / seconds, voxels / seconds, 1e3 * seconds, waited / steps / seconds, drafts)


def _drafts_per_s(teacher: Teacher, lesson: Lesson, now: Callable[[], float]) -> float:
    values = np.zeros(lesson.patch, np.float32)
    dtype = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}.get(lesson.recipe.precision, torch.float32)
    predict_probabilities(teacher.run.average, values, precision=dtype)
    begun = now()
    for _ in range(5):
        predict_probabilities(teacher.run.average, values, precision=dtype)
    return 5 / (now() - begun)


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def every(given: argparse.Namespace) -> Iterator[Rate]:
    """Yield the rates of every precision, fp32 first."""
    device, patch = torch.device(given.device), tuple(given.patch)
    parameters = {"widths": given.widths, "classes": CLASSES, "residual": True}
    with tempfile.TemporaryDirectory() as folder:
        shelf = cases(Path(folder), patch)
        usual: Rate | None = None
        for precision in (Precision.FP32, Precision.BF16, Precision.FP16):
            if precision is Precision.FP16 and device.type == "cpu" and not given.fp16_on_cpu:
                continue
            recipe = Recipe(steps=10_000, batch=given.batch, precision=precision, mirror_axes=(2,))
            torch.manual_seed(0)
            network = build("unet", parameters)
            lesson = Lesson(network, shelf, CLASSES, patch, recipe, "benchmark", Augmentation(mirror_axes=(2,)))
            rate = measured(lesson, device, given.steps)
            usual = usual or rate
            yield replace(rate, of_fp32=rate.steps_per_s / usual.steps_per_s)


def machine(device: str) -> str:
    """Return the machine in words."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    own = processor()
    return f"{own.name}, {torch.get_num_threads()} threads, {', '.join(own.features)}, torch {torch.__version__}"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--patch", type=int, nargs=3, default=[40, 56, 40])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 72])
    parser.add_argument("--fp16-on-cpu", action="store_true", help="it is emulated there, and takes minutes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="two steps of a tiny network: does the script work?")
    given = parser.parse_args()
    if given.quick:
        given.steps, given.patch, given.widths = 2, [16, 16, 16], [4, 8]
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("torch finds no CUDA card here; use --device cpu", file=sys.stderr)  # noqa: T201  a command
        raise SystemExit(2)
    where = machine(given.device)
    rates = list(every(given))
    if given.json:
        document = {"machine": where, "python": platform.python_version(), "rates": [asdict(rate) for rate in rates]}
        print(json.dumps(document, indent=2))  # noqa: T201
        return
    print(where)  # noqa: T201
    for rate in rates:
        print(  # noqa: T201
            f"{rate.precision}: {rate.steps_per_s:.2f} steps/s ({rate.of_fp32:.2f} x fp32), {rate.step_ms:.0f} ms a "
            f"step, {rate.voxels_per_s / 1e6:.2f} million voxels/s, examples {100 * rate.loader_share:.1f} % of a "
            f"step, {rate.drafts_per_s:.1f} drafts/s"
        )


if __name__ == "__main__":
    main()
