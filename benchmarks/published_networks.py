"""Whether the published networks get better when they are trained: Dice on another case before and after a few steps.

    python benchmarks/published_networks.py meshnet --data DATA --out meshnet.json
    python benchmarks/published_networks.py obelisk --data DATA --out obelisk.json

Both learn from one volume whose contrast was changed, in three noisy copies, and are asked for another person's volume
with the same change. `meshnet` (brain_tissue) learns from a T1 of 1 mm and is asked for a head of 2.4 mm; the truth is
what the network itself says of each head before the change, so that 1 means as good as before. `obelisk` (abdomen_ct)
learns from the CT of 512 x 512 x 51 with its pseudo-label and is asked for a CT with labels by TotalSegmentator.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prompt_latency import load
from serving import machine, say

from annotate_server.backends.devices import limit_threads
from annotate_server.backends.meshnet.adapter import MeshNetBackend
from annotate_server.backends.obelisk.adapter import ObeliskBackend
from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.model import App, ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Example, Part, TrainingEntry, TrainingPlace, TrainingSet
from annotate_server.domain.volume import Volume
from annotate_server.imaging.overlap import dice
from annotate_server.imaging.reading import read_volume
from annotate_server.imaging.resampling import Interpolation, resample
from annotate_server.stores.folder_apps import read_app

APPS = Path(__file__).parents[1] / "apps"
HEADS = ("15_brain_volumes/t1_crop_conformed256_LIA.nii.gz", "16_nifti_48_orientations/SPL.nii.gz")
MESHNET = "17_models_meshnet_brainchop/models/model11_gw_ae"
OBELISK = "18_models_obelisk_ct/models"
SMALL_CT = "03_totalseg_ct_mr/ct_sm"
TOTALSEGMENTATOR = {1: 1, 7: 2, 3: 3, 4: 4, 15: 5, 5: 6, 6: 7, 19: 8}
"""TotalSegmentator's index of each organ of abdomen_ct, by whose index it is."""
COPIES = 3
Backend = MeshNetBackend | ObeliskBackend
Change = Callable[[NDArray[np.generic], np.random.Generator], NDArray[np.float32]]


@dataclass(frozen=True)
class Labelled:
    """A volume with its labels (k, j, i)."""

    volume: Volume
    labels: NDArray[np.int16]


@dataclass(frozen=True)
class Lesson:
    """What is learned and asked; both volumes are shown with the same `change` of contrast."""

    backend: Backend
    start: ModelVersion
    learned: Labelled
    asked: Labelled
    change: Change

    @property
    def training_set(self) -> TrainingSet:
        """Return the copies as labels."""
        segments = self.start.app.card.segments
        entries = (TrainingEntry(str(n), f"{n:032x}", str(n), Part.TRAIN, segments, is_new=True) for n in range(COPIES))
        return TrainingSet("benchmark", segments, tuple(entries))

    def open(self, entry: TrainingEntry) -> Example:
        """Return a copy."""
        known = frozenset(segment.index for segment in self.start.app.card.segments)
        return Example(entry, self.shown(self.learned, int(entry.case_id)), self.learned.labels, known)

    def shown(self, case: Labelled, seed: int) -> Volume:
        """Return a volume with its contrast changed."""
        return replace(case.volume, voxels=self.change(case.volume.voxels, np.random.default_rng(seed)))

    def dice(self, version: ModelVersion, *, changed: bool = True) -> Mapping[str, float]:
        """Return the Dice of each segment that the asked case has."""
        volume = self.shown(self.asked, COPIES) if changed else self.asked.volume
        found = drafted(self.backend, version, volume)
        truth = self.asked.labels
        present = [s for s in version.app.card.segments if (truth == s.index).any()]
        return {segment.name: dice(truth == segment.index, found == segment.index) for segment in present}


def drafted(backend: Backend, version: ModelVersion, volume: Volume) -> NDArray[np.int16]:
    """Return the labels of a whole volume."""
    model = backend.load(version, "cpu")
    answer = model.predict({str(volume.modality or "volume"): volume}, Situation(), Control())
    model.close()
    labels = np.zeros(volume.geometry.shape, np.int16)
    labels[answer.box.slices] = answer.labels
    return labels


def meshnet(data: Path) -> Lesson:
    """Return the lesson about heads: dark tones darker, bright ones brighter, and noise."""
    backend, start = MeshNetBackend(), _version("brain_tissue", data / MESHNET)
    heads = [_nifti(data / path) for path in HEADS]
    learned, asked = (Labelled(volume, drafted(backend, start, volume)) for volume in heads)

    def change(voxels: NDArray[np.generic], random: np.random.Generator) -> NDArray[np.float32]:
        shares = np.clip(voxels / np.percentile(voxels, 99.5), 0.0, 1.0).astype(np.float32)
        noise = random.normal(0.0, 0.02, shares.shape).astype(np.float32)
        return 1000.0 * np.clip(shares**2.2 + noise, 0.0, None)

    return Lesson(backend, start, learned, asked, change)


def obelisk(data: Path) -> Lesson:
    """Return the lesson about abdomens: soft tissue with a third of its contrast, and noise."""
    volume, labels = load(data, 51)
    small = _nifti(data / SMALL_CT / "image.nii.gz")
    theirs = _nifti(data / SMALL_CT / "label_total.nii.gz")
    total = resample(theirs.voxels, theirs.geometry, small.geometry, Interpolation.NEAREST)
    organs = np.zeros(small.geometry.shape, np.int16)
    for their, own in TOTALSEGMENTATOR.items():
        organs[total == their] = own

    def change(voxels: NDArray[np.generic], random: np.random.Generator) -> NDArray[np.float32]:
        values = voxels.astype(np.float32)
        soft = (values > -150.0) & (values < 300.0)
        flat = np.where(soft, 60.0 + (values - 60.0) / 3.0, values)
        return flat + random.normal(0.0, 8.0, flat.shape).astype(np.float32)

    start = _version("abdomen_ct", data / OBELISK)
    return Lesson(ObeliskBackend(), start, Labelled(volume, labels.astype(np.int16)), Labelled(small, organs), change)


def _version(name: str, folder: Path) -> ModelVersion:
    app = read_app(APPS / name)
    return ModelVersion(app, {weight.name: folder / weight.name for weight in app.weights})


def _nifti(path: Path) -> Volume:
    return read_volume(StoredVolume(path.name, Format.NIFTI, (path,), PatientKey("", path.name, known=False)))


def measured(lesson: Lesson, steps: int | None) -> Mapping[str, object]:
    """Return Dice on the asked case: as it is, with changed contrast, and the same after learning."""
    recipe = lesson.start.app.recipe or Recipe()
    recipe = replace(recipe, steps=steps or recipe.steps)
    rows = {"unchanged": lesson.dice(lesson.start, changed=False), "before": lesson.dice(lesson.start)}
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        made = lesson.backend.train(lesson.start, lesson, recipe, TrainingPlace(Path(folder)), Control())
        cpu_s = time.process_time() - begun
        app = replace(lesson.start.app, parameters=made.parameters)
        rows["after"] = lesson.dice(ModelVersion(_with_files(app, made.files), made.files))
    for name, row in rows.items():
        say(f"{name:10} mean Dice {np.mean(list(row.values())):.3f}  {row}")
    return {"machine": machine(), "steps": made.steps, "cpu_s": cpu_s, **rows}


def _with_files(app: App, files: Mapping[str, Path]) -> App:
    """Return the app with the names of the files that a training gave."""
    return replace(app, weights=tuple(replace(app.weights[0], name=name) for name in files))


def main() -> None:
    """Measure one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["meshnet", "obelisk"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, help="default: the recipe's")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    limit_threads(1)
    report = measured({"meshnet": meshnet, "obelisk": obelisk}[given.kind](given.data), given.steps)
    if given.out is not None:
        given.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
