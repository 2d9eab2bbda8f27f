r"""The learning loop in figures and plots: `annotate simulate` measures, this draws, and shows where scratch is flat.

    python benchmarks/learning_loop.py curve MODEL --on DIR --steps 250 500 1000 2000 --out curve.json
    python benchmarks/learning_loop.py plot --loop LOOP.json --shift SHIFT.json --wrong WRONG.json… --curve curve.json \
        --out docs/benchmarks
    python benchmarks/learning_loop.py table FIGURES.json…
    python benchmarks/learning_loop.py beginning --data DATA --out beginning.json

`curve` trains from scratch on what the last round of a simulation has (start and all rounds) with several numbers of
steps and asks each network the test part: with which number retraining is compared is fixed by it, beforehand.
`beginning` is described in `beginning.py`.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import beginning
from matplotlib import pyplot
from matplotlib.figure import Figure

from annotate_server.backends.devices import limit_threads
from annotate_server.bootstrap import Ports, wire
from annotate_server.domain.model import ModelCard
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Part
from annotate_server.imaging.reading import IsolatedReader
from annotate_server.settings import read_settings
from annotate_server.workflows.evaluate import LabelledCase
from annotate_server.workflows.evaluation import CaseFailure
from annotate_server.workflows.labelled_folder import LabelledFolder
from annotate_server.workflows.simulated_cases import SimulatedCases, drawn_parts
from annotate_server.workflows.simulated_training import Trainings
from annotate_server.workflows.simulation_plan import SimulationPlan
from annotate_server.workflows.simulation_report import figures_of

log = logging.getLogger("learning_loop")
Json = Mapping[str, Any]


def curve(model: str, folder: Path, steps: Sequence[int], plan: SimulationPlan) -> list[Json]:
    """Return the figures of trainings from scratch on everything that the last round has, by their number of steps."""
    with tempfile.TemporaryDirectory() as scratch:
        ports = wire(read_settings(workspace=Path(scratch) / "workspace"))
        limit_threads(ports.settings.threads)
        app = ports.registry.app(model)
        with ports.reader() as reader:
            read = reading(folder, ports, reader, app.card)
            parts = drawn_parts({name: name for name in read.names}, plan.wanted, plan.seed)
            cases = SimulatedCases(read.case, app.card.segments, plan.seed)
            learned = [cases.entry(name, Part.TRAIN) for name in (*parts.start, *parts.pool)]
            test = [cases.entry(name, Part.TEST) for name in parts.test]
            rows = []
            for count in steps:
                recipe = replace(app.recipe or Recipe(), full_steps=count, seed=plan.seed)
                place = Path(scratch) / str(count)
                trainings = Trainings(app, recipe, ports.registry, ports.backends, cases, place)
                began = time.process_time()
                made = trainings.from_nothing("scratch", learned, Control())
                seconds = time.process_time() - began
                answers = trainings.asked("test", trainings.version(made), test, Control())
                figures = figures_of(answers.works)
                rows.append(
                    {
                        "steps": count,
                        "dice": figures.dice,
                        "surface_dice": figures.surface_dice,
                        "relative_apl": figures.relative_apl,
                        "cpu_s": seconds,
                        "voxels": made.voxels,
                    }
                )
                log.info("%s", rows[-1])
    return rows


@dataclass(frozen=True)
class Reading:
    """Reads single cases of a labelled folder."""

    labelled: LabelledFolder
    reader: IsolatedReader
    card: ModelCard

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the cases."""
        return tuple(each.key for each in self.labelled.stored)

    def case(self, name: str) -> LabelledCase | CaseFailure:
        """Return one case."""
        stored = tuple(each for each in self.labelled.stored if each.key == name)
        return next(iter(replace(self.labelled, stored=stored).cases(self.reader, self.card)))


def reading(folder: Path, ports: Ports, reader: IsolatedReader, card: ModelCard) -> Reading:
    """Return what reads the cases of a folder with images/ and labels/."""
    with ports.studies(folder / "images") as studies:
        return Reading(LabelledFolder(folder, tuple(studies.scan())), reader, card)


def plot(given: argparse.Namespace) -> None:
    """Draw what was given, a picture each: the loop, the two scanners, the wrong labels."""
    pictures = {"loop": _loop, "shift": _shift, "wrong": _wrong}
    for name, draw in pictures.items():
        files = getattr(given, name)
        if files:
            reports = [json.loads(path.read_text()) for path in files]
            points = json.loads(given.curve.read_text()) if given.curve and name == "loop" else []
            draw(reports, points).savefig(given.out / f"learning-{name}.png", dpi=80)


def _loop(reports: Sequence[Json], points: Sequence[Json]) -> Figure:
    report = reports[0]
    figure, (dice, path, flat) = pyplot.subplots(1, 3, figsize=(14, 4), layout="constrained")
    for axis, measure in ((dice, "dice"), (path, "relative_apl")):
        axis.axhline(report["start"][measure], color="grey", linestyle=":", label="no retraining")
        axis.plot(*_series(report, measure), marker="o", label="the loop")
        for name in ("scratch", "naive"):
            numbers, values = _series(report, measure, name)
            if numbers:
                axis.plot(numbers, values, marker=".", linestyle="--", label=name)
        axis.set(xlabel="round", ylabel=f"test part: {measure.replace('_', ' ')}")
    if points:
        rows = sorted(points, key=lambda row: row["steps"])
        flat.plot([row["steps"] for row in rows], [row["dice"] for row in rows], marker="o")
        flat.set(xlabel="steps from scratch on all labels", ylabel="test part: Dice", xscale="log")
        flat.set_xticks([row["steps"] for row in rows], [str(row["steps"]) for row in rows])
        flat.minorticks_off()
    dice.legend()
    return figure


def _shift(reports: Sequence[Json], points: Sequence[Json]) -> Figure:
    report = reports[0]
    figure, (old, new) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name in (None, "scratch", "naive"):
        label = name or "the loop"
        for axis, site in ((old, "A"), (new, "B")):
            numbers, values = _series(report, "dice", name, site)
            if numbers:
                axis.plot(numbers, values, marker="o", label=label)
    switch = next(each["number"] for each in report["rounds"] if each["site"] == "B")
    for axis, title in ((old, "scanner A"), (new, "scanner B")):
        axis.axvline(switch - 0.5, color="grey", linestyle=":")
        axis.set(xlabel="round", ylabel="test part: Dice", title=title)
    old.legend()
    return figure


def _wrong(reports: Sequence[Json], points: Sequence[Json]) -> Figure:
    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for report in reports:
        numbers, values = _series(report, "dice")
        (line,) = axis.plot(
            [0, *numbers], [report["start"]["dice"], *values], label=f"seed {report['settings']['seed']}"
        )
        kept = [(n, v) for n, v, each in zip(numbers, values, report["rounds"], strict=True) if each["promoted"]]
        axis.scatter(*zip(*kept, strict=True), color=line.get_color())
    axis.set(xlabel="round (dots: promoted)", ylabel="test part: Dice", title="20 % of the labels are wrong")
    axis.legend()
    return figure


def _series(
    report: Json, measure: str, baseline: str | None = None, site: str | None = None
) -> tuple[list[int], list[float]]:
    """Return rounds and values of a measure: of the loop or a baseline, on the test part as a scanner shows it."""
    numbers, values = [], []
    for each in report["rounds"]:
        row = each[baseline] if baseline else each
        row = row["sites"].get(site) if row and site else row
        if row and row.get(measure) is not None:
            numbers.append(each["number"])
            values.append(row[measure])
    return numbers, values


def table(paths: Sequence[Path]) -> str:
    """Return a line a round of every report, as Markdown."""
    lines = []
    for path in paths:
        report = json.loads(path.read_text())
        lines += [
            f"**{path.stem}**",
            "",
            "| round | labels | Dice | surface Dice | relative APL | drafts | verdict | s |",
        ]
        lines += ["|---|---|---|---|---|---|---|---|"]
        lines += [
            f"| {each['number']} | {each['labels']} | {each['dice']:.4f} | {each['surface_dice']:.4f} | "
            f"{each['relative_apl']:.4f} | {each['drafts']['dice']:.3f} | {each['verdict']} | {each['seconds']:.0f} |"
            for each in report["rounds"]
        ]
        lines.append("")
    return "\n".join(lines)


def _add_beginning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--test", type=int, default=20)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--robot", default="lasso:1+clicks:5")
    parser.add_argument("--out", type=Path, required=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    asked = commands.add_parser("curve")
    asked.add_argument("model")
    asked.add_argument("--on", type=Path, required=True)
    asked.add_argument("--steps", type=int, nargs="+", default=[250, 500, 1000, 2000])
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--out", type=Path, required=True)
    drawn = commands.add_parser("plot")
    for name in ("loop", "shift", "wrong"):
        drawn.add_argument(f"--{name}", type=Path, nargs="+")
    drawn.add_argument("--curve", type=Path)
    drawn.add_argument("--out", type=Path, required=True)
    listed = commands.add_parser("table")
    listed.add_argument("figures", type=Path, nargs="+")
    _add_beginning(commands.add_parser("beginning"))
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s")
    if given.command == "curve":
        rows = curve(given.model, given.on, given.steps, SimulationPlan(rounds=10, per_round=10, seed=given.seed))
        given.out.write_text(json.dumps(rows, indent=1))
    elif given.command == "plot":
        plot(given)
    elif given.command == "beginning":
        words = {name: getattr(given, name) for name in ("data", "test", "steps", "robot", "out")}
        beginning.measure(beginning.Wanted(labels=tuple(given.labels), **words))
    else:
        sys.stdout.write(table(given.figures))


if __name__ == "__main__":
    main()
