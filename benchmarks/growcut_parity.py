"""`any_structure` against plain half-resolution GrowCut with a band, under the same robot in the same run.

python benchmarks/growcut_parity.py --data ../shared/data

Structures of at least 500 voxels that do not touch the border: a spleen (CT), TotalSegmentator's small CT and MR (its
labels are a network's), soft tissue sarcomas (CT and MR, contoured by hand). The rival is given the box of the truth
and a quarter more, as such methods are usually measured; `any_structure` is not. A lasso's area is foreground for the
rival and the rest of its plane background, with which it does best.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cc3d
import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.backends.growcut.adapter import GrowCutBackend
from annotate_server.backends.growcut.flood import flood
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control, LoadedModel
from annotate_server.domain.prompt import PromptKind
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.rasterise import lasso_sheet
from annotate_server.stores.folder_apps import read_app
from annotate_server.workflows.robots import Plan, Trace, drive

SEGMENT = Segment(1, "Structure", (220, 120, 60))
PLANS = ("lasso:3+clicks:5", "clicks:10")
PATIENTS = ("STS_002", "STS_008", "STS_019", "STS_024")
INSIDE, OUTSIDE = 1, 2
BALL_MM = 3.0


@dataclass(frozen=True)
class Structure:
    """One structure of one volume, with its truth (k, j, i)."""

    group: str
    name: str
    volume: Volume
    truth: NDArray[np.bool_]


def read(path: Path, modality: Modality) -> Volume:
    """Return a NIfTI file as a volume."""
    file = nibabel.load(path)
    voxels = np.ascontiguousarray(np.asanyarray(file.dataobj).T)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ file.affine @ np.eye(4)[[2, 1, 0, 3]]
    return Volume(voxels, Geometry.from_affine(affine, voxels.shape), modality)


def structures(data: Path) -> Iterator[Structure]:
    """Yield every structure that counts."""
    spleen, small = data / "14_small_labelled/spleen_ct", data / "03_totalseg_ct_mr"
    files = [("spleen CT", spleen / "image.nii.gz", spleen / "label_spleen.nii.gz", Modality.CT)]
    files.append(("ct_sm", small / "ct_sm/image.nii.gz", small / "ct_sm/label_total.nii.gz", Modality.CT))
    files.append(("mr_sm", small / "mr_sm/image.nii.gz", small / "mr_sm/label_total_mr.nii.gz", Modality.MR))
    for patient in PATIENTS:
        folder = data / "02_sts_sarcoma_ct_mr_pet/nifti" / patient
        for kind, modality in (("CT", Modality.CT), ("MR_T1", Modality.MR)):
            files.append((f"sarcoma {kind}", folder / f"{kind}_image.nii.gz", folder / f"{kind}_mask.nii.gz", modality))
    for group, image, label, modality in files:
        volume, labels = read(image, modality), np.round(read(label, modality).voxels.astype(np.float64)).astype(int)
        for index in np.unique(labels[labels > 0]):
            truth = labels == index
            if truth.sum() >= 500 and not touches_border(truth):
                name = image.parent.name if group.startswith("sarcoma") else f"{group} {index}"
                yield Structure(group, name, volume, truth)


def touches_border(truth: NDArray[np.bool_]) -> bool:
    """Say whether a structure reaches the first or last slice of any axis."""
    return any(bool(truth.take(end, axis).any()) for axis in range(3) for end in (0, -1))


class HalfResolutionBand:
    """The rival: GrowCut at half resolution, on intensities mixed with a histogram's verdict, then a band in full."""

    def __init__(self, truth: NDArray[np.bool_], modality: Modality | None) -> None:
        """Look at the box of the truth, a quarter larger."""
        box = Box.around(truth)
        assert box is not None  # noqa: S101  a structure has voxels
        k, j, i = (max(4, n // 4) for n in box.shape)
        self._box = box.grown((k, j, i), truth.shape)
        self._is_ct = modality is Modality.CT

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Answer from all prompts anew; the segment is what hangs together with them."""
        volume = next(iter(volumes.values()))
        level = self._level(volume.voxels[self._box.slices].astype(np.float32))
        inside, outside = self._seeds(volume.geometry.cropped(self._box), situation)
        found = (banded(level, inside, outside) | inside) & ~outside
        parts = cc3d.connected_components(found, connectivity=6)
        kept = np.unique(parts[inside & found])
        found = np.isin(parts, kept[kept > 0]) if (kept > 0).any() else found
        return Prediction(self._box, found.astype(np.uint8) * SEGMENT.index, (SEGMENT,))

    def close(self) -> None:
        """Hold nothing."""

    def _level(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return intensities from 0 to 1: soft tissue window for CT, percentiles for MR."""
        low, high = (-160.0, 240.0) if self._is_ct else np.percentile(values, [1, 99])
        level: NDArray[np.float32] = np.clip((values - low) / (high - low), 0, 1)
        return level

    def _seeds(self, block: Geometry, situation: Situation) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return foreground and background: balls about clicks, areas of lassos, and the border of the box."""
        inside, outside = np.zeros(block.shape, np.bool_), np.zeros(block.shape, np.bool_)
        for prompt in situation.prompts:
            if prompt.kind is PromptKind.LASSO:
                sheet = lasso_sheet(prompt, block, 1e4)
                inside[tuple(sheet.inside.T)] = True
                outside[tuple(sheet.voxels[sheet.depth_mm < 0].T)] = True
                continue
            centre = np.floor(block.index(prompt.points_mm)[0] + 0.5)
            away = [(np.arange(n) - c) * s for n, c, s in zip(block.shape, centre, block.spacing_mm, strict=True)]
            ball = sum(np.square(a) for a in np.ix_(*away)) <= BALL_MM**2
            (inside if prompt.positive else outside)[ball] = True
        inside &= ~outside
        shell = np.ones(block.shape, np.bool_)
        shell[1:-1, 1:-1, 1:-1] = False
        return inside, outside | (shell & ~inside)


def banded(level: NDArray[np.float32], inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the segment by a flood at half resolution, then one in the two voxels on either side of its border."""
    half = ndimage.uniform_filter(level, 2)[::2, ::2, ::2]
    seeds = np.zeros(half.shape, np.uint8)
    for label, places in ((OUTSIDE, outside), (INSIDE, inside)):
        seeds[tuple((np.argwhere(places) // 2).T)] = label
    mixed = 0.5 * half + 0.5 * verdict(half, seeds)
    coarse = grown(mixed, seeds)
    rough = np.zeros(level.shape, np.bool_)
    for axis in range(3):
        coarse = np.repeat(coarse, 2, axis)
    rough[:] = coarse[: level.shape[0], : level.shape[1], : level.shape[2]]
    band = np.zeros(level.shape, np.uint8)
    band[~ndimage.binary_dilation(rough, iterations=2)] = OUTSIDE
    band[ndimage.binary_erosion(rough, iterations=2)] = INSIDE
    band[outside], band[inside] = OUTSIDE, INSIDE
    return grown(level, band)


def verdict(level: NDArray[np.float32], seeds: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how likely each intensity is foreground, by the histograms of the seeds."""
    bins = np.minimum((level * 64).astype(int), 63)
    shares = []
    for label in (INSIDE, OUTSIDE):
        counts = np.bincount(bins[seeds == label], minlength=64).astype(float)
        smooth = ndimage.gaussian_filter1d(counts, 1.5) + 1e-3
        shares.append(smooth / smooth.sum())
    table = shares[0] / (shares[0] + shares[1])
    return table[bins].astype(np.float32)


def grown(level: NDArray[np.float32], seeds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return GrowCut's foreground: a grey level of 255 costs as much as a step, whatever the axis."""
    steps = np.floor(level * 255.0) * 10.0
    foreground: NDArray[np.bool_] = flood(steps.astype(np.float32), seeds, (1.0, 1.0, 1.0)).labels == INSIDE
    return foreground


def report(method: str, plan: str, group: str, traces: Sequence[Trace]) -> None:
    """Print the mean Dice after each interaction, the worst drop, and how long an interaction took."""
    curve = " ".join(f"{dice:.3f}" for dice in np.mean([trace.dice for trace in traces], axis=0))
    drop = max(trace.worst_drop for trace in traces)
    times = np.concatenate([trace.milliseconds for trace in traces])
    p50, p95 = np.percentile(times, [50, 95])
    line = f"{plan:17} {group:22} {method:14} n={len(traces)}  {curve}  worst_drop {drop:.3f}"
    print(f"{line}  ms p50 {p50:.0f} p95 {p95:.0f}")  # noqa: T201  a script for people


def main() -> None:
    """Run both methods on every structure, and print structures, groups and means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--plan", action="append", help="clicks:10, lasso:3+clicks:5 …; may be given more than once")
    wanted = parser.parse_args()
    app = read_app(Path(__file__).parents[1] / "apps/any_structure")
    everything = tuple(structures(wanted.data))
    for plan in wanted.plan or PLANS:
        traces: dict[tuple[str, str], list[Trace]] = defaultdict(list)
        for structure in everything:
            rival = HalfResolutionBand(structure.truth, structure.volume.modality)
            ours = GrowCutBackend().load(ModelVersion(app), "cpu")
            contestants: tuple[tuple[str, LoadedModel], ...] = (("any_structure", ours), ("plain growcut", rival))
            for method, model in contestants:
                trace = drive(model, structure.volume, structure.truth, SEGMENT, Plan.parse(plan))
                report(method, plan, structure.name, [trace])
                traces[structure.group, method].append(trace)
                if structure.group in ("ct_sm", "mr_sm"):
                    traces["ct_sm and mr_sm", method].append(trace)
        for (group, method), several in traces.items():
            report(method, plan, f"MEAN {group}", several)


if __name__ == "__main__":
    main()
