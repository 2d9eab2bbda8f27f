"""`annotate simulate`: the whole learning loop on labelled volumes, with a robot physician."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from annotate_server.backends.devices import chosen_device, limit_threads
from annotate_server.bootstrap import Ports
from annotate_server.cli.console import JsonOption, WorkspaceOption, err, out, ports, print_json, reporting
from annotate_server.cli.modality import ModalityOption, declared
from annotate_server.domain.case import StoredVolume
from annotate_server.domain.model import App, ModelCard
from annotate_server.domain.ports import CaseReader, Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.volume import Modality
from annotate_server.stores.folder_apps import app_of
from annotate_server.workflows.evaluate import LabelledCase
from annotate_server.workflows.evaluation import CaseFailure
from annotate_server.workflows.labelled_folder import IMAGES, LABELS, LabelledFolder
from annotate_server.workflows.simulate import Simulator
from annotate_server.workflows.simulated_cases import SimulatedCases, drawn_parts
from annotate_server.workflows.simulated_scanner import SCANNERS, ScannerKind
from annotate_server.workflows.simulated_training import Trainings
from annotate_server.workflows.simulation_plan import NAIVE, SCRATCH, SimulationPlan, with_mistakes
from annotate_server.workflows.simulation_report import Simulation, simulation_as_json

_BASELINES = frozenset({SCRATCH, NAIVE})


def simulate(
    model: Annotated[str, typer.Argument(help="The model whose network and recipe are taken.", show_default=False)],
    folder: Annotated[Path, typer.Option("--on", help="A folder with images/ and labels/, same file names.")],
    start: Annotated[
        int, typer.Option("--start", min=0, help="Cases that the first champion learns from; 0: the model as it is.")
    ] = 10,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of labelling, training and gate.")] = 10,
    per_round: Annotated[int, typer.Option("--per-round", min=1, help="New labels a round.")] = 10,
    gate: Annotated[int, typer.Option("--gate", min=0, help="Cases that decide on promotions.")] = 30,
    test: Annotated[int, typer.Option("--test", min=1, help="Cases that only tell how good a version is.")] = 40,
    seed: Annotated[int, typer.Option("--seed", help="Draws the parts, the mistakes and the training.")] = 0,
    corrupt: Annotated[
        float, typer.Option("--corrupt", min=0.0, max=0.9, help="Share of wrong labels, never in the test part.")
    ] = 0.0,
    site_shift: Annotated[
        bool, typer.Option("--site-shift", help="The second half of the rounds comes from another scanner.")
    ] = False,
    scanner: Annotated[
        ScannerKind,
        typer.Option(
            "--scanner",
            help="With --site-shift: mild has darker middle tones, hard turns dark into bright; both have larger "
            "voxels and noise.",
        ),
    ] = ScannerKind.MILD,
    baselines: Annotated[
        str, typer.Option("--baselines", help="Of scratch and naive: which to run beside it; none for neither.")
    ] = "scratch,naive",
    scratch_every: Annotated[
        int, typer.Option("--scratch-every", min=1, help="Train the baseline scratch every so many rounds, and last.")
    ] = 1,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Steps of a round; default: the recipe's.")
    ] = None,
    full_steps: Annotated[
        int | None, typer.Option("--full-steps", min=1, help="Steps of a training from nothing; default: the recipe's.")
    ] = None,
    modality: ModalityOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate the learning loop: a robot corrects the drafts of each round, the model learns, the gate decides.

    Beside it run retraining from scratch on everything, and naive fine-tuning on the new labels only. Nothing of it is
    kept.
    """
    with reporting(as_json):
        plan = SimulationPlan(
            rounds=rounds,
            per_round=per_round,
            start=start,
            gate=gate,
            test=test,
            seed=seed,
            corrupt=corrupt,
            site_shift=site_shift,
            scanner=scanner,
            baselines=_chosen(baselines),
            scratch_every=scratch_every,
        )
        request = _Request(model, folder, declared(modality), steps, full_steps)
        simulation = _simulated(request, plan, ports(workspace), as_json=as_json)
        if as_json:
            print_json(simulation_as_json(simulation))
        else:
            _say(simulation)


@dataclass(frozen=True)
class _Request:
    """Which model learns on which folder, with how many steps."""

    model: str
    folder: Path
    modality: Modality | None
    steps: int | None
    full_steps: int | None

    def recipe(self, app: App, seed: int) -> Recipe:
        """Return the app's recipe with the steps that were asked for."""
        recipe = app.recipe or Recipe()
        steps, full_steps = self.steps or recipe.steps, self.full_steps or recipe.full_steps
        return replace(recipe, seed=seed, steps=steps, full_steps=full_steps)


def _chosen(text: str) -> frozenset[str]:
    names = frozenset(name.strip() for name in text.split(",")) - {"", "none"}
    if names - _BASELINES:
        raise typer.BadParameter(f"there are {', '.join(sorted(_BASELINES))} and none", param_hint="--baselines")
    return names


def _simulated(request: _Request, plan: SimulationPlan, found: Ports, *, as_json: bool) -> Simulation:
    limit_threads(found.settings.threads)
    app = found.registry.app(request.model)
    labelled = _labelled(request.folder, found)
    with found.reader() as reader, tempfile.TemporaryDirectory() as scratch, _bar(as_json) as control:
        patients = {s.key: s.patient.pseudonym() if s.patient.known else s.key for s in labelled.stored}
        parts = drawn_parts(patients, plan.wanted, plan.seed)
        read = _Reading(labelled, reader, app.card, request.modality)
        cases = with_mistakes(
            SimulatedCases(read.case, app.card.segments, plan.seed, SCANNERS[plan.scanner]), plan, parts
        )
        trainings = Trainings(
            app=app,
            recipe=request.recipe(app, plan.seed),
            registry=found.registry,
            backends=found.backends,
            cases=cases,
            folder=Path(scratch),
            device=chosen_device(found.settings.device),
        )
        first = found.registry.champion(request.model) if plan.start == 0 else None
        simulator = Simulator(plan, parts, trainings, _read_app)
        return simulator.run(first, control)


@dataclass(frozen=True)
class _Reading:
    """Reads single cases of a labelled folder."""

    labelled: LabelledFolder
    reader: CaseReader
    card: ModelCard
    modality: Modality | None

    def case(self, name: str) -> LabelledCase | CaseFailure:
        """Return one case."""
        stored = tuple(each for each in self.labelled.stored if each.key == name)
        return next(iter(replace(self.labelled, stored=stored).cases(self.reader, self.card, self.modality)))


def _labelled(folder: Path, found: Ports) -> LabelledFolder:
    """Return the labelled folder, or the one that lies in it alone."""
    if not (folder / IMAGES).is_dir() and folder.is_dir():
        inside = [each for each in sorted(folder.iterdir()) if (each / IMAGES).is_dir() and (each / LABELS).is_dir()]
        folder = inside[0] if len(inside) == 1 else folder

    def scan(images: Path) -> list[StoredVolume]:
        with found.studies(images) as studies:
            return list(studies.scan())

    return LabelledFolder.found(folder, scan)


def _read_app(table: Mapping[str, object], digest: str) -> App:
    """Return the app of a description that a round kept."""
    return app_of(table, "simulated", Path("simulated"), digest)


@contextmanager
def _bar(as_json: bool) -> Iterator[Control]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=as_json, transient=True) as progress:
        bar = progress.add_task("Simulating", total=1.0)
        yield Control(report=lambda part, text: progress.update(bar, completed=part, description=text[:60]))


def _say(simulation: Simulation) -> None:
    """Print a line a round, and what it comes to."""
    table = Table("Round", "labels", "Dice", "rAPL", "drafts", "verdict", "seconds", "scratch", "naive", box=None)
    for each in simulation.rounds:
        table.add_row(
            str(each.number),
            str(each.labels),
            f"{each.test.dice:.3f}",
            f"{each.test.relative_apl:.3f}",
            f"{each.drafts.dice:.3f}",
            each.verdict,
            f"{each.seconds:.0f}",
            f"{each.scratch.test.dice:.3f}" if each.scratch else "-",
            f"{each.naive.test.dice:.3f}" if each.naive else "-",
        )
    out.print(table)
    out.print(
        f"Before the first round: Dice {simulation.start.dice:.3f}, relative APL {simulation.start.relative_apl:.3f}"
    )
    if simulation.compute_ratio is not None:
        out.print(f"Computed: {simulation.compute_ratio:.2f} of what retraining from scratch every round takes")
    for way, lost in simulation.forgotten.items():
        said = ", ".join(f"{value:+.3f} of scanner {site}" for site, value in lost.items() if value is not None)
        if said:
            out.print(f"Dice forgotten by {way}: {said}", markup=False)
    if simulation.mistakes.wrong:
        out.print(", ".join(f"{name} {value}" for name, value in simulation.mistakes.as_json.items()), markup=False)
