"""How good a new model is after its first labels, beside drawing with `any_structure` alone.

`learning_loop.py beginning` runs it. From 5, then 10, then 20 labels of hippocampi a network is planned and trained as
a server does it for `annotate models new`; on the same test cases a robot prompts `any_structure`, as in `annotate
evaluate --robot`. For the spleen on CT there are three cases to learn from, of which two are labelled by other networks
and one is a pseudo-label, and one that a person labelled: fewer than the five that a server asks for, so that it shows
only whether anything is learned. Each point is written when it is done; a run that was interrupted goes on after it.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from annotate_server.backends.devices import limit_threads
from annotate_server.bootstrap import Ports, wire
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.learning_ports import Trainable
from annotate_server.domain.model import App, ModelCard
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Part, TrainingEntry, TrainingSet
from annotate_server.domain.volume import Modality
from annotate_server.imaging.reading import IsolatedReader
from annotate_server.settings import read_settings
from annotate_server.workflows.evaluate import LabelledCase
from annotate_server.workflows.evaluation import CaseFailure
from annotate_server.workflows.examination import ExaminationOrder, examine
from annotate_server.workflows.labelled_folder import LabelledFolder
from annotate_server.workflows.robots import Plan
from annotate_server.workflows.round_tools import LearnedFrom
from annotate_server.workflows.simulated_cases import SimulatedCases, label_id
from annotate_server.workflows.simulated_training import Trainings
from annotate_server.workflows.simulation_report import figures_of

log = logging.getLogger("beginning")
Json = Mapping[str, Any]

HIPPOCAMPUS = (Segment(1, "Anterior hippocampus", (230, 120, 60)), Segment(2, "Posterior hippocampus", (70, 160, 220)))
SPLEEN = (Segment(1, "Spleen", (157, 108, 162)),)
POOL = Path("01_hippocampus_msd/dev_pool")
SPLEENS = {
    "totalsegmentator-small": ("03_totalseg_ct_mr/ct_sm/image.nii.gz", "03_totalseg_ct_mr/ct_sm/label_total.nii.gz"),
    "totalsegmentator-dicom": (
        "03_totalseg_ct_mr/ct_dicom_j2k/dicom",
        "03_totalseg_ct_mr/ct_dicom_j2k/label_total.nii.gz",
    ),
    "crlm-1006": (
        "04_liver_ct_dicom_crlm/CRLM-CT-1006/dicom",
        "04_liver_ct_dicom_crlm/CRLM-CT-1006/pseudo_label_obelisk.nii.gz",
    ),
    "decathlon": ("14_small_labelled/spleen_ct/image.nii.gz", "14_small_labelled/spleen_ct/label_spleen.nii.gz"),
}
"""Volumes and labels; in all of them 1 is the spleen."""
BY_HAND = "decathlon"


@dataclass(frozen=True)
class Question:
    """A structure, the labelled folder that shows it, and which cases are learned from and asked."""

    name: str
    folder: Path
    segments: tuple[Segment, ...]
    modality: Modality
    learned: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Beginning:
    """Trains and asks new models; `folder` holds what is computed, `robot` is the plan of who has no model."""

    ports: Ports
    folder: Path
    robot: Plan
    steps: int

    def points(self, question: Question, numbers: Sequence[int], known: Json) -> Iterator[tuple[str, Json]]:
        """Yield what is not known yet: the robot's figures, then those of a network for each number of labels."""
        labelled = self._labelled(question)
        with self.ports.reader() as reader:
            name = f"{question.name}: any_structure"
            if name not in known:
                yield name, self._prompted(question, labelled, reader)
            for number in numbers:
                name = f"{question.name}: {number} labels"
                if name not in known:
                    yield name, self._begun(question, labelled, reader, number)

    def _labelled(self, question: Question) -> LabelledFolder:
        with self.ports.studies(question.folder / "images") as studies:
            return LabelledFolder(question.folder, tuple(studies.scan()))

    def _prompted(self, question: Question, labelled: LabelledFolder, reader: IsolatedReader) -> Json:
        stored = tuple(each for each in labelled.stored if each.key in question.test)
        predictor, begun = self.ports.predictor(), time.process_time()
        order = ExaminationOrder("any_structure", self.robot, modality=question.modality)
        try:
            found = examine(order, replace(labelled, stored=stored), predictor, reader, Control())
        finally:
            predictor.close()
        after = {} if found.robot is None else {"dice_after_each": list(found.robot.dice_at)}
        return {"dice": found.mean_dice.mean, "cases": len(found.cases), **after, "cpu_s": time.process_time() - begun}

    def _begun(self, question: Question, labelled: LabelledFolder, reader: IsolatedReader, number: int) -> Json:
        card = _card(question)

        def read(name: str) -> LabelledCase | CaseFailure:
            stored = tuple(each for each in labelled.stored if each.key == name)
            return next(iter(replace(labelled, stored=stored).cases(reader, card, question.modality)))

        cases = SimulatedCases(read, question.segments, 0)
        entries = [cases.entry(name, Part.TRAIN) for name in question.learned[:number]]
        test = [cases.entry(name, Part.TEST) for name in question.test]
        begun = time.process_time()
        app = self._planned(App("new", self.folder, "torch_module", card, (), {}, "0" * 64), cases, entries)
        recipe = replace(app.recipe or Recipe(), full_steps=self.steps)
        place = self.folder / f"{question.name}-{number}-{self.steps}"
        trainings = Trainings(app, recipe, self.ports.registry, self.ports.backends, cases, place)
        made = trainings.from_nothing("first", entries, Control())
        trained_s = time.process_time() - begun
        figures = figures_of(trainings.asked("test", trainings.version(made), test, Control()).works)
        return {
            "labels": len(entries),
            "dice": figures.dice,
            "surface_dice": figures.surface_dice,
            "relative_apl": figures.relative_apl,
            "cases": len(test),
            "steps": made.steps,
            "cpu_s": trained_s,
            "spacing_mm": app.parameters["spacing_mm"],
            "patch": list(recipe.patch or ()),
        }

    def _planned(self, app: App, cases: SimulatedCases, entries: Sequence[TrainingEntry]) -> App:
        backend = self.ports.backends.get(app.backend)
        if not isinstance(backend, Trainable):
            raise TypeError(f"{app.backend} does not learn")
        task = LearnedFrom(TrainingSet("benchmark", app.card.segments, tuple(entries)), cases)
        return backend.planned(app, task, Control())


def _card(question: Question) -> ModelCard:
    return ModelCard(
        "New", "Benchmarks.", "Patients.", (question.modality,), question.segments, "None", "None", trainable=True
    )


def hippocampus(data: Path, most: int, test: int) -> Question:
    """Return the question about hippocampi; the cases are drawn by the digest of their names."""
    names = sorted((path.name for path in (data / POOL / "images").glob("*.nii.gz")), key=label_id)
    chosen, rest = tuple(names[:test]), tuple(names[test : test + most])
    return Question("hippocampus", data / POOL, HIPPOCAMPUS, Modality.MR, rest, chosen)


def spleen(data: Path, folder: Path) -> Question:
    """Return the question about spleens, with copies of volumes and labels in a folder as it is read."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    keys = {}
    for name, (volume, label) in SPLEENS.items():
        is_dicom = (data / volume).is_dir()
        keys[name] = name if is_dicom else f"{name}.nii.gz"
        copied = folder / "images" / keys[name]
        if not copied.exists():
            copy: Callable[[Path, Path], object] = shutil.copytree if is_dicom else shutil.copyfile
            copy(data / volume, copied)
        file = nibabel.load(data / label)
        only = (np.asanyarray(file.dataobj) == 1).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(only, file.affine), folder / "labels" / f"{name}.nii.gz")
    learned = tuple(key for name, key in keys.items() if name != BY_HAND)
    return Question("spleen", folder, SPLEEN, Modality.CT, learned, (keys[BY_HAND],))


@dataclass(frozen=True)
class Wanted:
    """What is asked for: how many labels, tested on how many cases, trained for how many steps."""

    data: Path
    labels: tuple[int, ...]
    test: int
    steps: int
    robot: str
    out: Path


def measure(wanted: Wanted) -> None:
    """Compute every point that the file does not hold yet, one thread, and write each when it is done."""
    known: dict[str, Any] = json.loads(wanted.out.read_text()) if wanted.out.is_file() else {}
    folder = wanted.out.with_suffix(".work")
    ports = wire(read_settings(workspace=folder / "workspace"))
    beginning = Beginning(ports, folder, Plan.parse(wanted.robot), wanted.steps)
    limit_threads(1)
    asked = (
        (hippocampus(wanted.data, max(wanted.labels), wanted.test), wanted.labels),
        (spleen(wanted.data, folder / "spleens"), (len(SPLEENS) - 1,)),
    )
    for question, numbers in asked:
        for name, point in beginning.points(question, numbers, known):
            log.info("%s: %s", name, point)
            known[name] = point
            wanted.out.write_text(json.dumps(known, indent=1))
    shutil.rmtree(folder)
