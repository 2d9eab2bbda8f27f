"""One head in 24 orders of its axes: every file is the same volume at the same place."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.volume import Volume
from annotate_server.imaging.reading import read_volume
from annotate_server.imaging.reorientation import reoriented

pytestmark = pytest.mark.real_data


def read(path: Path) -> Volume:
    return read_volume(StoredVolume(path.name, Format.NIFTI, (path,), PatientKey("", "")))


def canonical(volume: Volume) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Return voxels and corner positions in the project's canonical order of axes."""
    turn = reoriented(volume.geometry)
    corners = [[0, 0, 0], [n - 1 for n in turn.geometry.shape]]
    return turn.apply(volume.voxels), turn.geometry.world(corners)


def test_one_head_in_24_orientations_is_one_volume_in_the_world(test_data: Path) -> None:
    paths = sorted((test_data / "16_nifti_48_orientations").glob("*.nii.gz"))
    assert len(paths) == 24
    voxels, corners = canonical(read(paths[0]))
    shapes = set()
    for path in paths:
        volume = read(path)
        shapes.add(volume.voxels.shape)
        others, other_corners = canonical(volume)
        np.testing.assert_array_equal(others, voxels, err_msg=path.name)
        np.testing.assert_allclose(other_corners, corners, atol=1e-3, err_msg=path.name)
        # The name is nibabel's (i, j, k in RAS letters); the array is (k, j, i).
        assert not any(reoriented(volume.geometry, path.name[:3][::-1]).flipped), path.name
        assert reoriented(volume.geometry, path.name[:3][::-1]).axes == (0, 1, 2), path.name
    assert len(shapes) > 3


@pytest.mark.parametrize(
    ("name", "axes"), [("sct/t2.nii.gz", "RSP"), ("sct/t1w.nii.gz", "SAR"), ("spleen_ct/image.nii.gz", "SAR")]
)
def test_unusual_orders_of_axes_are_read_as_they_are(test_data: Path, name: str, axes: str) -> None:
    volume = read(test_data / "14_small_labelled" / name)
    turn = reoriented(volume.geometry, axes)
    assert turn.axes == (0, 1, 2)
    assert not any(turn.flipped)


def test_whole_numbers_of_32_bits_become_16(test_data: Path) -> None:
    volume = read(test_data / "03_totalseg_ct_mr" / "ct_sm" / "image.nii.gz")
    assert volume.voxels.dtype == np.int16
    assert volume.voxels.min() >= -1100
    assert volume.voxels.max() > 500


def test_infinite_intensities_are_repaired_and_counted(test_data: Path) -> None:
    volume = read(test_data / "14_small_labelled" / "sct" / "mtr_contains_minus_inf.nii.gz")
    assert np.isfinite(volume.voxels).all()
    assert volume.acquisition.warnings[0].startswith("633 intensities were not finite")
