"""Small labelled phantoms that a small network learns in seconds, and the task that gives them out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotate_server.domain.errors import StateError
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import App, ModelCard, ModelVersion
from annotate_server.domain.training import Checkpoint, Example, Part, TrainingEntry, TrainingSet
from annotate_server.domain.volume import Modality, Volume

BALL = Segment(1, "Ball", (200, 30, 30))
BOX = Segment(2, "Box", (30, 200, 30))
SHELL = Segment(3, "Shell", (30, 30, 200))
SHAPE = (15, 18, 22)


def phantom(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[Volume, np.ndarray]:
    """Return a volume (2 mm, RAS order of axes) with a bright ball (1) and a dark box (2) in noise, and its labels."""
    random = np.random.default_rng(seed)
    k, j, i = np.indices(shape)
    centre = [side * 0.3 + random.uniform(-1.5, 1.5) for side in shape]
    labels = np.zeros(shape, np.int16)
    labels[(k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2 < 16] = 1
    low = [int(side * 0.6 + random.integers(-1, 2)) for side in shape]
    labels[low[0] : low[0] + 4, low[1] : low[1] + 5, low[2] : low[2] + 6] = 2
    voxels = 100 + random.normal(0, 12, shape) + 60 * (labels == 1) - 60 * (labels == 2)
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])[:, [0, 1, 2, 3]]
    geometry = Geometry.from_affine(affine[:, [2, 1, 0, 3]], shape)
    return Volume(voxels.astype(np.float32), geometry, Modality.MR), labels


@dataclass
class PhantomTask:
    """Opens phantoms by the number in their case id; labels of the gate are refused."""

    training_set: TrainingSet
    change: Callable[[Example], Example] = lambda example: example

    def open(self, entry: TrainingEntry) -> Example:
        if entry.part is not Part.TRAIN:
            raise StateError("it is a label of the gate or the test")
        volume, labels = phantom(int(entry.case_id))
        return self.change(Example(entry, volume, labels, frozenset(s.index for s in entry.segments)))


def phantom_set(new: int = 2, replay: int = 2, segments: tuple[Segment, ...] = (BALL, BOX)) -> TrainingSet:
    """Return a training set of phantoms, the last `new` of which no version has learned from."""
    entries = tuple(
        TrainingEntry(str(n), f"label-{n}", f"patient-{n}", Part.TRAIN, segments, "", is_new=n >= replay)
        for n in range(new + replay)
    )
    return TrainingSet("project", segments, entries)


def unet_app(segments: tuple[Segment, ...] = (BALL, BOX), **changes: object) -> App:
    """Return the description of a U-Net that is small enough for a test."""
    parameters = {
        "architecture": "unet",
        "network": {"widths": [8, 16, 16], "classes": len(segments) + 1},
        "spacing_mm": [2.0, 2.0, 2.0],
        "smallest_grid": [16, 20, 24],
        **changes,
    }
    card = ModelCard("Phantoms", "", "", (Modality.MR,), segments, "MIT", "", trainable=True)
    return App("phantoms", Path(), "torch_module", card, (), parameters, "0" * 64)


def version_of(app: App, checkpoint: Checkpoint | None = None) -> ModelVersion:
    """Return a version without weights, or with those of a checkpoint."""
    return ModelVersion(app, {} if checkpoint is None else checkpoint.files)


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean Dice of the segments of the truth."""
    labels = [label for label in np.unique(truth) if label > 0]
    pairs = [(found == label, truth == label) for label in labels]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))
