"""Real DICOM SEG: read as those who made them say, written so that a validator and other readers agree."""

import os
import shutil
import subprocess
from pathlib import Path

import highdicom as hd
import nrrd
import numpy as np
import pytest

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import InvalidLabelmap
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import CodedConcept, Labelmap, Segment
from annotate_server.imaging.dicom_header import read_header
from annotate_server.imaging.dicom_listing import stored_volumes
from annotate_server.imaging.dicom_seg import read_seg, write_seg
from annotate_server.imaging.dicom_series import read_series
from annotate_server.imaging.labelmap_orders import Algorithm

pytestmark = pytest.mark.real_data

DCMQI = "11_dicom_seg_sr_rtstruct/dcmqi/segmentations"
MODEL = Algorithm("abdomen_ct", "0123456789ab")


def volume(folder: Path) -> tuple[StoredVolume, Geometry]:
    (stored,) = stored_volumes([read_header(p) for p in sorted(folder.iterdir()) if p.is_file()], folder.name)
    return stored, read_series(stored).geometry


def truth(path: Path) -> np.ndarray:
    voxels, _ = nrrd.read(str(path))
    return voxels.transpose(2, 1, 0)


def test_a_binary_seg_equals_its_nrrd(test_data: Path) -> None:
    folder = test_data / DCMQI
    (labels,) = read_seg(folder / "liver.dcm", volume(folder / "ct-3slice")[1])
    np.testing.assert_array_equal(labels.voxels, truth(folder / "liver_seg.nrrd"))
    assert labels.segments[0].name == "Liver"
    assert labels.segments[0].colour == (221, 130, 101)


def test_overlapping_segments_equal_their_nrrds(test_data: Path) -> None:
    folder = test_data / DCMQI
    layers = read_seg(folder / "partial_overlaps.dcm", volume(folder / "ct-3slice")[1])
    assert len(layers) == 3
    found = {segment.index: layer.where(segment) for layer in layers for segment in layer.segments}
    assert sorted(found) == [1, 2, 3, 4, 5]
    for number in (1, 2, 3):
        expected = truth(folder / f"partial_overlaps-{number}.nrrd")
        for index in np.unique(expected)[1:]:
            np.testing.assert_array_equal(found[int(index)], expected == index)


@pytest.mark.parametrize("size", ["23x38x3", "24x38x3"])
def test_bits_are_unpacked_right_whether_a_frame_fills_its_bytes_or_not(test_data: Path, size: str) -> None:
    folder = test_data / DCMQI / size
    (labels,) = read_seg(folder / "seg" / "label.seg", volume(folder / "image")[1])
    np.testing.assert_array_equal(labels.voxels, truth(folder / "nrrd" / "label.nrrd"))


@pytest.mark.parametrize("name", ["noppv", "ppv5"])
def test_the_labelmap_type_with_and_without_padding_value(test_data: Path, name: str) -> None:
    folder = test_data / DCMQI
    (labels,) = read_seg(folder / f"sparse-labelmap-{name}.dcm", volume(folder / "24x38x3" / "image")[1])
    np.testing.assert_array_equal(labels.voxels == 1, truth(folder / f"sparse_labelmap_{name}_seg.nrrd") == 1)
    assert [segment.name for segment in labels.segments] == ["Liver"]


def test_a_seg_of_another_patient_is_refused(test_data: Path) -> None:
    folder = test_data / DCMQI
    with pytest.raises(InvalidLabelmap, match="frame of reference"):
        read_seg(folder.parent / "sr-example" / "seg.dcm", volume(folder / "ct-3slice")[1])


@pytest.mark.parametrize(
    "source",
    [
        "04_liver_ct_dicom_crlm/CRLM-CT-1006/dicom",
        "07_mr_brain_tumor_dicom/Study3_PGBM-003/11-T1post-18670",
        "09_odd_geometry_dicom/mr_oblique_irregular_spacing_papaya",
        f"{DCMQI}/23x38x3/image",
        f"{DCMQI}/23x38x3/multiframe",
    ],
)
def test_a_written_seg_is_valid_and_exact_for_us_and_for_highdicom(
    test_data: Path, tmp_path: Path, source: str
) -> None:
    stored, geometry = volume(test_data / source)
    names = (("Liver", "10200004"), ("Spleen", "78961009"), ("Pancreas", "15776009"))
    segments = tuple(
        Segment(n, name, (40 * n, 200 - 30 * n, 90), CodedConcept(code, "SCT", name))
        for n, (name, code) in enumerate(names, 1)
    )
    voxels = np.zeros(geometry.shape, np.uint8)
    voxels[1:, 2:90, 3:99] = np.random.default_rng(3).integers(0, 4, voxels[1:, 2:90, 3:99].shape, dtype=np.uint8)
    path = tmp_path / "seg.dcm"
    write_seg(Labelmap(voxels, geometry, segments), stored, path, MODEL)
    (back,) = read_seg(path, geometry)
    np.testing.assert_array_equal(back.voxels, voxels)
    assert back.segments == segments
    seg = hd.seg.segread(path)
    assert seg.number_of_segments == 3
    assert seg.segmented_property_types[0].value == "10200004"
    if shutil.which("dciodvfy") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "dciodvfy (Debian package dicom3tools) is not installed: the rest was checked"
        )
    checked = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    # A SEG repeats the UIDs of its source, whoever made them up.
    errors = [e for e in checked.stderr.splitlines() if e.startswith("Error") and "Illegal root for UID" not in e]
    assert errors == []


def test_the_bits_that_highdicom_reads_are_the_ones_that_were_written(test_data: Path, tmp_path: Path) -> None:
    stored, geometry = volume(test_data / DCMQI / "23x38x3" / "image")
    voxels = np.random.default_rng(4).integers(0, 3, geometry.shape, dtype=np.uint8)
    segments = (Segment(1, "a", (1, 2, 3)), Segment(2, "b", (4, 5, 6)))
    write_seg(Labelmap(voxels, geometry, segments), stored, tmp_path / "seg.dcm", MODEL)
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    sources = [read_header(path).sop_instance for path in stored.files]
    theirs = seg.get_pixels_by_source_instance(sources, combine_segments=True)
    np.testing.assert_array_equal(theirs, voxels)
