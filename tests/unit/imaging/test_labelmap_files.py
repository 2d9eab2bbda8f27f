"""Labelmaps of every format: onto the volume's grid exactly or not at all, and written whole."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import oblique_geometry
from crafted_files import nifti_file, stored_as, written

from annotate_server.domain.errors import InvalidLabelmap, StorageFailed, UnreadableFile, UnsupportedInput
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import CodedConcept, Labelmap, Segment
from annotate_server.domain.volume import Volume
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.labelmap_files import LabelmapFormat, read_labelmap, write_labelmap
from annotate_server.imaging.reading import IsolatedReader, read_volume
from annotate_server.imaging.reorientation import reoriented
from annotate_server.imaging.resampling import as_sitk

GRID = oblique_geometry((5, 6, 7))
SEGMENTS = (
    Segment(1, "Spleen", (157, 108, 162), CodedConcept("78961009", "SCT", "Spleen")),
    Segment(2, "Größe\n2", (0, 0, 255)),
)
VOXELS = np.random.default_rng(0).integers(0, 3, GRID.shape).astype(np.uint8)


def labelmap() -> Labelmap:
    return Labelmap(VOXELS.copy(), GRID, SEGMENTS)


def nifti_of(path: Path, values: np.ndarray, geometry: Geometry = GRID) -> Path:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), path)
    return path


@pytest.mark.parametrize("name", ["s.nii.gz", "s.nii"])
def test_a_nifti_labelmap_keeps_voxels_names_and_codes(tmp_path: Path, name: str) -> None:
    write_labelmap(labelmap(), tmp_path / name, LabelmapFormat.NIFTI)
    (read,) = read_labelmap(tmp_path / name, GRID)
    np.testing.assert_array_equal(read.voxels, VOXELS)
    assert read.segments == SEGMENTS
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_nibabel_and_itk_see_the_same_labelmap(tmp_path: Path) -> None:
    path = tmp_path / "s.nii.gz"
    write_labelmap(labelmap(), path, LabelmapFormat.NIFTI)
    image = nibabel.load(path)
    np.testing.assert_array_equal(image.dataobj, VOXELS.transpose(2, 1, 0))
    np.testing.assert_allclose(image.get_sform(), image.get_qform(), atol=1e-5)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    ras = image.affine @ [6, 5, 4, 1]
    np.testing.assert_allclose(GRID.world([[4, 5, 6]])[0], [-ras[0], -ras[1], ras[2]], atol=1e-4)
    assert "Spleen" in json.loads(image.header.extensions[0].text)["annotate_server_segments"][0]["name"]
    itk = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk), VOXELS)
    np.testing.assert_allclose(itk.TransformIndexToPhysicalPoint((6, 5, 4)), GRID.world([[4, 5, 6]])[0], atol=1e-4)


def test_the_same_labels_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_labelmap(labelmap(), tmp_path / name, LabelmapFormat.NIFTI)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_left_handed_grid_is_written_right(tmp_path: Path) -> None:
    turn = reoriented(GRID, "SPR")
    turned = Labelmap(np.ascontiguousarray(turn.apply(VOXELS)), turn.geometry, SEGMENTS)
    write_labelmap(turned, tmp_path / "s.nii.gz", LabelmapFormat.NIFTI)
    (read,) = read_labelmap(tmp_path / "s.nii.gz", GRID)
    np.testing.assert_array_equal(read.voxels, VOXELS)


@pytest.mark.parametrize("codes", ["SPL", "RAI", "LSA", "PIR", "ASR", "ILP"])
def test_another_order_of_axes_is_turned_exactly(tmp_path: Path, codes: str) -> None:
    turn = reoriented(GRID, codes)
    path = nifti_of(tmp_path / "s.nii.gz", np.ascontiguousarray(turn.apply(VOXELS)), turn.geometry)
    (read,) = read_labelmap(path, GRID)
    np.testing.assert_array_equal(read.voxels, VOXELS)
    assert read.geometry == GRID
    assert read.voxels.flags.c_contiguous


def test_values_without_names_become_numbered_segments_of_distinct_colours(tmp_path: Path) -> None:
    values = VOXELS.astype(np.int16) * 7
    (read,) = read_labelmap(nifti_of(tmp_path / "s.nii.gz", values), GRID)
    assert [(s.index, s.name) for s in read.segments] == [(7, "Segment 7"), (14, "Segment 14")]
    assert len({s.colour for s in read.segments}) == 2


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_metaimage_and_plain_nrrd_are_read(tmp_path: Path, suffix: str) -> None:
    sitk.WriteImage(as_sitk(VOXELS, GRID), str(tmp_path / f"s.{suffix}"))
    (read,) = read_labelmap(tmp_path / f"s.{suffix}", Volume(np.zeros(GRID.shape, np.int16), GRID))
    np.testing.assert_array_equal(read.voxels, VOXELS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint16])
def test_whole_numbers_of_any_type_are_labels(tmp_path: Path, dtype: type) -> None:
    sitk.WriteImage(as_sitk(VOXELS.astype(dtype), GRID), str(tmp_path / "s.mha"))
    (read,) = read_labelmap(tmp_path / "s.mha", GRID)
    np.testing.assert_array_equal(read.voxels, VOXELS)
    assert read.voxels.dtype == np.uint8


def test_a_scale_of_the_header_is_applied(tmp_path: Path) -> None:
    path = nifti_file(tmp_path, written(112, "2f", 3, 1), values=VOXELS)
    (read,) = read_labelmap(path, read_volume(stored_as(path)))
    np.testing.assert_array_equal(read.voxels, VOXELS * 3 + 1)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (VOXELS * np.float32(0.5), "fractions"),
        (np.where(VOXELS, np.float32("nan"), np.float32(0)), "not finite"),
        (VOXELS.astype(np.int16) - 1, "values from -1 to 1"),
        (VOXELS.astype(np.int32) * 40_000, "values from 0 to 80000"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path: Path, values: np.ndarray, says: str) -> None:
    path = nifti_of(tmp_path / "s.nii.gz", values)
    with pytest.raises(InvalidLabelmap, match=says) as caught:
        read_labelmap(path, GRID)
    assert caught.value.source == str(path)


def test_a_labelmap_that_inflates_beyond_the_volume_is_never_inflated(tmp_path: Path) -> None:
    """The voxels are not even there: the header alone is enough to refuse it."""
    path = nifti_file(tmp_path, written(40, "8h", 3, 1290, 1290, 1290, 1, 1, 1, 1), name="s.nii.gz")
    with pytest.raises(InvalidLabelmap, match="1290 x 1290 x 1290 voxels and the volume 7 x 6 x 5"):
        read_labelmap(path, GRID)


def test_another_shape_is_refused_with_both(tmp_path: Path) -> None:
    path = nifti_of(tmp_path / "s.nii.gz", VOXELS[:, :, 1:])
    with pytest.raises(InvalidLabelmap, match="it has 6 x 6 x 5 voxels and the volume 7 x 6 x 5"):
        read_labelmap(path, GRID)


@pytest.mark.parametrize("shift_mm", [0.3, 12.5])
def test_another_place_is_refused_with_the_distance(tmp_path: Path, shift_mm: float) -> None:
    affine = GRID.affine
    affine[:3, 3] += [0, 0, shift_mm]
    path = nifti_of(tmp_path / "s.nii.gz", VOXELS, Geometry.from_affine(affine, GRID.shape))
    with pytest.raises(InvalidLabelmap, match=rf"lie up to {shift_mm} mm away"):
        read_labelmap(path, GRID)


def test_a_mirrored_labelmap_is_refused(tmp_path: Path) -> None:
    affine = GRID.affine
    affine[:3, 2] *= -1
    path = nifti_of(tmp_path / "s.nii.gz", VOXELS, Geometry.from_affine(affine, GRID.shape))
    with pytest.raises(InvalidLabelmap, match="mm away"):
        read_labelmap(path, GRID)


def test_rounded_spacings_are_the_same_grid(tmp_path: Path) -> None:
    affine = GRID.affine
    affine[:3, :3] = np.round(affine[:3, :3], 4)
    path = nifti_of(tmp_path / "s.nii.gz", VOXELS, Geometry.from_affine(affine, GRID.shape))
    (read,) = read_labelmap(path, GRID)
    assert read.geometry == GRID


def test_damaged_names_are_refused(tmp_path: Path) -> None:
    write_labelmap(labelmap(), tmp_path / "s.nii", LabelmapFormat.NIFTI)
    content = (tmp_path / "s.nii").read_bytes().replace(b'"colour": [157, 108, 162]', b'"colour": [999, 108, 162]')
    (tmp_path / "s.nii").write_bytes(content)
    with pytest.raises(InvalidLabelmap, match="colour"):
        read_labelmap(tmp_path / "s.nii", GRID)


def test_a_foreign_extension_is_passed_over(tmp_path: Path) -> None:
    image = nibabel.load(nifti_of(tmp_path / "a.nii", VOXELS))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b'{"other": 1}'))
    nibabel.save(image, tmp_path / "s.nii")
    (read,) = read_labelmap(tmp_path / "s.nii", GRID)
    assert [segment.name for segment in read.segments] == ["Segment 1", "Segment 2"]


def test_files_that_are_no_labelmap_say_so(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("hello")
    with pytest.raises(UnsupportedInput, match="no file of a format"):
        read_labelmap(tmp_path / "s.txt", GRID)
    (tmp_path / "s.nii.gz").write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(UnreadableFile):
        read_labelmap(tmp_path / "s.nii.gz", GRID)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True), str(tmp_path / "c.mha"))
    with pytest.raises(InvalidLabelmap, match="3 numbers for each voxel"):
        read_labelmap(tmp_path / "c.mha", GRID)


def test_what_a_format_cannot_hold_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidLabelmap, match="2 layers"):
        write_labelmap([labelmap(), labelmap()], tmp_path / "s.nii.gz", LabelmapFormat.NIFTI)
    with pytest.raises(UnsupportedInput, match="needs the DICOM series"):
        write_labelmap(labelmap(), tmp_path / "s.dcm", LabelmapFormat.DICOM_SEG)
    other = Labelmap(VOXELS.copy(), reoriented(GRID, "SPR").geometry, SEGMENTS)
    with pytest.raises(InvalidLabelmap, match="different grids"):
        write_labelmap([labelmap(), other], tmp_path / "s.seg.nrrd", LabelmapFormat.NRRD)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="could not be written"):
        write_labelmap(labelmap(), tmp_path / "file" / "s.nii.gz", LabelmapFormat.NIFTI)


def test_labelmaps_cross_to_the_isolated_process_and_back(tmp_path: Path) -> None:
    volume = Volume(np.zeros(GRID.shape, np.int16), GRID)
    with Isolated() as isolated:
        reader = IsolatedReader(isolated)
        for name, kind in (("s.nii.gz", LabelmapFormat.NIFTI), ("s.seg.nrrd", LabelmapFormat.NRRD)):
            reader.write_labelmap(labelmap(), tmp_path / name, kind)
            (read,) = reader.read_labelmap(tmp_path / name, volume)
            np.testing.assert_array_equal(read.voxels, VOXELS)
            assert read.segments == SEGMENTS
        with pytest.raises(InvalidLabelmap, match="and the volume"):
            reader.read_labelmap(tmp_path / "s.nii.gz", oblique_geometry((5, 6, 8)))
