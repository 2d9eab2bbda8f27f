"""`any_structure` on real volumes, driven by the robots, without any box from the truth."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from annotate_server.backends.growcut.adapter import GrowCutBackend
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.volume import Modality, Volume
from annotate_server.stores.folder_apps import read_app
from annotate_server.workflows.robots import Plan, Trace, drive

pytestmark = [pytest.mark.real_data, pytest.mark.slow]
SEGMENT = Segment(1, "Structure", (220, 120, 60))
APP = read_app(Path(__file__).parents[2] / "apps" / "any_structure")
WORST_DROP = 0.03


def read(path: Path, modality: Modality) -> Volume:
    file = nibabel.load(path)
    voxels = np.ascontiguousarray(np.asanyarray(file.dataobj).T)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ file.affine @ np.eye(4)[[2, 1, 0, 3]]
    return Volume(voxels, Geometry.from_affine(affine, voxels.shape), modality)


def driven(volume: Volume, truth: NDArray[np.bool_], plan: str) -> Trace:
    return drive(GrowCutBackend().load(ModelVersion(APP), "cpu"), volume, truth, SEGMENT, Plan.parse(plan))


def counts(truth: NDArray[np.bool_]) -> bool:
    at_border = any(truth.take(end, axis).any() for axis in range(3) for end in (0, -1))
    return bool(truth.sum() >= 500) and not at_border


def small(test_data: Path) -> list[tuple[Volume, NDArray[np.bool_]]]:
    found = []
    for name, label, modality in (("ct_sm", "label_total", Modality.CT), ("mr_sm", "label_total_mr", Modality.MR)):
        folder = test_data / "03_totalseg_ct_mr" / name
        volume, labels = read(folder / "image.nii.gz", modality), read(folder / f"{label}.nii.gz", modality).voxels
        found += [(volume, labels == n) for n in np.unique(labels) if n and counts(labels == n)]
    return found


def test_a_spleen_after_three_lassos_and_five_clicks(test_data: Path) -> None:
    folder = test_data / "14_small_labelled/spleen_ct"
    volume = read(folder / "image.nii.gz", Modality.CT)
    trace = driven(volume, read(folder / "label_spleen.nii.gz", Modality.CT).voxels > 0, "lasso:3+clicks:5")
    assert trace.dice[-1] >= 0.93
    assert trace.worst_drop <= WORST_DROP


def test_small_ct_and_mr_after_three_lassos_and_five_clicks(test_data: Path) -> None:
    traces = [driven(volume, truth, "lasso:3+clicks:5") for volume, truth in small(test_data)]
    assert len(traces) == 5
    assert np.mean([trace.dice[-1] for trace in traces]) >= 0.84
    assert max(trace.worst_drop for trace in traces) <= WORST_DROP


def test_clicks_alone_on_small_ct_and_mr(test_data: Path) -> None:
    traces = [driven(volume, truth, "clicks:10") for volume, truth in small(test_data)]
    assert np.mean([trace.dice[-1] for trace in traces]) >= 0.73
    assert max(trace.worst_drop for trace in traces) <= WORST_DROP


@pytest.mark.parametrize(("kind", "modality"), [("CT", Modality.CT), ("MR_T1", Modality.MR)])
def test_sarcomas_after_three_lassos_and_five_clicks(test_data: Path, kind: str, modality: Modality) -> None:
    traces = []
    for folder in sorted((test_data / "02_sts_sarcoma_ct_mr_pet/nifti").iterdir()):
        volume = read(folder / f"{kind}_image.nii.gz", modality)
        truth = read(folder / f"{kind}_mask.nii.gz", modality).voxels > 0
        traces.append(driven(volume, truth, "lasso:3+clicks:5"))
    assert np.mean([trace.dice[-1] for trace in traces]) >= 0.92
    assert max(trace.worst_drop for trace in traces) <= WORST_DROP
