"""Eight hippocampi teach a network something in a minute, and drag a served one nowhere bad in a few steps."""

from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from annotate_server.backends.torch_module.adapter import TorchModuleBackend
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.model import App, ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Example, Part, TrainingEntry, TrainingPlace, TrainingSet
from annotate_server.domain.volume import Modality, Volume
from annotate_server.stores.folder_apps import read_app

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

APP = read_app(Path(__file__).parents[2] / "apps" / "hippocampus_mr")


@dataclass
class Hippocampi:
    """Opens labelled files by their names."""

    folder: Path
    names: tuple[str, ...]

    @property
    def training_set(self) -> TrainingSet:
        segments = APP.card.segments
        entries = tuple(TrainingEntry(n, n, n, Part.TRAIN, segments, is_new=True) for n in self.names)
        return TrainingSet("project", segments, entries)

    def open(self, entry: TrainingEntry) -> Example:
        volume, labels = self.read(entry.case_id)
        return Example(entry, volume, labels, frozenset({1, 2}))

    def read(self, name: str) -> tuple[Volume, np.ndarray]:
        image, label = (nibabel.load(self.folder / part / name) for part in ("images", "labels"))
        voxels, target = (np.ascontiguousarray(np.asanyarray(each.dataobj).T) for each in (image, label))
        ijk_to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
        geometry = Geometry.from_affine(ijk_to_lps[:, [2, 1, 0, 3]], voxels.shape)
        return Volume(voxels.astype(np.float32), geometry, Modality.MR), target.astype(np.int16)


def mean_dice(version: ModelVersion, cases: Hippocampi, names: list[str]) -> float:
    model = TorchModuleBackend().load(version, "cpu")
    values = []
    for name in names:
        volume, truth = cases.read(name)
        found = model.predict({"MR": volume}, Situation(), Control()).labels
        for label in (1, 2):
            ours, theirs = found == label, truth == label
            values.append(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
    return float(np.mean(values))


@pytest.fixture(scope="module")
def names(test_data: Path) -> list[str]:
    return sorted(path.name for path in (test_data / "01_hippocampus_msd" / "dev_pool" / "images").glob("*.nii.gz"))


@pytest.fixture
def cases(test_data: Path, names: list[str]) -> Hippocampi:
    return Hippocampi(test_data / "01_hippocampus_msd" / "dev_pool", tuple(names[:8]))


def test_sixty_steps_on_eight_cases_teach_a_planned_network(
    tmp_path: Path, cases: Hippocampi, names: list[str]
) -> None:
    bare = App("new", Path(), "torch_module", APP.card, (), {}, "0" * 64)
    app = TorchModuleBackend().planned(bare, cases, Control())
    assert app.recipe is not None
    recipe = replace(app.recipe, learning_rate=4e-3, warmup_steps=10)
    few, many = (
        TorchModuleBackend().train(
            ModelVersion(app), cases, replace(recipe, steps=steps), TrainingPlace(tmp_path / str(steps)), Control()
        )
        for steps in (2, 60)
    )
    before, after = (mean_dice(ModelVersion(app, each.files), cases, names[100:108]) for each in (few, many))
    assert before < 0.1
    assert after > before + 0.2


def test_a_few_steps_leave_the_served_network_good(tmp_path: Path, cases: Hippocampi, names: list[str]) -> None:
    start = ModelVersion(APP, {"weights.safetensors": APP.folder / "weights.safetensors"})
    recipe = replace(APP.recipe or Recipe(), steps=10, warmup_steps=2)
    learned = TorchModuleBackend().train(start, cases, recipe, TrainingPlace(tmp_path), Control())
    after = ModelVersion(replace(APP, parameters=learned.parameters), learned.files)
    unseen = names[100:106]
    assert mean_dice(after, cases, unseen) > mean_dice(start, cases, unseen) - 0.02
