"""A toy model as an app in a folder, phantoms that it learns, and their labels, for tests of the learning loop."""

import hashlib
import shutil
from pathlib import Path

import numpy as np

from annotate_server.backends.torch_module.adapter import TorchModuleBackend
from annotate_server.client import AnnotateClient
from annotate_server.domain.errors import StateError
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.model import App, ModelCard, ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Example, Part, TrainingEntry, TrainingPlace, TrainingSet
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.labelmap_files import LabelmapFormat, write_labelmap
from annotate_server.testing.phantom_files import write_nifti

BALL = Segment(1, "Ball", (200, 30, 30))
SHAPE = (14, 17, 20)
NAME = "toy"
_GEOMETRY = Geometry(SHAPE, (2.0, 2.0, 2.0), ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)), (0.0, 0.0, 0.0))


def phantom(seed: int) -> tuple[Volume, np.ndarray]:
    """Return a bright ball in noise, and where it is."""
    random = np.random.default_rng(seed)
    k, j, i = np.indices(SHAPE)
    centre = [side / 2 + random.uniform(-3, 3) for side in SHAPE]
    inside = (k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2 < 20
    voxels = 100 + random.normal(0, 12, SHAPE) + 60 * inside
    return Volume(voxels.astype(np.float32), _GEOMETRY, Modality.MR), inside.astype(np.uint8)


def write_phantoms(folder: Path, count: int) -> Path:
    """Write phantoms 1 to `count` as NIfTI, each of a patient of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(1, count + 1):
        volume, _ = phantom(seed)
        write_nifti(folder / f"{seed:02}.nii.gz", volume.voxels, volume.geometry)
    return folder


def approve(client: AnnotateClient, project: str, folder: Path, seeds: range) -> None:
    """Import the labels of phantoms into a project; without a review they are approved at once."""
    cases = {case.name: case.id for case in client.cases()}
    for seed in seeds:
        _, inside = phantom(seed)
        path = folder / f"label-{seed}.nii.gz"
        write_labelmap(Labelmap(inside, _GEOMETRY, (BALL,)), path, LabelmapFormat.NIFTI)
        client.import_label(project, cases[f"{seed:02}.nii.gz"], path)


class _Task:
    """Opens phantoms by the number in their case id."""

    training_set = TrainingSet(
        "toy", (BALL,), tuple(TrainingEntry(str(n), f"l{n}", f"p{n}", Part.TRAIN, (BALL,)) for n in (101, 102))
    )

    def open(self, entry: TrainingEntry) -> Example:
        if entry.part is not Part.TRAIN:
            raise StateError("not to be learned from")
        volume, inside = phantom(int(entry.case_id))
        return Example(entry, volume, inside.astype(np.int16), frozenset({1}))


def write_app(apps: Path, recipe: str, steps: int = 5) -> Path:
    """Write the toy model as an app that has hardly learned anything, with `recipe` as its table."""
    parameters = {
        "architecture": "unet",
        "network": {"widths": [8, 16], "classes": 2},
        "spacing_mm": [2.0, 2.0, 2.0],
        "smallest_grid": [16, 20, 24],
    }
    card = ModelCard("Toy", "", "", (Modality.MR,), (BALL,), "MIT", "", trainable=True)
    app = App(NAME, apps / NAME, "torch_module", card, (), parameters, "0" * 64)
    place = TrainingPlace(apps / ".making")
    place.folder.mkdir(parents=True)
    made = TorchModuleBackend().train(ModelVersion(app), _Task(), Recipe(steps=steps), place, Control())
    (apps / NAME).mkdir()
    (name, weights), *_ = made.files.items()
    content = weights.read_bytes()
    (apps / NAME / name).write_bytes(content)
    shutil.rmtree(place.folder)
    (apps / NAME / "app.toml").write_text(
        _APP.format(recipe=recipe, name=name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    )
    return apps


_APP = """
title = "Toy"
purpose = "Tests."
not_for = "Patients."
backend = "torch_module"
modalities = ["MR"]
licence = "MIT"
attribution = "Nobody."
trainable = true

[[segments]]
index = 1
name = "Ball"
colour = [200, 30, 30]

[[weights]]
name = "{name}"
sha256 = "{sha256}"
size_bytes = {size_bytes}
bundled = true

[parameters]
architecture = "unet"
spacing_mm = [2.0, 2.0, 2.0]
smallest_grid = [16, 20, 24]

[parameters.network]
widths = [8, 16]
classes = 2

[recipe]
{recipe}
"""
