"""NIfTI in: right volumes come out right, and everything else is refused with its defect."""

import gzip
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import oblique_geometry
from crafted_files import INF, NAN, Change, nifti_bytes, nifti_file, numbers, put, stored_as, written

from annotate_server.domain.errors import (
    InputError,
    TooLarge,
    UnreadableFile,
    UnsupportedInput,
    UntrustedGeometry,
)
from annotate_server.domain.volume import Volume
from annotate_server.imaging.nifti import read_nifti


def read(folder: Path, *changes: Change, **options: object) -> Volume:
    return read_nifti(stored_as(nifti_file(folder, *changes, **options)))  # type: ignore[arg-type]


def test_voxels_and_world_are_those_of_nibabel(tmp_path: Path) -> None:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ oblique_geometry((5, 6, 7)).affine[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(numbers().transpose(2, 1, 0), affine)
    nibabel.save(image, tmp_path / "v.nii.gz")
    volume = read_nifti(stored_as(tmp_path / "v.nii.gz"))
    for index in ((0, 0, 0), (4, 2, 6), (1, 5, 3)):
        ras = image.affine @ [*index[::-1], 1]
        np.testing.assert_allclose(volume.geometry.world([index])[0], [-ras[0], -ras[1], ras[2]], atol=1e-4)
        assert volume.voxels[index] == image.dataobj[index[::-1]]
    assert volume.modality is None
    assert volume.voxels.flags.c_contiguous
    assert volume.acquisition.warnings == ()


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<i4", ">i4", "<i8", "<u2", "<u4", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_every_number_type_keeps_its_values(tmp_path: Path, dtype: str, name: str) -> None:
    values = (numbers() % 100).astype(dtype)
    volume = read(tmp_path, values=values, name=name)
    np.testing.assert_array_equal(volume.voxels, values)
    assert volume.voxels.dtype in (np.uint8, np.int8, np.int16, np.float32)


def test_wide_numbers_are_narrowed_only_where_all_fit(tmp_path: Path) -> None:
    for values, dtype in (([0, 40_000], np.int32), ([-5, 3], np.int16), ([0, 2**31 - 1], np.int32)):
        volume = read(tmp_path, values=np.array([[values]], "<i8"))
        assert volume.voxels.dtype == dtype
        assert volume.voxels.ravel().tolist() == values
    volume = read(tmp_path, values=np.array([[[0, 60_000]]], "<u2"))
    assert volume.voxels.dtype == np.uint16


def test_nifti_2_and_pairs_are_read(tmp_path: Path) -> None:
    values = numbers()
    nibabel.save(nibabel.Nifti2Image(values.transpose(2, 1, 0), np.diag([2, 3, 4, 1])), tmp_path / "two.nii.gz")
    nibabel.save(nibabel.Nifti1Pair(values.transpose(2, 1, 0), np.diag([2, 3, 4, 1])), tmp_path / "pair.hdr")
    for name in ("two.nii.gz", "pair.hdr"):
        volume = read_nifti(stored_as(tmp_path / name))
        np.testing.assert_array_equal(volume.voxels, values)
        assert volume.geometry.spacing_mm == (4, 3, 2)


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    content = bytes(nifti_bytes(numbers()))
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    np.testing.assert_array_equal(read_nifti(stored_as(tmp_path / "v.nii.gz")).voxels, numbers())


def test_a_whole_scale_keeps_whole_numbers(tmp_path: Path) -> None:
    volume = read(tmp_path, written(112, "2f", 2, -1024))
    np.testing.assert_array_equal(volume.voxels, numbers().astype(int) * 2 - 1024)
    assert volume.voxels.dtype == np.int16


def test_a_broken_scale_gives_float32(tmp_path: Path) -> None:
    volume = read(tmp_path, written(112, "2f", 0.5, 0.25))
    np.testing.assert_array_equal(volume.voxels, numbers() * 0.5 + 0.25)
    assert volume.voxels.dtype == np.float32


def test_a_slope_of_zero_means_no_scale(tmp_path: Path) -> None:
    volume = read(tmp_path, written(112, "2f", 0, 7))
    np.testing.assert_array_equal(volume.voxels, numbers())
    assert volume.acquisition.warnings == ()


def test_a_slope_that_is_no_number_is_left_out_and_said(tmp_path: Path) -> None:
    volume = read(tmp_path, written(112, "2f", NAN, 0))
    np.testing.assert_array_equal(volume.voxels, numbers())
    assert "scl_slope" in volume.acquisition.warnings[0]


def test_an_endless_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"v\.nii: its intensity scale is inf"):
        read(tmp_path, written(112, "2f", INF, 0))


def test_units_of_metres_and_micrometres_become_millimetres(tmp_path: Path) -> None:
    assert read(tmp_path, written(123, "b", 1)).geometry.spacing_mm == (4000, 3000, 2000)
    np.testing.assert_allclose(read(tmp_path, written(123, "b", 3)).geometry.spacing_mm, (0.004, 0.003, 0.002))


def test_few_values_that_are_not_finite_become_the_smallest_and_are_counted(tmp_path: Path) -> None:
    values = numbers(dtype="<f4")
    values[1, 2, 3], values[0, 0, 1], values[2, 2, 2] = NAN, INF, -INF
    volume = read(tmp_path, values=values)
    smallest = values[np.isfinite(values)].min()
    assert volume.voxels[1, 2, 3] == volume.voxels[0, 0, 1] == volume.voxels[2, 2, 2] == smallest
    assert volume.acquisition.warnings[0].startswith("3 intensities were not finite")


def test_a_float64_beyond_float32_is_not_finite(tmp_path: Path) -> None:
    values = numbers(dtype="<f8")
    values[0, 0, 0] = 1e300
    volume = read(tmp_path, values=values)
    assert np.isfinite(volume.voxels).all()
    assert "1 intensities" in volume.acquisition.warnings[0]


def test_mostly_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    values = numbers(dtype="<f4")
    values[:3] = NAN
    with pytest.raises(UnsupportedInput, match="126 of its 210 intensities are not finite"):
        read(tmp_path, values=values)


def test_a_qform_is_used_where_there_is_no_sform(tmp_path: Path) -> None:
    volume = read(
        tmp_path,
        written(252, "2h", 1, 0),
        written(256, "6f", 0, 0, np.sqrt(0.5), 11, 22, 33),
    )
    np.testing.assert_allclose(volume.geometry.world([[0, 0, 1]])[0], [-11, -24, 33], atol=1e-4)
    assert volume.geometry.spacing_mm == pytest.approx((4, 3, 2))
    assert volume.acquisition.warnings == ()


def test_a_qfac_of_minus_one_turns_the_third_axis(tmp_path: Path) -> None:
    volume = read(tmp_path, written(252, "2h", 1, 0), written(76, "f", -1))
    assert volume.geometry.direction[0] == pytest.approx((0, 0, -1))


def test_without_any_form_the_grid_is_plain_and_flagged(tmp_path: Path) -> None:
    volume = read(tmp_path, written(252, "2h", 0, 0))
    assert volume.geometry.spacing_mm == (4, 3, 2)
    assert "neither a qform nor an sform" in volume.acquisition.warnings[0]


@pytest.mark.parametrize(
    ("qform", "says"),
    [
        ((0, 0, 0, 10, 20, 30), None),
        ((0, 0, 0, 10.005, 20, 30), None),
        ((0, 0, 0, 110, 20, 30), "differ by 100 mm and 0 degrees"),
        ((0, 0, np.sin(np.pi / 360), 10, 20, 30), "1 degrees"),
        ((0.9, 0.9, 0, 10, 20, 30), "The qform is no rotation"),
    ],
)
def test_the_sform_wins_and_a_qform_that_differs_is_reported(
    tmp_path: Path, qform: tuple[float, ...], says: str | None
) -> None:
    volume = read(tmp_path, written(252, "2h", 1, 1), written(256, "6f", *qform))
    np.testing.assert_allclose(volume.geometry.origin_mm, [-10, -20, 30])
    warnings = volume.acquisition.warnings
    assert (warnings == ()) if says is None else (says in warnings[0])


def test_a_spacing_that_is_not_positive_beside_an_sform_is_flagged(tmp_path: Path) -> None:
    volume = read(tmp_path, written(80, "f", -1))
    assert volume.geometry.spacing_mm == (4, 3, 2)
    assert "pixdim" in volume.acquisition.warnings[0]


def test_tilted_slices_are_straightened_in_the_world(tmp_path: Path) -> None:
    """A bright rod through all slices stays where it is in the world."""
    tilt = 4 * np.tan(np.radians(20))
    rows = np.array([[2, 0, 0, 10], [0, 3, tilt, 20], [0, 0, 4, 30]], dtype=np.float64)
    values = np.zeros((8, 40, 9), "<f4")
    for k in range(8):
        j = (60 - rows[1, 2] * k) / 3
        values[k, int(j), 4], values[k, int(j) + 1, 4] = 1 - j % 1, j % 1
    volume = read(tmp_path, written(280, "12f", *rows.ravel()), values=values)
    assert "sheared by 20.0 degrees" in volume.acquisition.warnings[0]
    assert volume.geometry.spacing_mm == pytest.approx((4, 3, 2), abs=1e-4)
    weights = volume.voxels[..., :].astype(float)
    for k in range(8):
        places = np.argwhere(weights[k] > 0)
        world = volume.geometry.world(np.column_stack([np.full(len(places), k), places]))
        centre = np.average(world, axis=0, weights=weights[k][tuple(places.T)])
        np.testing.assert_allclose(centre, [-18, -80, 30 + 4 * k], atol=0.02)


def test_slices_that_are_askew_beyond_a_gantry_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UntrustedGeometry, match="askew by 51 degrees"):
        read(tmp_path, written(280, "12f", 2, 0, 0, 0, 0, 3, 5, 0, 0, 0, 4, 0))


def test_axes_that_are_all_askew_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UntrustedGeometry, match="right angles"):
        read(tmp_path, written(280, "12f", 2, 1, 1, 0, 1, 3, 1, 0, 1, 1, 4, 0))


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (written(40, "h", 9), UnreadableFile, "9 dimensions"),
        (written(42, "h", -8), UnreadableFile, "-8 x 6 x 5"),
        (written(44, "h", 0), UnreadableFile, "7 x 0 x 5"),
        (written(40, "8h", 3, 32767, 32767, 32767, 1, 1, 1, 1), TooLarge, "32767 x 32767 x 32767"),
        (written(42, "3h", 8, 6, 5), UnreadableFile, "promises 480 bytes of voxels and 420 are there"),
        (written(40, "8h", 2, 7, 30, 1, 1, 1, 1, 1), UnsupportedInput, "a picture of 7 x 30"),
        (written(40, "8h", 4, 7, 6, 1, 5, 1, 1, 1), UnsupportedInput, "5 volumes"),
        (written(40, "8h", 5, 7, 6, 1, 1, 5, 1, 1), UnsupportedInput, "5 values for each voxel"),
        (written(70, "2h", 999, 16), UnreadableFile, "voxel type 999"),
        (written(70, "2h", 4, 8), UnreadableFile, "voxels of 8 bits and of the type int16"),
        (written(70, "2h", 128, 24), UnsupportedInput, "colours"),
        (written(70, "2h", 32, 64), UnsupportedInput, "complex"),
        (written(70, "2h", 1, 1), UnsupportedInput, "single bits"),
        (written(108, "f", 20), UnreadableFile, "begin at byte 20"),
        (written(108, "f", NAN), UnreadableFile, "begin at byte nan"),
        (written(108, "f", 1e30), UnreadableFile, "ends before|promises"),
        (written(280, "f", NAN), UntrustedGeometry, "not finite"),
        (written(280, "12f", *[0] * 12), UntrustedGeometry, "a plane or a point"),
        (written(292, "f", 1e12), UntrustedGeometry, "1e\\+12 mm off"),
        (written(344, "4b", 0, 0, 0, 0), UnsupportedInput, "ANALYZE"),
        (written(0, "i", 7), UnreadableFile, "no NIfTI"),
    ],
)
def test_a_header_that_cannot_be_is_refused_with_its_defect(
    tmp_path: Path, change: Change, kind: type[InputError], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught:
        read(tmp_path, change)
    assert caught.value.source == "v.nii"


@pytest.mark.parametrize("spacing", [0, -1, NAN, INF])
@pytest.mark.parametrize("code", [0, 1])
def test_a_spacing_that_counts_must_be_positive(tmp_path: Path, spacing: float, code: int) -> None:
    with pytest.raises(UntrustedGeometry, match="voxel spacing"):
        read(tmp_path, written(252, "2h", code, 0), written(84, "f", spacing))


def test_one_time_point_is_a_volume(tmp_path: Path) -> None:
    volume = read(tmp_path, written(40, "8h", 4, 7, 6, 5, 1, 1, 1, 1))
    np.testing.assert_array_equal(volume.voxels, numbers())


@pytest.mark.parametrize("length", [0, 1, 100, 347, 352, 400, 771])
def test_a_file_that_was_cut_off_is_unreadable(tmp_path: Path, length: int) -> None:
    (tmp_path / "v.nii").write_bytes(bytes(nifti_bytes(numbers())[:length]))
    with pytest.raises(UnreadableFile):
        read_nifti(stored_as(tmp_path / "v.nii"))


@pytest.mark.parametrize("lost", [1, 8, 20, 200])
def test_a_compressed_file_that_was_cut_off_is_unreadable(tmp_path: Path, lost: int) -> None:
    content = gzip.compress(bytes(nifti_bytes(numbers())))
    (tmp_path / "v.nii.gz").write_bytes(content[:-lost])
    with pytest.raises(UnreadableFile, match="cut off"):
        read_nifti(stored_as(tmp_path / "v.nii.gz"))


def test_a_wrong_checksum_is_unreadable(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(bytes(nifti_bytes(numbers()))))
    content[-6] ^= 1
    (tmp_path / "v.nii.gz").write_bytes(bytes(content))
    with pytest.raises(UnreadableFile, match="damaged"):
        read_nifti(stored_as(tmp_path / "v.nii.gz"))


def test_a_bomb_behind_an_honest_header_is_not_inflated(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS + 16)
    content = packer.compress(bytes(nifti_bytes(numbers())))
    content += b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    (tmp_path / "v.nii.gz").write_bytes(content)
    with pytest.raises(UnreadableFile, match="more follows than the 420 bytes"):
        read_nifti(stored_as(tmp_path / "v.nii.gz"))


def test_a_bomb_that_its_header_admits_is_too_large(tmp_path: Path) -> None:
    content = nifti_bytes(np.zeros((1, 1, 1), "<i2"))
    put(content, 40, "8h", 3, 1290, 1290, 1290, 1, 1, 1, 1)
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(bytes(content) + bytes(1 << 22)))
    with pytest.raises(TooLarge, match="would inflate to 4293 MB"):
        read_nifti(stored_as(tmp_path / "v.nii.gz"))


def test_a_pair_without_its_voxels_says_so(tmp_path: Path) -> None:
    header = nifti_bytes(numbers())[:348]
    header[344:348] = b"ni1\0"
    (tmp_path / "v.hdr").write_bytes(bytes(header))
    with pytest.raises(UnreadableFile, match=r"its \.img is not beside it"):
        read_nifti(stored_as(tmp_path / "v.hdr"))


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        read_nifti(stored_as(tmp_path / "v.nii"))
