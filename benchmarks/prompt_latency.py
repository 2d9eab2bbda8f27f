"""How long `any_structure` takes to answer a warm prompt on a large CT, and where the time goes.

python benchmarks/prompt_latency.py --data ../shared/data            the CT as it is, 512 x 512 x 51
python benchmarks/prompt_latency.py --data ../shared/data --slices 300   interpolated to 300 slices

A robot draws a lasso round a structure and then clicks where the draft is wrong; the truth it looks at is a network's
label of the same CT. The draft also holds the other organs of that label, as it does in use: they are never taken.
The model is asked in this process. The first structure warms up and is not counted. Compare times within one run.
"""

import argparse
import cProfile
import pstats
import time
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.backends.growcut.adapter import GrowCutBackend
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.model import ModelVersion, Situation
from annotate_server.domain.ports import Control, LoadedModel
from annotate_server.domain.prompt import Prompt
from annotate_server.domain.volume import Volume
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.reading import read_volume
from annotate_server.stores.folder_apps import read_app
from annotate_server.stores.folder_studies import FolderStudies
from annotate_server.workflows.robots import Plan, answered, next_prompt, overlap

CASE = Path("04_liver_ct_dicom_crlm/CRLM-CT-1006")
ORGANS = {3: "left kidney", 1: "spleen", 6: "liver", 7: "stomach"}
PHASES = 14


@dataclass
class Times:
    """Milliseconds of each prompt of a structure, and Dice at the end."""

    name: str
    milliseconds: list[float] = field(default_factory=list)
    dice: float = 0.0

    def line(self) -> str:
        """Return the figures of the structure."""
        p50, p95 = np.percentile(self.milliseconds, [50, 95])
        each = " ".join(f"{ms:.0f}" for ms in self.milliseconds)
        return f"{self.name:12} p50 {p50:4.0f} ms  p95 {p95:4.0f} ms  Dice {self.dice:.3f}   {each}"


def load(data: Path, slices: int) -> tuple[Volume, NDArray[np.uint8]]:
    """Return the CT and its labels (k, j, i), interpolated to a number of slices (labels to the nearest)."""
    with Isolated() as isolated:
        volume = read_volume(next(iter(FolderStudies(data / CASE / "dicom", isolated).scan())))
    file = nibabel.load(data / CASE / "pseudo_label_obelisk.nii.gz")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ file.affine @ np.eye(4)[[2, 1, 0, 3]]
    labels = np.asanyarray(file.dataobj).T.astype(np.uint8)
    assert Geometry.from_affine(affine, labels.shape).matches(volume.geometry)  # noqa: S101  else the run means nothing
    if slices == len(labels):
        return volume, np.ascontiguousarray(labels)
    k, j, i = volume.geometry.spacing_mm
    grid = volume.geometry.resized((k * len(labels) / slices, j, i))
    factors = (slices / len(labels), 1, 1)
    voxels = ndimage.zoom(volume.voxels, factors, order=1, grid_mode=True, mode="nearest")
    near = ndimage.zoom(labels, factors, order=0, grid_mode=True, mode="nearest")
    return Volume(voxels, grid, volume.modality, volume.unit), near


def drive(model: LoadedModel, volume: Volume, labels: NDArray[np.uint8], index: int, plan: Plan) -> Times:
    """Let the robot prompt for one organ, the others being in the draft from the start."""
    segments = tuple(Segment(n, f"organ {n}", (9, 9, 9)) for n in range(1, int(labels.max()) + 1))
    active = segments[index - 1]
    truth = labels == index
    voxels = np.where(truth, 0, labels).astype(np.uint8)
    prompts: list[Prompt] = []
    times = Times(ORGANS[index])
    for step in range(plan.length):
        prompt = next_prompt(plan, step, truth, voxels == index, volume.geometry, active)
        if prompt is None:
            break
        prompts.append(prompt)
        situation = Situation(Labelmap(voxels, volume.geometry, segments), active, prompts=tuple(prompts))
        begun = time.perf_counter()
        answer = model.predict({"CT": volume}, situation, Control())
        times.milliseconds.append((time.perf_counter() - begun) * 1e3)
        voxels = answered(voxels, answer, active)
    times.dice = overlap(truth, voxels == index)
    return times


def report_phases(profile: cProfile.Profile, prompts: int) -> None:
    """Print the functions in which most of the time goes: with what they call, and by themselves."""
    rows = []
    for (file, _, name), (_, calls, own, whole, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]  # missing in the stubs
        rows.append((whole, own, calls, f"{Path(file).stem}.{name}" if file != "~" else name))
    for title, order in (("with what they call", 0), ("by themselves", 1)):
        print(f"\nms a prompt, {title}")  # noqa: T201  a script for people
        for row in sorted(rows, key=lambda row: -row[order])[:PHASES]:
            print(f"{row[order] * 1e3 / prompts:8.1f}  {row[2] / prompts:6.1f} calls  {row[3]}")  # noqa: T201


def main() -> None:
    """Run the robot on every organ, and print times and phases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--slices", type=int, default=51)
    parser.add_argument("--plan", default="lasso:1+clicks:9")
    parser.add_argument(
        "--phases", action="store_true", help="also say where the time goes (slower: do not quote both)"
    )
    wanted = parser.parse_args()
    volume, labels = load(wanted.data, wanted.slices)
    app = read_app(Path(__file__).parents[1] / "apps/any_structure")
    model, plan = GrowCutBackend().load(ModelVersion(app), "cpu"), Plan.parse(wanted.plan)
    drive(model, volume, labels, next(iter(ORGANS)), plan)
    profile, runs = cProfile.Profile(), []
    for index in ORGANS:
        fresh = GrowCutBackend().load(ModelVersion(app), "cpu")
        if wanted.phases:
            profile.enable()
        runs.append(drive(fresh, volume, labels, index, plan))
        profile.disable()
        print(runs[-1].line(), flush=True)  # noqa: T201
    everything = [ms for run in runs for ms in run.milliseconds]
    p50, p95, most = np.percentile(everything, [50, 95, 100])
    shape = " x ".join(map(str, volume.geometry.shape[::-1]))
    print(f"{shape}: {len(everything)} prompts, p50 {p50:.0f} ms, p95 {p95:.0f} ms, most {most:.0f} ms")  # noqa: T201
    if wanted.phases:
        report_phases(profile, len(everything))


if __name__ == "__main__":
    main()
