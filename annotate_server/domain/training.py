"""Training: what a network learns from, with which parameters, and what comes of it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import WeightFile
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.volume import Volume

IGNORED = -1
"""What a target holds where the label says nothing."""


class Part(StrEnum):
    """What the labels of a patient may be used for; drawn once, for ever.

    Labels of `GATE` patients decide on promotions and those of `TEST` patients only tell how good a version is: no
    network ever learns from either.
    """

    TRAIN = "train"
    GATE = "gate"
    TEST = "test"


@dataclass(frozen=True)
class TrainingEntry:
    """One label of a training set.

    `patient` is a pseudonym. `site` is what replay is balanced by, for example the scanner; empty where nothing tells.
    `is_new` says that no version of the model has learned from the label yet. `segments` are those that the label
    speaks about: a segment of the training set that is not among them may be anywhere in its background. A partial
    label speaks only about the slices in which it holds something.
    """

    case_id: str
    label_id: str
    patient: str
    part: Part
    segments: tuple[Segment, ...]
    site: str = ""
    is_new: bool = False
    is_partial: bool = False


@dataclass(frozen=True)
class TrainingSet:
    """A frozen list of labels with their parts; the same list has the same digest.

    `segments` are what the network is to answer, in the order of its channels: new ones come last.
    """

    project_id: str
    segments: tuple[Segment, ...]
    entries: tuple[TrainingEntry, ...]

    @cached_property
    def content(self) -> bytes:
        """Return the set as canonical JSON: the same bytes for the same set."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 (hex) of `content`."""
        return hashlib.sha256(self.content).hexdigest()

    def of(self, part: Part) -> tuple[TrainingEntry, ...]:
        """Return the entries of one part, in their order."""
        return tuple(entry for entry in self.entries if entry.part is part)

    @property
    def new(self) -> tuple[TrainingEntry, ...]:
        """Return what may be trained on and no version has learned from."""
        return tuple(entry for entry in self.of(Part.TRAIN) if entry.is_new)


@dataclass(frozen=True)
class Example:
    """What a network learns from one label.

    `target` is (k, j, i) on the volume's own grid, int16: indices of the training set's segments, 0 for background,
    `IGNORED` where the label says nothing. `known` are the indices that the label speaks about: its background may be
    any of the others.
    """

    entry: TrainingEntry
    volume: Volume
    target: NDArray[np.int16]
    known: frozenset[int]


@dataclass(frozen=True)
class TrainingPoint:
    """One point of a training's curve."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    elapsed_s: float


def _ignore(point: TrainingPoint) -> None:
    """Take a point that nobody asked for."""


@dataclass(frozen=True)
class TrainingPlace:
    """Where a training writes, and whom it tells.

    `folder` holds the checkpoint that the same training resumes from after it was killed, and the finished files.
    """

    folder: Path
    on_point: Callable[[TrainingPoint], None] = _ignore


@dataclass(frozen=True)
class Checkpoint:
    """What a training gives: files of weights by the names that the app gives them, and how they are to be read.

    `parameters` are the backend's own, as in an app, and `segments` what the network answers. `steps` and `voxels`
    (those of all volumes that went forward and back) say what it took.
    """

    files: Mapping[str, Path]
    parameters: Mapping[str, object]
    segments: tuple[Segment, ...]
    steps: int
    voxels: int
    seconds: float
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class TrainOrder:
    """One round: what a job of the kind `train` asks a worker for.

    `champion` is the version that is trained from, None to begin from nothing. `training_set` is the SHA-256 of the
    blob with the set, `folder` where the round keeps what it resumes from. `is_full` asks for a training from the
    original checkpoint on everything.
    """

    model: str
    champion: str | None
    training_set: str
    recipe: Recipe
    folder: Path
    is_full: bool = False


class Verdict(StrEnum):
    """What the gate says of a challenger."""

    PROMOTE = "promote"
    PROMOTE_PROVISIONALLY = "promote-provisionally"
    KEEP = "keep"
    ASK = "ask"


@dataclass(frozen=True)
class Trained:
    """What a round gave, as a worker has put it into the store: a challenger, and what the gate said of it.

    `description` and `evidence` are SHA-256 of blobs (the app as JSON; the gate's figures as JSON), `weights` name
    blobs. `reason` is a sentence for a person.
    """

    version: str
    description: str
    weights: tuple[WeightFile, ...]
    verdict: Verdict
    reason: str
    evidence: str
    steps: int
    voxels: int
    seconds: float
