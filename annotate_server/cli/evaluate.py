"""`annotate evaluate`: what a model is worth on labelled volumes."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from annotate_server.cli.console import (
    Exit,
    JsonOption,
    WorkspaceOption,
    err,
    out,
    ports,
    print_json,
    reporting,
)
from annotate_server.cli.modality import ModalityOption, declared
from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import InvalidPrompt
from annotate_server.domain.ports import Control
from annotate_server.workflows.bootstrap_interval import Interval
from annotate_server.workflows.effort import EffortConstants
from annotate_server.workflows.evaluation import EffortSummary, Evaluation, RobotSummary
from annotate_server.workflows.evaluation_report import evaluation_as_json
from annotate_server.workflows.examination import ExaminationOrder, examine
from annotate_server.workflows.labelled_folder import LabelledFolder
from annotate_server.workflows.robots import Plan

_HEADINGS = {
    "dice": "Dice",
    "surface_dice_1mm": "surf 1",
    "surface_dice_2mm": "surf 2",
    "hd95_mm": "HD95",
    "apl_mm": "APL",
    "relative_apl": "rAPL",
    "relative_apl_0": "rAPL 0",
}
"""Measures (surface Dice at 1 and 2 mm, HD95 and APL in mm) by the short names that fit into a terminal."""


def evaluate(
    model: Annotated[str, typer.Argument(help="The model; see `annotate models list`.", show_default=False)],
    folder: Annotated[Path, typer.Option("--on", help="A folder with images/ and labels/, same file names.")],
    robot: Annotated[
        str | None, typer.Option("--robot", help="Drive a promptable model: clicks:10, or lasso:3+clicks:5.")
    ] = None,
    effort: Annotated[
        bool,
        typer.Option("--effort", help="Also simulate finishing each case by hand, from nothing and from the draft."),
    ] = False,
    modality: ModalityOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on labelled volumes: overlap, surfaces, and how much is left to draw.

    Intervals are 95 % bootstrap intervals over cases. The exit code is 1 when a case could not be evaluated.
    """
    with reporting(as_json):
        order = ExaminationOrder(
            model,
            plan=None if robot is None else _plan(robot),
            effort=EffortConstants() if effort else None,
            modality=declared(modality),
        )
        evaluation = _examined(order, folder, workspace, as_json=as_json)
        if as_json:
            print_json(evaluation_as_json(evaluation))
        else:
            _say(evaluation)
    if evaluation.failures:
        raise typer.Exit(Exit.FAILED)


def _plan(text: str) -> Plan:
    """Return the robot's plan; a wrong one is wrong usage."""
    try:
        return Plan.parse(text)
    except InvalidPrompt as error:
        raise typer.BadParameter(str(error), param_hint="--robot") from None


def _examined(order: ExaminationOrder, folder: Path, workspace: Path | None, *, as_json: bool) -> Evaluation:
    found = ports(workspace)

    def scan(images: Path) -> list[StoredVolume]:
        with found.studies(images) as studies:
            return list(studies.scan())

    labelled = LabelledFolder.found(folder, scan)
    predictor = found.predictor()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    try:
        with found.reader() as reader, Progress(*columns, console=err, disable=as_json, transient=True) as progress:
            bar = progress.add_task(order.model, total=1.0)
            control = Control(report=lambda part, text: progress.update(bar, completed=part, description=text[-60:]))
            return examine(order, labelled, predictor, reader, control)
    finally:
        predictor.close()


def _say(evaluation: Evaluation) -> None:
    """Print the figures as tables."""
    out.print(f"{len(evaluation.cases)} cases, mean Dice {_text(evaluation.mean_dice)}", markup=False)
    table = Table("Segment", *_HEADINGS.values(), box=None, pad_edge=False)
    for name, summary in evaluation.segments.items():
        dice, *others = (summary.measures[measure] for measure in _HEADINGS)
        table.add_row(name, _text(dice), *(f"{interval.mean:.3f}" for interval in others))
    out.print(table)
    if evaluation.robot is not None:
        _say_robot(evaluation.robot)
    if evaluation.effort is not None:
        _say_effort(evaluation.effort)
    if evaluation.not_in_truth:
        out.print(f"In no label, and left out: {', '.join(evaluation.not_in_truth)}", markup=False)
    if evaluation.ignored:
        out.print(f"In labels, but not in the model: {', '.join(evaluation.ignored)}", markup=False)
    for failure in evaluation.failures:
        err.print(f"failed: {failure.problem.detail}", markup=False)


def _say_robot(robot: RobotSummary) -> None:
    steps = "  ".join(f"{number}: {dice:.3f}" for number, dice in enumerate(robot.dice_at, 1))
    out.print(f"Dice after each interaction, {robot.structures} structures: {steps}", markup=False)
    out.print(
        f"NoC@85 {robot.noc85:.1f}, NoF@85 {robot.nof85:.2f}, nAUC {robot.nauc:.3f}, "
        f"worst drop {robot.worst_drop:.3f}, {robot.ms_p50:.0f} ms (95 %: {robot.ms_p95:.0f} ms) an interaction",
        markup=False,
    )


def _say_effort(effort: EffortSummary) -> None:
    for name, work in (("from nothing", effort.scratch), ("from the draft", effort.draft)):
        out.print(
            f"By hand {name}: {work.seconds / effort.cases:.0f} s, {work.path_mm / effort.cases:.0f} mm drawn, "
            f"{work.slices_touched / effort.cases:.1f} contours touched a case",
            markup=False,
        )
    out.print(f"Ratio of the seconds: {_text(effort.ratio)}; simulated with", markup=False)
    for constant in fields(EffortConstants):
        value = getattr(effort.constants, constant.name)
        out.print(f"  {constant.name} = {value:g}  ({constant.metadata['source']})", markup=False)


def _text(interval: Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
