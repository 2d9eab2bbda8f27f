"""What the shipped models must reach on real volumes, through the same workflows as the commands."""

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from annotate_server.bootstrap import Ports, wire
from annotate_server.domain.case import StoredVolume
from annotate_server.domain.ports import Control
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.overlap import dice
from annotate_server.imaging.reading import IsolatedReader
from annotate_server.settings import Settings
from annotate_server.workflows.examination import ExaminationOrder, examine
from annotate_server.workflows.labelled_folder import LabelledFolder
from annotate_server.workflows.robots import Plan

pytestmark = [pytest.mark.real_data, pytest.mark.slow]


@pytest.fixture
def ports(tmp_path: Path) -> Ports:
    return wire(Settings(workspace=tmp_path / "workspace", device="cpu"))


@pytest.fixture
def reader() -> Iterator[IsolatedReader]:
    with Isolated() as isolated:
        yield IsolatedReader(isolated)


def scanned(ports: Ports, folder: Path) -> list[StoredVolume]:
    with ports.studies(folder) as studies:
        return list(studies.scan())


def labelled(ports: Ports, folder: Path, pairs: dict[Path, Path]) -> LabelledFolder:
    """Return a folder of links to volumes and their labels."""
    for number, (volume, label) in enumerate(pairs.items()):
        for part, path in (("images", volume), ("labels", label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part / f"{number}.nii.gz").write_bytes(path.read_bytes())
    return LabelledFolder.found(folder, lambda images: scanned(ports, images))


def test_one_fold_of_the_abdomen_network_agrees_with_the_published_ones(
    ports: Ports, reader: IsolatedReader, test_data: Path
) -> None:
    ports.registry.import_from("abdomen_ct", test_data / "18_models_obelisk_ct")
    folder = test_data / "04_liver_ct_dicom_crlm" / "CRLM-CT-1006"
    (stored,) = scanned(ports, folder / "dicom")
    volume = reader.read(stored)
    (truth,) = reader.read_labelmap(folder / "pseudo_label_obelisk.nii.gz", volume)
    draft = ports.predictor().draft("abdomen_ct", {"CT": volume}, Control()).labelmap
    for name in ("Spleen", "Left kidney", "Liver"):
        segment = draft.segment(name)
        assert dice(truth.voxels == segment.index, draft.where(segment)) >= 0.95, name
    centre = {name: np.argwhere(draft.where(draft.segment(name))).mean(axis=0) for name in ("Liver", "Spleen")}
    left = {name: volume.geometry.world([position])[0][0] for name, position in centre.items()}
    assert left["Spleen"] - left["Liver"] > 80


def test_the_hippocampus_network_reaches_0_88_on_cases_that_it_never_saw(
    ports: Ports, reader: IsolatedReader, test_data: Path, tmp_path: Path
) -> None:
    pool = test_data / "01_hippocampus_msd" / "dev_pool"
    held_out = [path for path in sorted((pool / "images").glob("*.nii.gz")) if is_validation(path.name)]
    assert len(held_out) == 39
    folder = labelled(ports, tmp_path / "on", {path: pool / "labels" / path.name for path in held_out})
    evaluation = examine(ExaminationOrder("hippocampus_mr"), folder, ports.predictor(), reader, Control())
    assert not evaluation.failures
    assert evaluation.mean_dice.mean >= 0.88


def is_validation(name: str) -> bool:
    digest = hmac.new(b"hippocampus_mr/1", name.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") % 5 == 0


@pytest.mark.parametrize(
    ("volume", "label", "least"),
    [
        ("14_small_labelled/spleen_ct/image.nii.gz", "14_small_labelled/spleen_ct/label_spleen.nii.gz", 0.90),
        ("03_totalseg_ct_mr/ct_sm/image.nii.gz", "03_totalseg_ct_mr/ct_sm/label_total.nii.gz", 0.80),
    ],
)
def test_three_lassos_and_five_clicks_reach_a_structure_and_never_lose_much(
    ports: Ports, reader: IsolatedReader, test_data: Path, tmp_path: Path, volume: str, label: str, least: float
) -> None:
    folder = labelled(ports, tmp_path / "on", {test_data / volume: test_data / label})
    order = ExaminationOrder("any_structure", plan=Plan(lassos=3, clicks=5))
    robot = examine(order, folder, ports.predictor(), reader, Control()).robot
    assert robot is not None
    assert robot.dice_at[-1] >= least
    assert robot.worst_drop <= 0.03


def test_a_whole_head_is_drafted_at_both_hippocampi(ports: Ports, reader: IsolatedReader, test_data: Path) -> None:
    ports.registry.import_from("brain_t1", test_data / "17_models_meshnet_brainchop")
    (stored,) = scanned(ports, test_data / "15_brain_volumes" / "t1_crop_conformed256_LIA.nii.gz")
    volume = reader.read(stored)
    draft = ports.predictor().draft("hippocampus_mr", {"MR": volume}, Control()).labelmap
    lefts = volume.geometry.world(np.argwhere(draft.voxels))[:, 0]
    middle = (lefts.min() + lefts.max()) / 2
    ml = draft.geometry.voxel_ml
    for side in (lefts < middle, lefts > middle):
        assert 2.0 < np.count_nonzero(side) * ml < 7.0
