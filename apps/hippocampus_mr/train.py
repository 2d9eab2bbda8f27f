"""Reproduce the weights of `hippocampus_mr` from the hippocampus task of the Medical Segmentation Decathlon.

    python apps/hippocampus_mr/train.py member DATA --seed 1 --out RUN1     (one network; resumes when killed)
    python apps/hippocampus_mr/train.py combine DATA RUN1 RUN2              (one file of fp16 weights, and the figures)

DATA holds `images/*.nii.gz` and `labels/*.nii.gz` of the same names.
"""

import argparse
import csv
import hashlib
import hmac
import json
import logging
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import torch
from matplotlib import pyplot
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from annotate_server.backends.torch_module.network import build
from annotate_server.backends.torch_module.prediction import normalise, predict_probabilities
from annotate_server.backends.training.augment import Augmentation
from annotate_server.backends.training.cases import GridCase, ShelvedCase, shelve
from annotate_server.backends.training.lesson import Lesson
from annotate_server.backends.training.loop import learn
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Precision, Recipe
from annotate_server.domain.training import Part, TrainingEntry, TrainingPlace, TrainingPoint

log = logging.getLogger("hippocampus_mr")
HERE = Path(__file__).parent
COLUMNS = ("step", "seconds", "learning_rate", "training_loss")
SEGMENTS = ("anterior", "posterior")
GRID = (40, 56, 40)
LEFT_RIGHT = 2
MEMBER = {"widths": [16, 32, 64, 72], "classes": 3, "residual": True}
RECIPE = Recipe(steps=9000, batch=4, learning_rate=2e-3, warmup_steps=100, checkpoint_every=250)


@dataclass(frozen=True)
class LabelledArray:
    """One case: intensities and labels 0..n on the same canonical grid (k, j, i)."""

    name: str
    intensities: NDArray[np.generic]
    labels: NDArray[np.uint8]


def is_validation(file_name: str) -> bool:
    """Draw the split: one case in five by a keyed hash of its file name, whatever other files are there."""
    digest = hmac.new(b"hippocampus_mr/1", file_name.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") % 5 == 0


def canonical(path: Path) -> NDArray[np.generic]:
    """Return the voxels as (k, j, i) in LPS order, as the server hands them to a network; the file must be 1 mm."""
    nifti = nibabel.as_closest_canonical(nibabel.load(path))
    if not np.allclose(nifti.header.get_zooms()[:3], 1, atol=0.01):
        message = f"{path.name} is not 1 mm isotropic"
        raise ValueError(message)
    ras = np.asanyarray(nifti.dataobj)
    return np.ascontiguousarray(ras[::-1, ::-1, :].T)


def cases(data: Path, *, validation: bool) -> list[LabelledArray]:
    """Return the labelled cases of one side of the split in the order of their names."""
    names = sorted(path.name for path in (data / "images").glob("*.nii.gz") if is_validation(path.name) == validation)
    return [
        LabelledArray(name, canonical(data / "images" / name), canonical(data / "labels" / name).astype(np.uint8))
        for name in names
    ]


def segment_dice(predicted: NDArray[np.integer], truth: NDArray[np.integer]) -> list[float]:
    """Return the Dice of each segment, 2|A∩B| / (|A| + |B|)."""
    pairs = [(predicted == label, truth == label) for label in range(1, len(SEGMENTS) + 1)]
    return [2 * float((ours & theirs).sum()) / float(ours.sum() + theirs.sum()) for ours, theirs in pairs]


def evaluate(
    network: torch.nn.Module, held_out: list[LabelledArray], mirror_axes: tuple[int, ...] = ()
) -> tuple[NDArray[np.float64], float]:
    """Return Dice (cases, segments) and seconds a case."""
    rows, started = [], time.perf_counter()
    for case in held_out:
        probabilities = predict_probabilities(
            network, normalise(case.intensities), smallest_grid=GRID, mirror_axes=mirror_axes
        )
        rows.append(segment_dice(probabilities.argmax(0), case.labels))
    return np.array(rows), (time.perf_counter() - started) / len(held_out)


def shelf(training: list[LabelledArray], folder: Path) -> tuple[ShelvedCase, ...]:
    """Return the cases as the training loop takes them, in files of a folder."""
    shelved = []
    for case in training:
        entry = TrainingEntry(case.name, case.name, case.name, Part.TRAIN, ())
        target = case.labels.astype(np.int16)
        shelved.append(shelve(entry, GridCase(normalise(case.intensities)[None], target, frozenset({1, 2})), folder))
    return tuple(shelved)


def train_member(data: Path, out: Path, recipe: Recipe) -> None:
    """Train one network: `member.safetensors` (fp32, averaged weights) and `curve.jsonl` in `out`."""
    training, held_out = cases(data, validation=False), cases(data, validation=True)
    log.info("%d training cases, %d validation cases", len(training), len(held_out))
    torch.manual_seed(recipe.seed)
    lesson = Lesson(
        network=build("unet", MEMBER),
        cases=shelf(training, out / "cases"),
        classes=len(SEGMENTS) + 1,
        patch=GRID,
        recipe=recipe,
        identity=repr(recipe),
        augmentation=Augmentation(mirror_axes=(LEFT_RIGHT,)),
    )

    def report(point: TrainingPoint) -> None:
        if point.step % recipe.checkpoint_every == 0:
            log.info("step %d, %.0f s, loss %.4f", point.step, point.elapsed_s, point.loss)

    learned = learn(lesson, TrainingPlace(out, report), Control())
    save_file(learned.network.state_dict(), out / "member.safetensors")
    log.info("validation: %s", json.dumps(figures(evaluate(learned.network, held_out)[0])))


def combine(data: Path, runs: list[Path]) -> None:
    """Write `weights.safetensors` (fp16) and the curves; log the figures of these weights on the validation cases."""
    weights = {
        f"members.{index}.{key}": value.half().contiguous()
        for index, run in enumerate(runs)
        for key, value in load_file(run / "member.safetensors").items()
    }
    save_file(weights, HERE / "weights.safetensors", metadata={"licence": "CC-BY-SA-4.0"})
    network = build("unet_ensemble", {**MEMBER, "members": len(runs)})
    network.load_state_dict({key: value.float() for key, value in load_file(HERE / "weights.safetensors").items()})
    draw_curves(runs)
    held_out = cases(data, validation=True)
    for mirror_axes in ((), (LEFT_RIGHT,)):
        dice, seconds = evaluate(network, held_out, mirror_axes)
        log.info("mirrored axes %s: %s", mirror_axes, json.dumps({**figures(dice), "seconds_per_case": seconds}))


def draw_curves(runs: list[Path]) -> None:
    """Write `curve.csv` with a row per point of every member, and the picture of it."""
    picture, losses = pyplot.subplots(figsize=(6, 4), layout="constrained")
    with (HERE / "curve.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["member", *COLUMNS])
        for number, run in enumerate(runs, start=1):
            points = [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()]
            rows = [[point[name] for name in ("step", "elapsed_s", "learning_rate", "loss")] for point in points]
            writer.writerows([[number, *(f"{value:.6g}" for value in row)] for row in rows])
            losses.plot([row[0] for row in rows], [row[3] for row in rows], label=f"member {number}")
    losses.set(xlabel="step", ylabel="training loss (Dice + cross-entropy)", yscale="log")
    losses.legend()
    picture.savefig(HERE / "curve.png", dpi=80)


def figures(dice: NDArray[np.float64]) -> dict[str, list[float]]:
    """Return mean Dice with the 95 % bootstrap interval over cases (10,000 draws), per segment and over both."""
    columns = np.column_stack([dice, dice.mean(1)])
    draws = np.random.default_rng(0).integers(len(dice), size=(10_000, len(dice)))
    low, high = np.percentile(columns[draws].mean(1), [2.5, 97.5], axis=0)
    return {
        name: [round(float(value), 4) for value in (columns[:, at].mean(), low[at], high[at])]
        for at, name in enumerate([*SEGMENTS, "mean"])
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    member = commands.add_parser("member")
    member.add_argument("data", type=Path)
    member.add_argument("--out", type=Path, required=True)
    member.add_argument("--seed", type=int, default=1)
    member.add_argument("--steps", type=int, default=RECIPE.steps)
    member.add_argument("--precision", type=Precision, choices=list(Precision), default=Precision.AUTO)
    together = commands.add_parser("combine")
    together.add_argument("data", type=Path)
    together.add_argument("runs", type=Path, nargs="+")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s")
    if given.command == "combine":
        combine(given.data, given.runs)
        return
    recipe = replace(RECIPE, seed=given.seed, steps=given.steps, precision=given.precision)
    train_member(given.data, given.out, recipe)


if __name__ == "__main__":
    main()
