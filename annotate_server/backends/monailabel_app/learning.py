"""How a hosted app learns: its own TrainTask on our labels, written as the app's datastore keeps them."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory

import numpy as np
import torch

from annotate_server.backends.environments.guest import Environment, Guest
from annotate_server.backends.monailabel_app.app_folder import laid_out
from annotate_server.backends.monailabel_app.loaded import ENVIRONMENT, HOST, opening
from annotate_server.backends.monailabel_app.request import storable
from annotate_server.backends.monailabel_app.tasks import MonaiLabelAppParameters
from annotate_server.backends.training import weights
from annotate_server.domain.errors import InvalidRequest, NotMadeFor, WeightsInvalid
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import IGNORED, Checkpoint, Example, Part, TrainingPlace, TrainingPoint
from annotate_server.imaging.nifti_writing import write_nifti

TRAINED = "trained.pt"


@dataclass(frozen=True)
class _Lesson:
    """What is learned: the app with where it publishes, the files of cases, how many voxels, what was left out."""

    parameters: MonaiLabelAppParameters
    publishes: str
    cases: int
    voxels: int
    notes: tuple[str, ...]


def train(
    start: ModelVersion, training: TrainingTask, recipe: Recipe, place: TrainingPlace, control: Control
) -> Checkpoint:
    """Train by the app's own TrainTask from a version's weights; an interrupted training begins again.

    The app decides on patches, augmentation, loss and learning rate; of the recipe the number of steps and the seed
    count. Raises NotMadeFor for an app or labels that it cannot learn from, PredictionFailed with what it raised.
    """
    began = time.monotonic()
    with TemporaryDirectory(prefix="hosted-", dir=place.folder, ignore_cleanup_errors=True) as name:
        lesson = _prepared(start, training, Path(name), control)
        epochs = max(1, round(recipe.steps / lesson.cases))
        _run(lesson, Path(name), replace(recipe, steps=epochs * lesson.cases), place, control)
    parameters = lesson.parameters
    kept = {file: where for file, where in parameters.weights.items() if where != lesson.publishes and file != TRAINED}
    files = {name: start.files[name] for name in (parameters.archive, *kept)}
    return Checkpoint(
        {**files, TRAINED: place.folder / TRAINED},
        replace(parameters, weights={**kept, TRAINED: lesson.publishes}).table(),
        start.app.card.segments,
        epochs * lesson.cases,
        epochs * lesson.voxels,
        time.monotonic() - began,
        lesson.notes,
    )


def _run(lesson: _Lesson, folder: Path, recipe: Recipe, place: TrainingPlace, control: Control) -> None:
    """Let the app train on what lies in `folder`, and write its weights into the training's own folder."""
    words = {
        "task": lesson.parameters.task,
        "folder": str(folder),
        "target": str(place.folder / TRAINED),
        "begin": _beginning(lesson, folder / "app"),
        "device": control.device,
        "epochs": recipe.steps // lesson.cases,
        "steps": recipe.steps,
        "seed": recipe.seed,
    }
    telling = _telling(control, folder / "points.jsonl", place)
    opened = opening(folder / "app", folder / "studies", lesson.parameters.conf)
    guest = Guest.start(Environment.named(ENVIRONMENT), HOST, opened)
    try:
        guest.call("train", words, {}, telling)
        telling.report(1.0, "The app has learned")  # what it wrote since it last reported is read too
    finally:
        guest.close()


def between(old: ModelVersion, new: Checkpoint, share: float, folder: Path) -> Checkpoint:
    """Return the network whose weights lie `share` of the way from old to new."""
    key, after = _state(new.files[TRAINED], old.model)
    _, before = _state(_served(old), old.model)
    mixed = weights.between(before, after, share)
    torch.save(mixed if key is None else {key: mixed}, folder / TRAINED)
    return replace(new, files={**new.files, TRAINED: folder / TRAINED})


def _prepared(start: ModelVersion, training: TrainingTask, folder: Path, control: Control) -> _Lesson:
    """Lay the app and the cases out in `folder`."""
    parameters = MonaiLabelAppParameters.of(start.app)
    if parameters.trainer is None:
        raise NotMadeFor("its app has no training for it that can be hosted", source=start.model)
    if parameters.archive not in start.files:
        raise NotMadeFor("an app of MONAI Label is not trained from nothing", source=start.model)
    numbers = _numbers(training, start, parameters)
    app, studies = folder / "app", folder / "studies"
    app.mkdir()
    (studies / "labels" / "final").mkdir(parents=True)
    own = {where: start.files[name] for name, where in parameters.weights.items()}
    laid_out(start.files[parameters.archive], own, app)
    voxels, notes = [], []
    entries = training.training_set.of(Part.TRAIN)
    for count, entry in enumerate(entries):
        control.check()
        control.report(0.1 * count / len(entries), "Writing the cases for the app")
        example = training.open(entry)
        if (example.target == IGNORED).any() or example.known != frozenset(range(1, len(numbers))):
            notes.append(f"The label {entry.label_id} is left out: an app takes labels that speak about everything.")
            continue
        voxels.append(_written(example, numbers, studies, f"case{count:05}"))
    if not voxels:
        raise NotMadeFor("no label speaks about every voxel and segment, as an app wants it", source=start.model)
    return _Lesson(parameters, parameters.trainer, len(voxels), sum(voxels), tuple(notes))


def _numbers(training: TrainingTask, start: ModelVersion, parameters: MonaiLabelAppParameters) -> Sequence[int]:
    """Return the number that the app gives each segment of a training set, 0 for background first.

    Matched by name: MONAI Label's clients send ranks, its trainers read numbers, and labels then teach other organs.
    """
    named = zip(start.app.card.segments, parameters.labels, strict=True)
    numbers = {segment.name.casefold(): label.number for segment, label in named}
    unknown = [s.name for s in training.training_set.segments if s.name.casefold() not in numbers]
    if unknown:
        raise InvalidRequest(
            f"the app's network has no output for {', '.join(unknown)}, and gets none here",
            remedy="Take the segments that its card lists.",
        )
    return (0, *(numbers[segment.name.casefold()] for segment in training.training_set.segments))


def _written(example: Example, numbers: Sequence[int], studies: Path, name: str) -> int:
    """Write an example as a volume and its final label of MONAI Label's datastore; return its number of voxels."""
    geometry = example.volume.geometry
    write_nifti(storable(example.volume.voxels), geometry, studies / f"{name}.nii.gz")
    label = np.array(numbers, np.int16)[example.target]
    write_nifti(label, geometry, studies / "labels" / "final" / f"{name}.nii.gz")
    return label.size


def _beginning(lesson: _Lesson, app: Path) -> str | None:
    """Return the weights that a training begins from: those that serve, None where there are none."""
    places = _by_service(lesson.parameters)
    return str(app / places[-1]) if places else None


def _by_service(parameters: MonaiLabelAppParameters) -> Sequence[str]:
    """Return the places of weights, those that MONAI Label would load last: what a training has published."""
    return sorted(parameters.weights.values(), key=lambda where: where == parameters.trainer)


def _served(version: ModelVersion) -> Path:
    """Return the file of weights that a version serves."""
    parameters = MonaiLabelAppParameters.of(version.app)
    names: Mapping[str, str] = {where: name for name, where in parameters.weights.items()}
    return version.files[names[_by_service(parameters)[-1]]]


def _state(path: Path, model: str) -> tuple[str | None, dict[str, torch.Tensor]]:
    """Return the weights of a file, and under which key they lie in it; None for weights alone."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise WeightsInvalid("the weights cannot be read", source=model) from error
    if isinstance(content, dict):
        if all(isinstance(value, torch.Tensor) for value in content.values()):
            return None, content
        for key, value in content.items():
            if isinstance(value, dict) and value and all(isinstance(part, torch.Tensor) for part in value.values()):
                return str(key), dict(value)
    raise WeightsInvalid("the file holds no weights of a network", source=model)


def _telling(control: Control, file: Path, place: TrainingPlace) -> Control:
    """Return the control of a call: with each report, the points that the app's training wrote are passed on."""
    read = [0]

    def report(fraction: float, sentence: str) -> None:
        if file.is_file():
            lines = file.read_text().splitlines(keepends=True)
            for line in lines[read[0] :]:
                if line.endswith("\n"):
                    step, steps, loss, rate, elapsed_s = json.loads(line)
                    place.on_point(TrainingPoint(step, steps, loss, rate, elapsed_s))
                    read[0] += 1
        control.report(0.1 + 0.9 * fraction, sentence)

    return replace(control, report=report)
