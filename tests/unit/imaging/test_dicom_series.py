"""Reading series: the right voxels at the right place, in any encoding, or a reason."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry
from dicom_phantom import phantom_voxels, set_voxels, write_enhanced, write_series
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import NotMadeFor, UnreadableFile, UnsupportedInput
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.dicom_header import read_header
from annotate_server.imaging.dicom_listing import stored_volumes
from annotate_server.imaging.dicom_series import read_series

GRID = oblique_geometry((5, 14, 11))


def listed(paths: list[Path]) -> tuple[StoredVolume, ...]:
    return stored_volumes([read_header(path) for path in paths], "case")


def read(paths: list[Path]) -> Volume:
    (stored,) = listed(paths)
    return read_series(stored)


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
        JPEGLSLossless,
    ],
    ids=lambda syntax: syntax.name,
)
def test_every_transfer_syntax_gives_the_same_volume(tmp_path: Path, syntax: UID) -> None:
    grid = oblique_geometry((3, 35, 40))
    volume = read(write_series(tmp_path, grid, syntax=syntax))
    np.testing.assert_array_equal(volume.voxels, phantom_voxels(grid.shape))
    assert volume.voxels.dtype == np.int16
    assert volume.geometry.matches(grid, tolerance_mm=1e-6)
    assert volume.geometry.frame_of_reference == grid.frame_of_reference


def test_a_ct_is_in_hounsfield_units_and_says_what_it_is(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset.BodyPartExamined = "ABDOMEN"
        dataset.RescaleIntercept = "-24"

    volume = read(write_series(tmp_path, GRID, change=change))
    assert (volume.modality, volume.unit) == (Modality.CT, "HU")
    assert volume.acquisition.description == "phantom"
    assert volume.acquisition.body_part == "ABDOMEN"
    assert volume.acquisition.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    np.testing.assert_array_equal(volume.voxels, phantom_voxels(GRID.shape) - 24)


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = str(0.25 * (k + 1)), str(k)

    volume = read(write_series(tmp_path, GRID, modality="PT", change=change))
    expected = [0.25 * (k + 1) * plane + k for k, plane in enumerate(phantom_voxels(GRID.shape).astype(np.float64))]
    assert volume.voxels.dtype == np.float32
    np.testing.assert_allclose(volume.voxels, expected, rtol=1e-6)
    assert volume.unit == "1"


def test_values_beyond_int16_become_float(tmp_path: Path) -> None:
    voxels = phantom_voxels(GRID.shape).astype(np.int32) + 40_000
    volume = read(write_series(tmp_path, GRID, voxels.astype(np.uint16), modality="MR"))
    assert volume.voxels.dtype == np.float32
    np.testing.assert_array_equal(volume.voxels, voxels)


def test_unused_high_bits_are_no_intensity(tmp_path: Path) -> None:
    values = phantom_voxels(GRID.shape).astype(np.int16) // 2

    def change(_: int, dataset: Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, dtype="<u2") & 0x0FFF | 0x5000
        dataset.PixelData = stored.astype("<u2").tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 1

    np.testing.assert_array_equal(read(write_series(tmp_path, GRID, values, change=change)).voxels, values)


@pytest.mark.parametrize("written", [-2000, 63536])
def test_padding_becomes_air_in_a_ct_however_its_sign_was_written(tmp_path: Path, written: int) -> None:
    voxels = phantom_voxels(GRID.shape)
    voxels[:, :3] = -2000

    def change(_: int, dataset: Dataset) -> None:
        dataset.add_new("PixelPaddingValue", "SS" if written < 0 else "US", written)

    volume = read(write_series(tmp_path, GRID, voxels, change=change))
    assert (volume.voxels[:, :3] == -1024).all()
    np.testing.assert_array_equal(volume.voxels[:, 3:], voxels[:, 3:])


def test_monochrome1_turns_an_mr_round_and_leaves_hounsfield_units(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"

    voxels = phantom_voxels(GRID.shape)
    ct = read(write_series(tmp_path / "ct", GRID, change=change))
    mr = read(write_series(tmp_path / "mr", GRID, modality="MR", change=change))
    np.testing.assert_array_equal(ct.voxels, voxels)
    np.testing.assert_array_equal(mr.voxels, int(voxels.max()) + int(voxels.min()) - voxels.astype(np.int32))
    assert "MONOCHROME1" in ct.acquisition.warnings[0]
    assert "turned round" in mr.acquisition.warnings[0]


def test_a_ct_that_is_no_hounsfield_units_says_so(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset.RescaleType = "ED"

    volume = read(write_series(tmp_path, GRID, change=change))
    assert volume.unit == "1"
    assert "ED" in volume.acquisition.warnings[0]


def test_a_tilted_gantry_is_taken_out_and_not_sheared(tmp_path: Path) -> None:
    """A structure that is a line of constant place in the patient must come out upright."""
    grid = oblique_geometry((6, 40, 11))
    step_mm = 3.1 * math.tan(math.radians(20.0))
    column = np.array(grid.direction[1])
    # The rod lies at one place in space; a slice that is displaced by some rows shows it the other way.
    height = np.array(
        [[j * 0.7 + k * step_mm for j in range(40)] for k in range(6)],
    )
    voxels = np.repeat((1000 - 100 * np.abs(height - 14.0)).round()[:, :, None], 11, axis=2).astype(np.int16)

    def change(k: int, dataset: Dataset) -> None:
        position = np.array([float(x) for x in dataset.ImagePositionPatient]) + k * step_mm * column
        dataset.ImagePositionPatient = [f"{x:.9f}"[:16] for x in position]

    volume = read(write_series(tmp_path, grid, voxels, change=change))
    assert "20.0 degrees" in volume.acquisition.warnings[0]
    places = np.array(grid.origin_mm) + 14.0 * column
    rows = [volume.geometry.index([places + k * 3.1 * np.array(grid.direction[0])])[0] for k in range(6)]
    for k, j, _ in np.rint(rows).astype(int):
        assert abs(int(volume.voxels[k, :, 5].argmax()) - j) <= 1
    assert volume.voxels.min() >= -4000
    assert volume.voxels[0, -1, 0] == -1024


def test_a_series_without_a_class_of_object_or_uids_is_read(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"):
            setattr(dataset, keyword, "")
        del dataset.SliceThickness

    (stored,) = listed(write_series(tmp_path, GRID, change=change))
    assert stored.series_uid is None
    assert not stored.patient.known
    np.testing.assert_array_equal(read_series(stored).voxels, phantom_voxels(GRID.shape))


def test_an_enhanced_file_is_a_volume(tmp_path: Path) -> None:
    voxels = phantom_voxels(GRID.shape)
    volume = read([write_enhanced(tmp_path / "e.dcm", GRID, [voxels])])
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.geometry.matches(GRID, tolerance_mm=1e-6)
    assert volume.modality is Modality.MR


def test_an_enhanced_file_with_b_values_is_split_and_each_part_is_its_own(tmp_path: Path) -> None:
    stacks = [phantom_voxels(GRID.shape), phantom_voxels(GRID.shape)[::-1] + 5]

    def group(stack: int, groups: Dataset) -> None:
        groups.MRDiffusionSequence = [Dataset()]
        groups.MRDiffusionSequence[0].DiffusionBValue = (800.0, 0.0)[stack]

    parts = listed([write_enhanced(tmp_path / "e.dcm", GRID, stacks, group=group)])
    assert [part.key for part in parts] == ["case#b=0", "case#b=800"]
    for part, values in zip(parts, reversed(stacks), strict=True):
        volume = read_series(part)
        np.testing.assert_array_equal(volume.voxels, values)
        assert volume.acquisition.part == part.part


def test_an_enhanced_file_whose_frames_are_not_all_described_is_refused(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        del dataset.PerFrameFunctionalGroupsSequence[-1]

    path = write_enhanced(tmp_path / "e.dcm", GRID, [phantom_voxels(GRID.shape)], change=change)
    with pytest.raises(UnreadableFile, match="announces 5 frames and describes 4"):
        read_header(path)


@pytest.mark.parametrize(
    ("private", "expected"),
    [
        (((0x0019, 0x0010), "SIEMENS MR HEADER", (0x0019, 0x100C), "IS"), ["800", "50"]),
        (((0x0043, 0x0010), "GEMS_PARM_01", (0x0043, 0x1039), "IS"), ["1000000800", "50"]),
        (((0x2001, 0x0010), "Philips Imaging DD 001", (0x2001, 0x1003), "FL"), [800.0, 50.0]),
    ],
    ids=["Siemens", "GE", "Philips"],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"])
def test_b_values_are_found_where_the_vendor_keeps_them(
    tmp_path: Path,
    private: tuple[tuple[int, int], str, tuple[int, int], str],
    expected: list[object],
    syntax: UID,
) -> None:
    creator, name, element, vr = private
    paths: list[Path] = []
    for number, value in enumerate(expected):

        def change(k: int, dataset: Dataset, value: object = value, number: int = number) -> None:
            dataset.add_new(creator, "LO", name)
            dataset.add_new(element, vr, value)
            dataset.SOPInstanceUID = f"1.2.{number}.{k}"

        paths += write_series(tmp_path / str(number), GRID, modality="MR", change=change, syntax=syntax)
    parts = listed(paths)
    assert [part.part for part in parts] == ["b=50", "b=800"]
    np.testing.assert_array_equal(read_series(parts[1]).voxels, phantom_voxels(GRID.shape))


def _cut_off(paths: list[Path]) -> None:
    paths[2].write_bytes(paths[2].read_bytes()[:-100])


def _too_many_rows(paths: list[Path]) -> None:
    content = paths[2].read_bytes()
    rows = content.index(b"\x28\x00\x10\x00US\x02\x00")
    paths[2].write_bytes(content[: rows + 8] + b"\xff\xff" + content[rows + 10 :])


@pytest.mark.parametrize("harm", [_cut_off, _too_many_rows])
def test_a_slice_with_fewer_voxels_than_it_announces_spoils_its_series(
    tmp_path: Path, harm: Callable[[list[Path]], None]
) -> None:
    paths = write_series(tmp_path, GRID)
    harm(paths)
    (stored,) = listed(paths)
    assert stored.problem is not None
    assert stored.problem.type == "unreadable-file"
    assert paths[2].name in stored.problem.detail
    with pytest.raises(UnreadableFile):
        read_series(stored)


def test_a_file_that_vanished_after_the_scan_is_named(tmp_path: Path) -> None:
    paths = write_series(tmp_path, GRID)
    (stored,) = listed(paths)
    paths[0].unlink()
    with pytest.raises(UnreadableFile, match=paths[0].name):
        read_series(stored)


def test_a_compression_without_decoder_is_refused_by_name(tmp_path: Path) -> None:
    paths = write_series(tmp_path, GRID, syntax=RLELossless)
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.6\0"))
    (stored,) = listed(paths)
    with pytest.raises(UnsupportedInput, match="no decoder"):
        read_series(stored)


def test_a_colour_image_is_not_read(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        set_voxels(dataset, np.zeros((14, 33), dtype=np.uint8))
        dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 11, 3, "RGB"
        dataset.PlanarConfiguration = 0

    (stored,) = listed(write_series(tmp_path, GRID, change=change))
    assert stored.problem is not None
    assert stored.problem.type == "not-made-for"
    with pytest.raises(NotMadeFor, match="colour"):
        read_series(stored)
