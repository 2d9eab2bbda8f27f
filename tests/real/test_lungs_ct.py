"""`lungs_ct` on real CT: lung bases, an abdomen without lungs, a thigh."""

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from annotate_server.backends.classical.lungs_method import STRUCTURES, draw
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality, Volume

pytestmark = pytest.mark.real_data
LEFT, RIGHT, AIRWAYS, BONE, BODY = (STRUCTURES.index(name) + 1 for name in STRUCTURES)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
BONES = (*range(25, 51), *range(69, 79), *range(91, 117))


def nifti(path: Path) -> Volume:
    file = nibabel.load(path)
    voxels = np.ascontiguousarray(np.asarray(file.dataobj).T)
    affine = RAS_TO_LPS @ file.affine @ np.eye(4)[[2, 1, 0, 3]]
    return Volume(voxels, Geometry.from_affine(affine, voxels.shape), Modality.CT, "HU")


def axial_series(folder: Path) -> Volume:
    slices = sorted((pydicom.dcmread(p) for p in folder.iterdir()), key=lambda s: float(s.ImagePositionPatient[2]))
    first, last = slices[0], slices[-1]
    step = (last.ImagePositionPatient[2] - first.ImagePositionPatient[2]) / (len(slices) - 1)
    voxels = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
    row, column = (float(x) for x in first.PixelSpacing)
    x, y, z = (float(p) for p in first.ImagePositionPatient)
    direction = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    geometry = Geometry(voxels.shape, (float(step), row, column), direction, (x, y, z))
    return Volume(voxels.astype(np.int16), geometry, Modality.CT, "HU")


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_lung_bases_and_bone_agree_with_totalsegmentator(test_data: Path) -> None:
    folder = test_data / "03_totalseg_ct_mr/ct_sm"
    labels = draw(nifti(folder / "image.nii.gz"), Control()).labels
    reference = nifti(folder / "label_total.nii.gz").voxels
    assert dice(labels == LEFT, np.isin(reference, (10, 11))) > 0.95
    assert dice(labels == RIGHT, np.isin(reference, (12, 13, 14))) > 0.96
    assert dice(labels == BONE, np.isin(reference, BONES)) > 0.84
    assert not (labels == AIRWAYS).any()
    assert np.isin(labels[reference == 20], (LEFT, RIGHT)).mean() < 0.001


def test_lung_bases_above_an_abdomen_full_of_contrast_medium(test_data: Path) -> None:
    folder = test_data / "04_liver_ct_dicom_crlm/CRLM-CT-1006"
    volume = axial_series(folder / "dicom")
    labels = draw(volume, Control()).labels
    ml = np.bincount(labels.ravel(), minlength=6) * volume.geometry.voxel_ml
    assert 950 < ml[LEFT] < 1100
    assert 1150 < ml[RIGHT] < 1300
    assert 580 < ml[BONE] < 720
    centre = {side: volume.geometry.world([np.argwhere(labels == side).mean(axis=0)])[0] for side in (LEFT, RIGHT)}
    assert centre[LEFT][0] > centre[RIGHT][0] + 100


@pytest.mark.parametrize("patient", ["STS_002", "STS_008", "STS_019", "STS_024"])
def test_a_thigh_has_no_lungs(test_data: Path, patient: str) -> None:
    drawing = draw(nifti(test_data / f"02_sts_sarcoma_ct_mr_pet/nifti/{patient}/CT_image.nii.gz"), Control())
    assert not np.isin(drawing.labels, (LEFT, RIGHT, AIRWAYS)).any()
    assert "no lung was found" in drawing.notes[0]
    assert (drawing.labels == BONE).any()
