"""What one round takes: seconds of the clock and of processors, and memory, run as a server's trainer runs it.

    python benchmarks/one_round.py hippocampus --data DATA --out round.json   5 new labels + replay, cross-fitted
    python benchmarks/one_round.py hippocampus --data DATA --gate 20 --out gate.json   with patients for the gate
    python benchmarks/one_round.py ct --data DATA --full-steps 250 --out ct.json   a new model, CT of 512 x 512 x 51
    python benchmarks/one_round.py t1 --data DATA --full-steps 250 --out t1.json   a new model, head of 256 x 256 x 256

`hippocampus` trains the shipped `hippocampus_mr` by its own recipe: 5 new labels beside those that were learned from
before; --scanner shows the new and the test cases as another scanner would. `ct` and `t1` plan a network, train its
first version from 5 labels and then a round with 5 more; there is one CT and one head: the others are moved and noisy
copies with the label of a published network, so that their Dice says only that something was learned.
--steps and --full-steps replace the recipe's: a first version has 2000 steps otherwise, four times over. Memory is that
of this process and of those that it started, sampled every 0.1 s; a server adds its web process and the workers that
draft.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
from learning_loop import reading
from numpy.typing import NDArray
from prompt_latency import load
from serving import machine, memory_mb, say

from annotate_server.backends.devices import chosen_device
from annotate_server.backends.meshnet.adapter import MeshNetBackend
from annotate_server.bootstrap import Ports, wire
from annotate_server.bootstrap.trainer import use_threads
from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import App, ModelCard, ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Example, Part, TrainingEntry, TrainingSet, TrainOrder
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.reading import read_volume
from annotate_server.settings import read_settings
from annotate_server.stores.folder_apps import app_of, read_app
from annotate_server.workflows.gate_evidence import GateEvidence, read_evidence
from annotate_server.workflows.round_tools import Examples, RoundTools
from annotate_server.workflows.simulated_cases import NEW_SITE, OLD_SITE, SimulatedCases, label_id
from annotate_server.workflows.simulated_scanner import SCANNERS, ScannerKind
from annotate_server.workflows.simulated_store import KeptFolder, SimulatedRegistry, kept_version
from annotate_server.workflows.simulated_training import Trainings
from annotate_server.workflows.simulation_report import figures_of
from annotate_server.workflows.train import run_round

POOL = Path("01_hippocampus_msd/dev_pool")
T1 = Path("15_brain_volumes/t1_crop_conformed256_LIA.nii.gz")
T1_WEIGHTS = Path("17_models_meshnet_brainchop/models/model30chan18cls")
ORGANS = {1: "Spleen", 6: "Liver"}
PLACES = ("Lateral ventricle", "Thalamus", "Hippocampus")
NEW = 5
SAMPLED_S = 0.1
Json = dict[str, object]


@dataclass
class Watch:
    """What passes until a block ends: seconds, of processors those of this process and its children, and memory."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Measure a block."""
        ended, begun, cpu = threading.Event(), time.perf_counter(), _cpu_s()
        sampler = threading.Thread(target=self._sample, args=(ended,), daemon=True)
        sampler.start()
        try:
            yield
        finally:
            ended.set()
            sampler.join()
            self.seconds, self.cpu_s = time.perf_counter() - begun, _cpu_s() - cpu

    def _sample(self, ended: threading.Event) -> None:
        while not ended.wait(SAMPLED_S):
            own = psutil.Process()
            self.peak_mb = max(self.peak_mb, sum(map(_memory_mb, (own, *own.children(recursive=True)))))


def _memory_mb(process: psutil.Process) -> float:
    try:
        return memory_mb(process)
    except psutil.NoSuchProcess:
        return 0.0


def _cpu_s() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


@dataclass
class Course:
    """A model on its way from round to round; `examples` open its labels."""

    ports: Ports
    folder: Path
    examples: Examples
    segments: tuple[Segment, ...]
    registry: SimulatedRegistry
    recipe: Recipe
    has_champion: bool
    evidence: GateEvidence | None = None
    rounds: int = 0
    rows: list[Json] = field(default_factory=list)

    def round(self, name: str, entries: Sequence[TrainingEntry]) -> None:
        """Run a round on entries, keep its row, and let its version serve whatever the gate says."""
        self.rounds += 1
        kept, training_set = KeptFolder(self.folder / "kept"), TrainingSet("benchmark", self.segments, tuple(entries))
        champion = self.registry.serving.id if self.has_champion else None
        place = self.folder / f"round-{self.rounds}"
        order = TrainOrder(self.registry.model, champion, training_set.digest, self.recipe, place, is_full=False)
        device = chosen_device(self.ports.settings.device)
        tools = RoundTools(
            self.registry, self.ports.backends, self.examples, kept, device, champion_evidence=self.evidence
        )
        watch = Watch()
        with watch.watching():
            trained = run_round(order, training_set, tools, Control())
        self.evidence = read_evidence(kept.path(trained.evidence).read_bytes())
        version = kept_version(trained, self.registry.model, kept, _read_app)
        self.registry.versions[version.id] = self.registry.serving = version
        self.has_champion = True
        row: Json = {
            "round": name,
            "labels": len(training_set.of(Part.TRAIN)),
            "new": len(training_set.new),
            "gate": len(training_set.of(Part.GATE)),
            "seconds": watch.seconds,
            "cpu_s": watch.cpu_s,
            "peak_mb": watch.peak_mb,
            "steps": trained.steps,
            "verdict": str(trained.verdict),
            "reason": trained.reason,
            "dice": {segment.name: segment.challenger_dice for segment in self.evidence.decision.segments},
            "network": dict(version.app.parameters),
        }
        self.rows.append(row)
        took = f"{watch.seconds:.0f} s, {watch.cpu_s:.0f} s of processors, {watch.peak_mb:.0f} MB"
        say(f"{name}: {took}: {trained.reason}")


def _read_app(table: Mapping[str, object], digest: str) -> App:
    return app_of(table, "benchmark", Path("benchmark"), digest)


def hippocampus(given: argparse.Namespace, ports: Ports, folder: Path) -> Json:
    """Return the row of one round of the shipped model, and its Dice on test cases before and after."""
    first = ports.registry.champion("hippocampus_mr")
    recipe = given.recipe(first.app.recipe or Recipe())
    site = OLD_SITE if given.scanner is None else NEW_SITE
    with ports.reader() as reader:
        read = reading(given.data / POOL, ports, reader, first.app.card)
        scanner = SCANNERS[given.scanner or ScannerKind.MILD]
        cases = SimulatedCases(read.case, first.app.card.segments, 0, scanner)
        names = iter(sorted(read.names, key=label_id))

        def taken(count: int, part: Part, site: str, *, is_new: bool = False) -> list[TrainingEntry]:
            chosen = [next(names) for _ in range(count)]
            return [replace(cases.entry(name, part, site), is_new=is_new) for name in chosen]

        test, new = taken(given.test, Part.TEST, site), taken(NEW, Part.TRAIN, site, is_new=True)
        entries = (*taken(given.replay, Part.TRAIN, OLD_SITE), *new, *taken(given.gate, Part.GATE, site))
        registry = SimulatedRegistry(first.model, first, ports.registry, first, {first.id: first})
        course = Course(ports, folder, cases, first.app.card.segments, registry, recipe, has_champion=True)
        trainings = Trainings(first.app, recipe, ports.registry, ports.backends, cases, folder)
        before = figures_of(trainings.asked("before", first, test, Control()).works)
        course.round(f"{NEW} new labels and {given.replay} replayed", entries)
        after = figures_of(trainings.asked("after", registry.serving, test, Control()).works)
    say(f"test part: Dice {before.dice:.3f} before, {after.dice:.3f} after")
    return {"rounds": course.rows, "test": given.test, "dice_before": before.dice, "dice_after": after.dice}


@dataclass(frozen=True)
class Copies:
    """Moved and noisy copies of one labelled volume; fulfils `round_tools.Examples`. Nothing is kept in memory."""

    volume: Volume
    target: NDArray[np.int16]
    known: frozenset[int]
    noise: float

    def open(self, entry: TrainingEntry, training_set: TrainingSet) -> Example:
        """Return the copy that an entry names by its number."""
        number = int(entry.case_id)
        random = np.random.default_rng(number)
        by = (number % 2, 3 * number % 11, 5 * number % 13)
        voxels = np.roll(self.volume.voxels, by, (0, 1, 2)).astype(np.float32)
        voxels += random.normal(0.0, self.noise, voxels.shape).astype(np.float32)
        target = np.roll(self.target, by, (0, 1, 2))
        return Example(entry, replace(self.volume, voxels=voxels), target, self.known)


def planned(given: argparse.Namespace, ports: Ports, folder: Path) -> Json:
    """Return the rows of a new model: its first version from 5 labels, then a round with 5 more."""
    volume, labels, names = _ct(given.data) if given.command == "ct" else _t1(given.data)
    segments = tuple(Segment(n, name, (60 * n, 99, 99)) for n, name in enumerate(names.values(), 1))
    target = np.zeros(labels.shape, np.int16)
    for number, index in enumerate(names, 1):
        target[labels == index] = number
    noise = 10.0 if given.command == "ct" else 0.02 * float(np.percentile(volume.voxels, 99))
    modality = volume.modality or Modality.MR
    card = ModelCard("New", "Benchmarks.", "Patients.", (modality,), segments, "None", "None", trainable=True)
    blank = ModelVersion(App("new", folder, "torch_module", card, (), {}, "0" * 64), {})
    examples = Copies(replace(volume, modality=modality), target, frozenset(range(1, len(names) + 1)), noise)
    registry = SimulatedRegistry("new", blank, ports.registry, blank)
    course = Course(ports, folder, examples, segments, registry, given.recipe(Recipe()), has_champion=False)
    entries = [
        TrainingEntry(str(n), f"{n:032x}", str(n), Part.TRAIN, segments, is_new=n > NEW) for n in range(1, 2 * NEW + 1)
    ]
    course.round("the first version from 5 labels", [replace(entry, is_new=True) for entry in entries[:NEW]])
    course.round("5 new labels and 5 replayed", entries)
    return {"rounds": course.rows, "shape": list(volume.geometry.shape)}


def _ct(data: Path) -> tuple[Volume, NDArray[np.uint8], dict[int, str]]:
    volume, labels = load(data, 51)
    return volume, labels, ORGANS


def _t1(data: Path) -> tuple[Volume, NDArray[np.uint8], dict[int, str]]:
    """Return the head with what the published network says of it."""
    volume = read_volume(StoredVolume(T1.name, Format.NIFTI, (data / T1,), PatientKey("", T1.name, known=False)))
    app = read_app(Path(__file__).parents[1] / "apps" / "brain_t1")
    version = ModelVersion(app, {weight.name: data / T1_WEIGHTS / weight.name for weight in app.weights})
    found = MeshNetBackend().load(version, "cpu").predict({"T1": volume}, Situation(), Control())
    labels = np.zeros(volume.geometry.shape, np.uint8)
    labels[found.box.slices] = found.labels
    return volume, labels, {s.index: s.name for s in app.card.segments if s.name in PLACES}


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["hippocampus", "ct", "t1"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--gate", type=int, default=0, help="patients that only decide; 0: cross-fitting")
    parser.add_argument("--replay", type=int, default=15, help="labels that were learned from before")
    parser.add_argument(
        "--test", type=int, default=20, help="cases that are drafted before and after, outside the time"
    )
    parser.add_argument("--scanner", type=ScannerKind, choices=list(ScannerKind), help="of the new and the test cases")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--full-steps", type=int)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    """Measure one of the three and write the figures."""
    given = _parsed()

    def asked(recipe: Recipe) -> Recipe:
        steps, full_steps = given.steps or recipe.steps, given.full_steps or recipe.full_steps
        return replace(recipe, steps=steps, full_steps=full_steps)

    given.recipe = asked
    measure: Callable[[argparse.Namespace, Ports, Path], Json] = (
        hippocampus if given.command == "hippocampus" else planned
    )
    with tempfile.TemporaryDirectory() as temporary:
        ports = wire(read_settings(workspace=Path(temporary) / "workspace"))
        use_threads(ports.settings.training_threads)
        say(machine())
        report = {"machine": machine(), **measure(given, ports, Path(temporary))}
    if given.out is not None:
        given.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
