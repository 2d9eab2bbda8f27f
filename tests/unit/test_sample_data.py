"""The sample data: the same bytes every time, readable, with a truth that fits."""

import hashlib
import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from annotate_server.domain.geometry import Geometry
from annotate_server.testing.phantoms import demo_head, is_intact, make_sample_data
from annotate_server.testing.shapes import Canvas, Ellipsoid, white_noise

EXPECTED_MANIFEST = "a20d71fe71841114ee98f8a5c04bc594d8278f27f8c9d242433d446b2f960f80"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_sample_data(folder)
    return folder


def test_the_bytes_are_the_same_on_every_machine(made: Path) -> None:
    assert hashlib.sha256((made / "manifest.json").read_bytes()).hexdigest() == EXPECTED_MANIFEST


def test_making_them_again_changes_nothing(made: Path) -> None:
    before = (made / "manifest.json").read_bytes()
    make_sample_data(made)
    assert (made / "manifest.json").read_bytes() == before
    assert is_intact(made)


def test_a_changed_a_missing_and_an_additional_file_are_noticed(made: Path, tmp_path: Path) -> None:
    assert not is_intact(tmp_path)
    label = made / "labels/ct_torso.nii"
    content = label.read_bytes()
    label.write_bytes(content[:-1] + b"\1")
    assert not is_intact(made)
    label.unlink()
    assert not is_intact(made)
    label.write_bytes(content)
    assert is_intact(made)
    (made / "images/other.nii").write_bytes(content)
    assert not is_intact(made)
    (made / "images/other.nii").unlink()


def test_it_is_small_and_lists_every_file(made: Path) -> None:
    table = json.loads((made / "manifest.json").read_text())
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert files == {*table["files"], "manifest.json"}
    assert sum((made / name).stat().st_size for name in files) < 20_000_000
    assert [case["name"] for case in table["cases"]] == ["ct_chest", "ct_torso", "mr_head"]


@pytest.mark.parametrize(("name", "storage"), [("ct_chest", "CT Image Storage"), ("mr_head", "MR Image Storage")])
def test_the_series_are_proper_dicom_without_an_identity(made: Path, name: str, storage: str) -> None:
    instances = [pydicom.dcmread(path) for path in sorted((made / "images" / name).iterdir())]
    assert {i.SOPClassUID.name for i in instances} == {storage}
    assert len({i.SOPInstanceUID for i in instances}) == len(instances)
    assert len({i.SeriesInstanceUID for i in instances}) == 1
    assert all(i.SOPInstanceUID.is_valid and i.SOPInstanceUID.startswith("2.25.") for i in instances)
    assert {str(i.PatientName) for i in instances} == {"Sample^CT" if name == "ct_chest" else "Sample^MR"}
    assert all(i.PatientBirthDate == "" for i in instances)


def test_the_oblique_series_lies_where_its_phantom_lies(made: Path) -> None:
    geometry = demo_head().volume.geometry
    last = pydicom.dcmread(made / "images/mr_head" / f"{geometry.shape[0]:04d}.dcm")
    assert np.allclose(last.ImagePositionPatient, geometry.world([[geometry.shape[0] - 1, 0, 0]])[0], atol=1e-6)
    assert np.allclose(last.ImageOrientationPatient, [*geometry.direction[2], *geometry.direction[1]], atol=1e-6)
    assert min(abs(x) for x in last.ImageOrientationPatient[:2]) > 0.1


def test_image_and_truth_of_the_nifti_share_their_grid(made: Path) -> None:
    image, label = (nibabel.load(made / part / "ct_torso.nii") for part in ("images", "labels"))
    assert image.shape == label.shape == (128, 112, 72)
    assert np.array_equal(image.affine, label.affine)
    assert np.linalg.det(image.affine[:3, :3]) > 0
    assert set(np.unique(np.asarray(label.dataobj))) == {0, 1, 2, 3, 4, 5}


def test_a_painted_solid_has_its_volume(oblique: Geometry) -> None:
    canvas = Canvas(oblique.resized((0.9, 0.7, 0.8)), 0.0)
    centre = canvas.target.world([[n / 2 for n in canvas.target.shape]])[0]
    canvas.paint(Ellipsoid(tuple(centre), (3.0, 2.5, 4.0)), 100.0, 1)
    voxels, structure = canvas.finished(0.0, 1)
    expected_ml = 4 / 3 * np.pi * 3 * 2.5 * 4 / 1000
    assert voxels.sum() / 100 * canvas.target.voxel_ml == pytest.approx(expected_ml, rel=0.02)
    assert structure.sum() * canvas.target.voxel_ml == pytest.approx(expected_ml, rel=0.1)


def test_noise_has_the_deviation_asked_for_and_does_not_change() -> None:
    noise = white_noise((20, 31, 42), 25.0, 3)
    assert abs(noise.mean()) < 0.5
    assert noise.std() == pytest.approx(25.0, rel=0.02)
    assert np.array_equal(noise, white_noise((20, 31, 42), 25.0, 3))
