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
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import torch
from matplotlib import pyplot
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from annotate_server.backends.torch_module.augment import Augmentation
from annotate_server.backends.torch_module.fit import FitProgress, FitSettings, LabelledArray, fit
from annotate_server.backends.torch_module.network import build
from annotate_server.backends.torch_module.prediction import predict_probabilities

log = logging.getLogger("hippocampus_mr")
HERE = Path(__file__).parent
COLUMNS = ("step", "seconds", "learning_rate", "training_loss", "dice_anterior", "dice_posterior")
SEGMENTS = ("anterior", "posterior")
GRID = (40, 56, 40)
LEFT_RIGHT = 2
MEMBER = {"widths": [16, 32, 64, 72], "classes": 3, "residual": True}
SETTINGS = FitSettings(steps=9000, grid=GRID, classes=3, augmentation=Augmentation(mirror_axes=(LEFT_RIGHT,)))


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
        probabilities = predict_probabilities(network, case.intensities, smallest_grid=GRID, mirror_axes=mirror_axes)
        rows.append(segment_dice(probabilities.argmax(0), case.labels))
    return np.array(rows), (time.perf_counter() - started) / len(held_out)


def branch(checkpoint: Path, out: Path, seed: int) -> None:
    """Let the run in `out` go on from another run's checkpoint, with other random examples from there."""
    state = torch.load(checkpoint, weights_only=True)
    state["random"] = torch.Generator().manual_seed(seed).get_state()
    out.mkdir(parents=True)
    torch.save(state, out / "checkpoint.pt")


def train_member(data: Path, out: Path, settings: FitSettings) -> None:
    """Train one network: `member.safetensors` (fp32, averaged weights) and `curve.csv` in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    training, held_out = cases(data, validation=False), cases(data, validation=True)
    log.info("%d training cases, %d validation cases", len(training), len(held_out))
    torch.manual_seed(settings.seed)
    network = build("unet", MEMBER)

    def report(progress: FitProgress) -> bool:
        dice = evaluate(progress.network, held_out)[0].mean(0)
        row = [progress.step, progress.elapsed_s, progress.learning_rate, progress.loss, *dice]
        with (out / "curve.csv").open("a", newline="") as file:
            csv.writer(file).writerow([f"{value:.6g}" for value in row])
        log.info("step %d, %.0f s, loss %.4f, Dice %.4f %.4f", row[0], row[1], row[3], *dice)
        return True

    average = fit(network, training, settings, report, checkpoint=out / "checkpoint.pt")
    save_file(average.state_dict(), out / "member.safetensors")


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
    """Write `curve.csv` with a row per report of every member, and the picture of it."""
    rows = []
    for number, run in enumerate(runs, start=1):
        with (run / "curve.csv").open(newline="") as file:
            rows += [[str(number), *row] for row in csv.reader(file)]
    with (HERE / "curve.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["member", *COLUMNS], *rows])
    picture, (losses, dice) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for number in range(1, len(runs) + 1):
        step, _, _, loss, *segments = np.array([row[1:] for row in rows if row[0] == str(number)], dtype=float).T
        losses.plot(step, loss, label=f"member {number}")
        for name, values in zip(SEGMENTS, segments, strict=True):
            dice.plot(step, values, label=f"member {number}, {name}")
    losses.set(xlabel="step", ylabel="training loss (Dice + cross-entropy)", yscale="log")
    dice.set(xlabel="step", ylabel="validation Dice (averaged weights)", ylim=(0.8, 0.92))
    losses.legend()
    dice.legend()
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
    member.add_argument("--steps", type=int, default=SETTINGS.steps)
    member.add_argument("--minutes", type=float, default=float("inf"), help="finish the schedule within this time")
    member.add_argument("--branch", type=Path, help="start from this checkpoint of another member")
    member.add_argument("--bfloat16", action="store_true", help="faster on processors with avx512_bf16")
    together = commands.add_parser("combine")
    together.add_argument("data", type=Path)
    together.add_argument("runs", type=Path, nargs="+")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s")
    if given.command == "combine":
        combine(given.data, given.runs)
        return
    if given.branch and not given.out.exists():
        branch(given.branch, given.out, given.seed)
    precision = torch.bfloat16 if given.bfloat16 else torch.float32
    settings = replace(SETTINGS, seed=given.seed, steps=given.steps, precision=precision)
    train_member(given.data, given.out, replace(settings, time_limit_s=given.minutes * 60))


if __name__ == "__main__":
    main()
