"""DICOM SEG out and in: the same voxels, names, codes and colours at the same place, or a reason."""

import math
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from conftest import oblique_geometry
from dicom_phantom import phantom_voxels, write_enhanced, write_series
from pydicom.dataset import Dataset

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.errors import InvalidLabelmap, UnreadableFile, UnsupportedInput
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import CodedConcept, Labelmap, Segment
from annotate_server.imaging.dicom_header import read_header
from annotate_server.imaging.dicom_listing import stored_volumes
from annotate_server.imaging.dicom_seg import read_seg, read_seg_content, write_seg
from annotate_server.imaging.dicom_series import read_series
from annotate_server.imaging.labelmap_orders import Algorithm, AlgorithmKind

# 14 x 11 voxels a frame: no multiple of 8 bits.
GRID = oblique_geometry((5, 14, 11))
MODEL = Algorithm("abdomen_ct", "0123456789ab")
SPLEEN = Segment(1, "Spleen", (157, 108, 162), CodedConcept("78961009", "SCT", "Spleen"))
KIDNEY = Segment(
    2,
    "Left kidney",
    (185, 102, 83),
    CodedConcept("64033007", "SCT", "Kidney"),
    laterality=CodedConcept("7771000", "SCT", "Left"),
)
UNCODED = Segment(3, "Something odd", (1, 2, 3))


def source(paths: list[Path]) -> tuple[StoredVolume, Geometry]:
    (stored,) = stored_volumes([read_header(path) for path in paths], "case")
    return stored, read_series(stored).geometry


@pytest.fixture
def series(tmp_path: Path) -> tuple[StoredVolume, Geometry]:
    return source(write_series(tmp_path / "ct", GRID))


def labelmap(geometry: Geometry, segments: tuple[Segment, ...] = (SPLEEN, KIDNEY, UNCODED)) -> Labelmap:
    voxels = np.zeros(geometry.shape, dtype=np.uint8)
    for number, segment in enumerate(segments):
        voxels[1 : 3 + number % 2, number * 3 : number * 3 + 4, 2:9] = segment.index
    return Labelmap(voxels, geometry, segments)


def test_what_was_written_is_read_back(series: tuple[StoredVolume, Geometry], tmp_path: Path) -> None:
    stored, geometry = series
    labels = labelmap(geometry)
    write_seg(labels, stored, tmp_path / "seg.dcm", MODEL)
    (back,) = read_seg(tmp_path / "seg.dcm", geometry)
    np.testing.assert_array_equal(back.voxels, labels.voxels)
    assert back.segments == labels.segments
    assert back.geometry == geometry


def test_it_says_what_drew_it_on_what(series: tuple[StoredVolume, Geometry], tmp_path: Path) -> None:
    stored, geometry = series
    write_seg(labelmap(geometry), stored, tmp_path / "seg.dcm", MODEL)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (seg.SegmentationType, seg.Modality) == ("BINARY", "SEG")
    assert seg.StudyInstanceUID == stored.study_uid
    assert seg.FrameOfReferenceUID == stored.frame_of_reference
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == stored.series_uid
    assert seg.PatientID == "P1"
    first = seg.SegmentSequence[0]
    assert first.SegmentAlgorithmType == "AUTOMATIC"
    assert first.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "abdomen_ct"
    assert first.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "0123456789ab"
    assert seg.SegmentSequence[2].SegmentedPropertyTypeCodeSequence[0].CodeValue == "85756007"


def test_empty_slices_are_left_out(series: tuple[StoredVolume, Geometry], tmp_path: Path) -> None:
    stored, geometry = series
    labels = labelmap(geometry, (SPLEEN,))
    write_seg(labels, stored, tmp_path / "seg.dcm", MODEL)
    assert pydicom.dcmread(tmp_path / "seg.dcm").NumberOfFrames == 2


def test_a_drawn_label_is_manual(series: tuple[StoredVolume, Geometry], tmp_path: Path) -> None:
    stored, geometry = series
    write_seg(labelmap(geometry), stored, tmp_path / "seg.dcm", replace(MODEL, kind=AlgorithmKind.MANUAL))
    assert pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence[0].SegmentAlgorithmType == "MANUAL"


def test_a_labelmap_without_a_voxel_comes_back_empty(series: tuple[StoredVolume, Geometry], tmp_path: Path) -> None:
    stored, geometry = series
    labels = Labelmap(np.zeros(geometry.shape, np.uint8), geometry, (SPLEEN, KIDNEY))
    write_seg(labels, stored, tmp_path / "seg.dcm", MODEL)
    (back,) = read_seg(tmp_path / "seg.dcm", geometry)
    assert not back.voxels.any()
    assert back.segments == labels.segments


def test_indices_with_gaps_are_counted_from_one_in_their_order(
    series: tuple[StoredVolume, Geometry], tmp_path: Path
) -> None:
    stored, geometry = series
    segments = (replace(KIDNEY, index=300), replace(SPLEEN, index=7))
    voxels = np.zeros(geometry.shape, np.uint16)
    voxels[2, 3:6], voxels[3, 1:4] = 300, 7
    write_seg(Labelmap(voxels, geometry, segments), stored, tmp_path / "seg.dcm", MODEL)
    (back,) = read_seg(tmp_path / "seg.dcm", geometry)
    assert [segment.name for segment in back.segments] == ["Spleen", "Left kidney"]
    np.testing.assert_array_equal(back.voxels == 1, voxels == 7)
    np.testing.assert_array_equal(back.voxels == 2, voxels == 300)


def test_names_longer_than_dicom_allows_are_cut(series: tuple[StoredVolume, Geometry], tmp_path: Path) -> None:
    stored, geometry = series
    segments = tuple(replace(SPLEEN, index=n, name="x" * 70 + str(n)) for n in (1, 2))
    write_seg(labelmap(geometry, segments), stored, tmp_path / "seg.dcm", MODEL)
    (back,) = read_seg(tmp_path / "seg.dcm", geometry)
    assert [segment.name for segment in back.segments] == ["x" * 64, "x" * 64 + " (2)"]


def test_layers_that_overlap_come_back_as_they_were(series: tuple[StoredVolume, Geometry], tmp_path: Path) -> None:
    stored, geometry = series
    first = labelmap(geometry, (SPLEEN, KIDNEY))
    second = Labelmap((first.voxels > 0).astype(np.uint8), geometry, (replace(UNCODED, index=1),))
    write_seg((first, second), stored, tmp_path / "seg.dcm", MODEL)
    back = read_seg(tmp_path / "seg.dcm", geometry)
    found = {segment.name: layer.where(segment) for layer in back for segment in layer.segments}
    np.testing.assert_array_equal(found["Spleen"], first.where(SPLEEN))
    np.testing.assert_array_equal(found["Left kidney"], first.where(KIDNEY))
    np.testing.assert_array_equal(found["Something odd"], first.voxels > 0)


def test_an_enhanced_source_is_referred_to_frame_by_frame(tmp_path: Path) -> None:
    def group(stack: int, groups: Dataset) -> None:
        groups.MRDiffusionSequence = [Dataset()]
        groups.MRDiffusionSequence[0].DiffusionBValue = (0.0, 800.0)[stack]

    path = write_enhanced(tmp_path / "e.dcm", GRID, [phantom_voxels(GRID.shape)] * 2, group=group)
    stored = stored_volumes([read_header(path)], "case")[1]
    geometry = read_series(stored).geometry
    labels = labelmap(geometry)
    write_seg(labels, stored, tmp_path / "seg.dcm", MODEL)
    (back,) = read_seg(tmp_path / "seg.dcm", geometry)
    np.testing.assert_array_equal(back.voxels, labels.voxels)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    for groups in seg.PerFrameFunctionalGroupsSequence:
        number = int(groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber)
        k = round(geometry.index([groups.PlanePositionSequence[0].ImagePositionPatient])[0][0])
        # Frames alternate between the two b-values: slice k of the second is frame 2 k + 2.
        assert number == 2 * k + 2


def test_on_a_tilted_series_the_frames_lie_on_the_slices_as_they_were_taken(tmp_path: Path) -> None:
    column = np.array(GRID.direction[1])
    step_mm = 3.1 * math.tan(math.radians(20.0))

    def change(k: int, dataset: Dataset) -> None:
        position = np.array([float(x) for x in dataset.ImagePositionPatient]) + k * step_mm * column
        dataset.ImagePositionPatient = [f"{x:.9f}"[:16] for x in position]

    stored, geometry = source(write_series(tmp_path / "ct", GRID, change=change))
    assert geometry.shape[1] > GRID.shape[1]
    labels = np.zeros(geometry.shape, np.uint8)
    labels[2, 8:12, 3:7] = 1
    write_seg(Labelmap(labels, geometry, (SPLEEN,)), stored, tmp_path / "seg.dcm", MODEL)
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    position = np.array(seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient)
    drawn = np.argwhere(seg.pixel_array.reshape(-1, *seg.pixel_array.shape[-2:])[0])
    centre = position + drawn.mean(axis=0) @ np.array([column * 0.7, np.array(GRID.direction[2]) * 1.3])
    np.testing.assert_allclose(centre, geometry.world([[2, 9.5, 4.5]])[0], atol=0.36)
    assert len(drawn) == 16


def test_a_series_that_is_no_dicom_gets_no_seg(tmp_path: Path) -> None:
    stored = StoredVolume("a.nii", Format.NIFTI, (tmp_path / "a.nii",), PatientKey("", "a"))
    with pytest.raises(UnsupportedInput, match="Write NIfTI"):
        write_seg(labelmap(GRID), stored, tmp_path / "seg.dcm", MODEL)


def test_a_series_without_a_frame_of_reference_gets_no_seg(tmp_path: Path) -> None:
    stored, geometry = source(write_series(tmp_path / "ct", replace(GRID, frame_of_reference=None)))
    with pytest.raises(UnsupportedInput, match="frame of reference"):
        write_seg(labelmap(geometry), stored, tmp_path / "seg.dcm", MODEL)


def test_a_labelmap_of_another_grid_is_not_written(series: tuple[StoredVolume, Geometry], tmp_path: Path) -> None:
    stored, geometry = series
    moved = replace(geometry, origin_mm=(geometry.origin_mm[0] + 1, *geometry.origin_mm[1:]))
    with pytest.raises(InvalidLabelmap, match="grid"):
        write_seg(labelmap(moved), stored, tmp_path / "seg.dcm", MODEL)


def seg_with(
    stored: StoredVolume, path: Path, pixels: np.ndarray, kind: str, segments: tuple[Segment, ...] = (SPLEEN, KIDNEY)
) -> Path:
    """Write a SEG of any type with highdicom."""
    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in stored.files]
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=s.index,
            segment_label=s.name,
            segmented_property_category=pydicom.sr.coding.Code("85756007", "SCT", "Tissue"),
            segmented_property_type=pydicom.sr.coding.Code("85756007", "SCT", "Tissue"),
            algorithm_type="MANUAL",
        )
        for s in segments
    ]
    seg = hd.seg.Segmentation(
        sources,
        pixels,
        kind,
        descriptions,
        series_instance_uid="1.2.9",
        series_number=9,
        sop_instance_uid="1.2.9.1",
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    )
    seg.save_as(path)
    return path


def test_overlapping_segments_come_in_layers(series: tuple[StoredVolume, Geometry], tmp_path: Path) -> None:
    stored, geometry = series
    third = replace(SPLEEN, index=3, name="third")
    pixels = np.zeros((*geometry.shape, 3), dtype=np.uint8)
    pixels[1, 2:6, 2:6, 0] = pixels[1, 4:9, 4:9, 1] = pixels[2, 1:4, 1:4, 2] = 1
    path = seg_with(stored, tmp_path / "seg.dcm", pixels, "BINARY", (SPLEEN, KIDNEY, third))
    layers = read_seg(path, geometry)
    assert [[s.index for s in layer.segments] for layer in layers] == [[1, 3], [2]]
    for layer in layers:
        for segment in layer.segments:
            np.testing.assert_array_equal(layer.where(segment), pixels[..., segment.index - 1] > 0)


def test_probabilities_count_from_one_half_and_are_flagged(
    series: tuple[StoredVolume, Geometry], tmp_path: Path
) -> None:
    stored, geometry = series
    probability = np.zeros((*geometry.shape, 1))
    probability[2, 3, 2:8, 0] = [0.2, 0.45, 0.49, 0.51, 0.8, 1.0]
    content = read_seg_content(seg_with(stored, tmp_path / "seg.dcm", probability, "FRACTIONAL", (SPLEEN,)), geometry)
    assert content.layers[0].voxels[2, 3, 2:8].tolist() == [0, 0, 0, 1, 1, 1]
    assert "one half" in content.warnings[0]


def test_the_labelmap_type_is_read(series: tuple[StoredVolume, Geometry], tmp_path: Path) -> None:
    stored, geometry = series
    labels = labelmap(geometry, (SPLEEN, KIDNEY))
    path = seg_with(stored, tmp_path / "seg.dcm", labels.voxels, "LABELMAP")
    (back,) = read_seg(path, geometry)
    np.testing.assert_array_equal(back.voxels, labels.voxels)
    assert [s.name for s in back.segments] == ["Spleen", "Left kidney"]
    assert back.segments[0].colour != back.segments[1].colour


@pytest.fixture
def written(series: tuple[StoredVolume, Geometry], tmp_path: Path) -> tuple[Path, Labelmap]:
    stored, geometry = series
    write_seg(labelmap(geometry), stored, tmp_path / "seg.dcm", MODEL)
    return tmp_path / "seg.dcm", labelmap(geometry)


def test_another_frame_of_reference_is_refused(written: tuple[Path, Labelmap]) -> None:
    path, labels = written
    with pytest.raises(InvalidLabelmap, match="frame of reference"):
        read_seg(path, replace(labels.geometry, frame_of_reference="1.2.3.999"))


def test_a_grid_half_a_slice_away_is_refused_and_says_how_far(written: tuple[Path, Labelmap]) -> None:
    path, labels = written
    moved = np.array(labels.geometry.origin_mm) + 1.55 * np.array(labels.geometry.direction[0])
    with pytest.raises(InvalidLabelmap, match=r"1\.55 mm beside"):
        read_seg(path, replace(labels.geometry, origin_mm=tuple(moved)))


def test_a_grid_of_another_spacing_is_refused(written: tuple[Path, Labelmap]) -> None:
    path, labels = written
    with pytest.raises(InvalidLabelmap, match="does not lie on the voxels"):
        read_seg(path, replace(labels.geometry, spacing_mm=(3.1, 0.7, 1.4)))


def test_a_shorter_volume_that_the_segments_leave_is_refused(written: tuple[Path, Labelmap]) -> None:
    path, labels = written
    with pytest.raises(InvalidLabelmap, match="beyond the volume"):
        read_seg(path, replace(labels.geometry, shape=(2, 14, 11)))


def test_the_same_grid_with_its_axes_turned_is_filled_at_the_same_places(written: tuple[Path, Labelmap]) -> None:
    path, labels = written
    grid = labels.geometry
    k, j, i = grid.shape
    # Axes in the order (i, k, j), k turned round.
    turned = Geometry(
        (i, k, j),
        (grid.spacing_mm[2], grid.spacing_mm[0], grid.spacing_mm[1]),
        (grid.direction[2], tuple(-x for x in grid.direction[0]), grid.direction[1]),
        tuple(grid.world([[k - 1, 0, 0]])[0]),
        grid.frame_of_reference,
    )
    (back,) = read_seg(path, turned)
    np.testing.assert_array_equal(back.voxels, labels.voxels[::-1].transpose(2, 0, 1))


def test_an_image_is_no_seg(series: tuple[StoredVolume, Geometry]) -> None:
    stored, geometry = series
    with pytest.raises(InvalidLabelmap, match="no DICOM SEG"):
        read_seg(stored.files[0], geometry)


@pytest.mark.parametrize("keyword", ["SegmentSequence", "PerFrameFunctionalGroupsSequence", "SegmentationType"])
def test_a_seg_without_its_essentials_is_refused(written: tuple[Path, Labelmap], keyword: str) -> None:
    path, labels = written
    dataset = pydicom.dcmread(path)
    delattr(dataset, keyword)
    dataset.save_as(path)
    with pytest.raises((InvalidLabelmap, UnreadableFile)):
        read_seg(path, labels.geometry)


def test_a_segment_that_is_not_described_is_refused(written: tuple[Path, Labelmap]) -> None:
    path, labels = written
    dataset = pydicom.dcmread(path)
    del dataset.SegmentSequence[1]
    dataset.save_as(path)
    with pytest.raises(InvalidLabelmap, match="segment 2, which it does not describe"):
        read_seg(path, labels.geometry)


def test_a_cut_off_seg_is_refused(written: tuple[Path, Labelmap]) -> None:
    path, labels = written
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UnreadableFile):
        read_seg(path, labels.geometry)


@pytest.mark.parametrize("shape", [(2, 3, 5), (4, 7, 9), (3, 23, 38)])
def test_frames_that_end_within_a_byte_are_packed_and_unpacked_right(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    stored, geometry = source(write_series(tmp_path / "ct", oblique_geometry(shape)))
    voxels = np.random.default_rng(1).integers(0, 4, shape, dtype=np.uint8)
    write_seg(Labelmap(voxels, geometry, (SPLEEN, KIDNEY, UNCODED)), stored, tmp_path / "seg.dcm", MODEL)
    (back,) = read_seg(tmp_path / "seg.dcm", geometry)
    np.testing.assert_array_equal(back.voxels, voxels)
