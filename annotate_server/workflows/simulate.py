"""Simulate: the whole loop on a labelled folder, with a robot physician and the baselines that it is measured against.

Round by round the champion drafts new cases, the robot corrects them (`effort` counts how) and submits the truth, or a
wrong label where that is asked for; everything is approved, and `run_round` trains and lets the gate decide, as on a
server. Beside it run, on the same labels: no retraining, retraining from scratch on everything, and naive fine-tuning
on the new labels only. The test part is never trained on, never chosen by and never wrong.
"""

import hashlib
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from annotate_server.domain.model import ModelVersion, WeightFile
from annotate_server.domain.ports import Control
from annotate_server.domain.training import (
    Part,
    Trained,
    TrainingEntry,
    TrainingSet,
    TrainOrder,
    Verdict,
)
from annotate_server.workflows.app_description import description_bytes
from annotate_server.workflows.effort import EffortConstants
from annotate_server.workflows.gate import GateRule
from annotate_server.workflows.gate_evidence import GateEvidence, read_evidence
from annotate_server.workflows.round_tools import RoundTools, part_of
from annotate_server.workflows.simulated_cases import OLD_SITE, SimulationParts
from annotate_server.workflows.simulated_store import KeptFolder, ReadApp, SimulatedRegistry, kept_version
from annotate_server.workflows.simulated_training import Answers, Trainings
from annotate_server.workflows.simulation_plan import NAIVE, SCRATCH, SimulationPlan
from annotate_server.workflows.simulation_report import (
    Baseline,
    Figures,
    Mistakes,
    PhysicianWork,
    SimulatedRound,
    Simulation,
    figures_of,
)
from annotate_server.workflows.train import run_round

log = logging.getLogger(__name__)

PROMOTING = (Verdict.PROMOTE, Verdict.PROMOTE_PROVISIONALLY)


@dataclass(frozen=True)
class _Before:
    """What is known when a round begins."""

    number: int
    site: str
    entries: tuple[TrainingEntry, ...]
    answers: Answers


class Simulator:
    """Runs a plan once."""

    def __init__(self, plan: SimulationPlan, parts: SimulationParts, trainings: Trainings, read_app: ReadApp) -> None:
        """Begin with nothing trained; `read_app` reads the descriptions that rounds keep."""
        self._plan = plan
        self._parts = parts
        self._trainings = trainings
        self._read_app = read_app
        self._kept = KeptFolder(trainings.folder / "kept")
        self._entries: list[TrainingEntry] = []
        self._learned: frozenset[str] = frozenset()
        self._evidence: GateEvidence | None = None
        self._named: list[str] = []
        self._naive: ModelVersion | None = None

    def run(self, first: ModelVersion | None, control: Control) -> Simulation:
        """Return what came of it, from `first` or from a champion that is trained from nothing on the start's cases.

        Raises what reading and training raise, and Cancelled.
        """
        plan, entries = self._plan, self._submitted(self._parts.start, OLD_SITE)
        start_voxels = 0
        if first is None:
            begun = self._trainings.from_nothing("start", entries, part_of(control, 0.0, 0.05))
            first, start_voxels = self._identified(self._trainings.version(begun)), begun.voxels
        self._registry = SimulatedRegistry(first.model, first, self._trainings.registry, first, {first.id: first})
        self._entries, self._learned = list(entries), frozenset(entry.label_id for entry in entries)
        self._naive = first
        start = self._tested("start", first, OLD_SITE)
        rounds: list[SimulatedRound] = []
        for number in range(1, plan.rounds + 1):
            share = 0.95 / plan.rounds
            done = self._round(number, part_of(control, 0.05 + (number - 1) * share, share))
            log.info("round %d: %s, test Dice %.4f", number, done.verdict, done.test.dice)
            rounds.append(done)
        wrong = {label: str(kind) for label, kind in self._trainings.cases.mistakes.items()}
        return Simulation(
            model=first.model,
            start=start,
            start_voxels=start_voxels,
            rounds=tuple(rounds),
            mistakes=Mistakes(wrong, tuple(dict.fromkeys(self._named))),
            settings=self._settings(),
        )

    def _round(self, number: int, control: Control) -> SimulatedRound:
        plan, site = self._plan, self._plan.site(number)
        names = self._parts.pool[(number - 1) * plan.per_round : number * plan.per_round]
        entries = self._submitted(names, site)
        champion = self._registry.serving
        answers = self._trainings.asked(f"drafts-{number}", champion, entries, part_of(control, 0.0, 0.02), _CONSTANTS)
        before = _Before(number, site, entries, answers)
        began = time.perf_counter()
        trained = self._trained(before, part_of(control, 0.02, 0.3))
        seconds = time.perf_counter() - began
        evidence = read_evidence(self._kept.path(trained.evidence).read_bytes())
        promoted = trained.verdict in PROMOTING
        if promoted:
            self._promote(trained, evidence)
        named = [doubt.label_id for doubt in (*evidence.doubted, *evidence.decision.doubts)]
        self._named += named
        figures = self._tested_as_shown(f"test-{number}", self._registry.serving, number)
        return SimulatedRound(
            number=number,
            site=site,
            labels=len(self._entries),
            test=figures[site],
            sites=figures if plan.site_shift else {},
            drafts=figures_of(answers.works),
            physician=_work(answers),
            verdict=str(trained.verdict),
            reason=trained.reason,
            promoted=promoted,
            version=self._registry.serving.id,
            share=evidence.share,
            seconds=seconds,
            steps=evidence.training.steps,
            training_voxels=evidence.training.training_voxels,
            drafted_voxels=evidence.training.drafted_voxels,
            named=tuple(named),
            scratch=self._scratch(before, part_of(control, 0.32, 0.5)) if plan.has_scratch(number) else None,
            naive=self._onward(before, part_of(control, 0.82, 0.18)) if NAIVE in plan.baselines else None,
        )

    def _trained(self, before: _Before, control: Control) -> Trained:
        """Submit, approve, and run a round as a server does."""
        self._entries += before.entries
        gate = self._gate(before.site)
        train = (replace(entry, is_new=entry.label_id not in self._learned) for entry in self._entries)
        segments = self._trainings.app.card.segments
        training_set = TrainingSet("simulation", segments, (*train, *gate))
        recipe = replace(self._trainings.recipe, seed=self._trainings.recipe.seed + before.number)
        every = self._trainings.recipe.full_every
        order = TrainOrder(
            model=self._registry.model,
            champion=self._registry.serving.id,
            training_set=training_set.digest,
            recipe=recipe,
            folder=self._trainings.folder / f"round-{before.number}",
            is_full=bool(every) and before.number % every == 0,
        )
        tools = RoundTools(
            registry=self._registry,
            backends=self._trainings.backends,
            examples=self._trainings.cases,
            keep=self._kept,
            device=self._trainings.device,
            rule=GateRule(),
            evaluations=before.number - 1,
            champion_evidence=self._evidence,
        )
        return run_round(order, training_set, tools, control)

    def _promote(self, trained: Trained, evidence: GateEvidence) -> None:
        version = kept_version(trained, self._registry.model, self._kept, self._read_app)
        self._registry.versions[version.id] = version
        self._registry.serving = version
        self._evidence = evidence
        self._learned = frozenset(entry.label_id for entry in self._entries)

    def _gate(self, site: str) -> tuple[TrainingEntry, ...]:
        """Return the gate's labels: with two scanners, half of its patients come with the second one."""
        cases, sites = self._trainings.cases, {OLD_SITE, site}
        placed = [(name, self._plan.gate_site(at)) for at, name in enumerate(self._parts.gate)]
        return tuple(cases.entry(name, Part.GATE, each) for name, each in placed if each in sites)

    def _scratch(self, before: _Before, control: Control) -> Baseline:
        """Retrain from scratch on everything that was submitted so far, wrong labels included."""
        began = time.perf_counter()
        name = f"{SCRATCH}-{before.number}"
        made = self._trainings.from_nothing(name, self._entries, control)
        seconds = time.perf_counter() - began
        return self._baseline(name, self._trainings.version(made), before.number, made.voxels, seconds)

    def _onward(self, before: _Before, control: Control) -> Baseline:
        """Fine-tune the naive version on the new labels only; whatever comes of it serves."""
        began = time.perf_counter()
        name = f"{NAIVE}-{before.number}"
        assert self._naive is not None  # noqa: S101  set before the first round
        made = self._trainings.onward(name, self._naive, before.entries, control)
        seconds = time.perf_counter() - began
        self._naive = self._trainings.version(made)
        return self._baseline(name, self._naive, before.number, made.voxels, seconds)

    def _baseline(self, name: str, version: ModelVersion, number: int, voxels: int, seconds: float) -> Baseline:
        figures = self._tested_as_shown(name, version, number)
        return Baseline(figures[self._plan.site(number)], voxels, seconds, figures if self._plan.site_shift else {})

    def _tested_as_shown(self, name: str, version: ModelVersion, number: int) -> Mapping[str, Figures]:
        """Return a version's figures on the test part after a round, by scanner."""
        return {site: self._tested(name, version, site) for site in self._plan.tested_sites(number)}

    def _tested(self, name: str, version: ModelVersion, site: str) -> Figures:
        """Return a version's figures on the test part, as a scanner shows it."""
        entries = self._submitted(self._parts.test, site, Part.TEST)
        key = version.id if version.id in self._registry.versions else name
        answers = self._trainings.asked(f"{key}-{site}", version, entries, Control())
        return figures_of({entry.case_id: answers.works[entry.label_id] for entry in entries})

    def _submitted(self, names: Iterable[str], site: str, part: Part = Part.TRAIN) -> tuple[TrainingEntry, ...]:
        return tuple(self._trainings.cases.entry(name, part, site) for name in names)

    def _identified(self, version: ModelVersion) -> ModelVersion:
        """Return a version with its weights named in its description, which gives it its identity."""
        files = sorted(version.files.items())
        weights = tuple(WeightFile(n, self._kept.keep_file(path), path.stat().st_size) for n, path in files)
        app = replace(version.app, weights=weights)
        return replace(version, app=replace(app, digest=hashlib.sha256(description_bytes(app)).hexdigest()))

    def _settings(self) -> Mapping[str, object]:
        plan, recipe = self._plan, self._trainings.recipe
        return {
            **{name: getattr(plan, name) for name in ("rounds", "per_round", "start", "gate", "test", "seed")},
            "corrupt": plan.corrupt,
            "site_shift": plan.site_shift,
            "scanner": str(plan.scanner) if plan.site_shift else None,
            "steps": recipe.steps,
            "full_steps": recipe.full_steps,
            "batch": recipe.batch,
            "learning_rate": recipe.learning_rate,
            "full_learning_rate": recipe.full_learning_rate,
            "sweep": list(recipe.sweep),
        }


_CONSTANTS = EffortConstants()


def _work(answers: Answers) -> PhysicianWork:
    efforts = list(answers.effort.values())
    return PhysicianWork(
        float(np.mean([each.draft.seconds for each in efforts])),
        float(np.mean([each.scratch.seconds for each in efforts])),
    )
