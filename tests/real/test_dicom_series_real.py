"""Real DICOM: each series is read right, or refused with the reason that a physicist would give."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hostile_corpus import unpacked

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.dicom_header import read_header
from annotate_server.imaging.dicom_listing import stored_volumes
from annotate_server.imaging.dicom_series import read_series
from annotate_server.imaging.resampling import sitk_geometry

pytestmark = pytest.mark.real_data

STS = "02_sts_sarcoma_ct_mr_pet/dicom/STS_002"
ODD = "09_odd_geometry_dicom"
SYNTAX = "10_transfer_syntax_dicom"
BRAIN = "07_mr_brain_tumor_dicom/Study3_PGBM-003"
SEG = "11_dicom_seg_sr_rtstruct"

READ = {
    # folder: (modality, shape (k, j, i), spacing mm (k, j, i), a word of the warning or None)
    f"{STS}/CT/image": ("CT", (48, 143, 161), (3.27, 0.977, 0.977), None),
    f"{STS}/MR_T1/image": ("MR", (35, 90, 115), (3.27, 0.977, 0.977), None),
    f"{STS}/PET/image": ("PT", (48, 27, 30), (3.27, 5.469, 5.469), None),
    "03_totalseg_ct_mr/ct_dicom_j2k/dicom": ("CT", (20, 512, 512), (2.0, 0.977, 0.977), None),
    "04_liver_ct_dicom_crlm/CRLM-CT-1006/dicom": ("CT", (51, 512, 512), (5.0, 0.805, 0.805), None),
    f"{BRAIN}/11-T1post-18670": ("MR", (22, 320, 280), (6.5, 0.688, 0.688), None),
    f"{BRAIN}/26401-T1prereg-52906": ("MR", (22, 320, 280), (6.5, 0.688, 0.688), None),
    f"{BRAIN}/37830-T2reg-78532": ("MR", (22, 320, 280), (6.5, 0.688, 0.688), None),
    f"{BRAIN}/36468-FLAIRreg-58706": ("MR", (22, 320, 280), (6.5, 0.688, 0.688), None),
    f"{BRAIN}/11_HCropVolume": ("MR", (40, 50, 34), (1.0, 1.0, 1.0), None),
    f"{ODD}/mr_oblique_irregular_spacing_papaya": ("MR", (20, 256, 256), (6.999, 0.859, 0.859), "regular spacing"),
    f"{ODD}/mr_patient_position_HFS": ("MR", (35, 256, 256), (4.8, 1.016, 1.016), None),
    f"{ODD}/d2n_non_square_pixels": ("MR", (4, 28, 64), (0.5, 4.0, 6.4), None),
    f"{ODD}/d2n_failing_slicecount_001": ("MR", (2, 256, 256), (1.0, 1.0, 1.0), None),
    f"{ODD}/d2n_failing_gantrytilting_001": ("CT", (4, 521, 512), (4.851, 0.418, 0.418), "14.0 degrees"),
    f"{SYNTAX}/d2n_uncompressed_reference": ("MR", (4, 256, 256), (1.0, 1.0, 1.0), None),
    f"{SYNTAX}/d2n_hyperfine": ("MR", (8, 138, 112), (5.0, 1.61, 1.59), None),
    f"{SYNTAX}/d2n_philips_enhanced": ("MR", (8, 256, 256), (1.2, 1.0, 1.0), None),
    f"{SYNTAX}/d2n_siemens_multiframe": ("MR", (8, 256, 256), (0.9, 0.938, 0.938), None),
    f"{SEG}/dcmqi/segmentations/23x38x3/multiframe": ("CT", (3, 38, 23), (2.5, 0.7, 0.7), None),
    f"{SEG}/dcmqi/segmentations/ct-3slice": ("CT", (3, 512, 512), (1.0, 0.811, 0.811), None),
}

REFUSED = {
    f"{ODD}/d2n_failing_sliceincrement_001": ("untrusted-geometry", "1 slice missing: between 28.11 mm and 38.11 mm"),
    f"{ODD}/d2n_single_slice": ("not-made-for", "single slice of unknown thickness"),
    f"{SYNTAX}/d2n_rgb": ("not-made-for", "colour"),
    f"{STS}/CT/mask": ("not-made-for", "RT Structure Set"),
    f"{SEG}/dcmqi/sr-example": ("not-made-for", "holds no volume"),
    f"{SYNTAX}/pydicom_test_files/dicomdirtests/77654033/CT2": ("untrusted-geometry", "161 slices missing"),
    f"{SYNTAX}/pydicom_test_files/dicomdirtests/77654033/CR1": ("not-made-for", "Computed Radiography"),
}


def listed(folder: Path) -> list[StoredVolume]:
    """Return what the DICOM files of one folder hold, by series."""
    series = {}
    for path in sorted(folder.iterdir()):
        if (path.is_file() and path.suffix in (".dcm", "")) or path.name.startswith("CT.1.3"):
            header = read_header(path)
            series.setdefault(header.series, []).append(header)
    return [stored for headers in series.values() for stored in stored_volumes(headers, folder.name)]


def read(folder: Path) -> Volume:
    (stored,) = listed(folder)
    return read_series(stored)


@pytest.mark.parametrize("folder", READ)
def test_a_sound_series_is_read(test_data: Path, folder: str) -> None:
    modality, shape, spacing, warning = READ[folder]
    volume = read(test_data / folder)
    assert volume.modality is Modality(modality)
    assert volume.unit == ("HU" if modality == "CT" else "1")
    assert volume.geometry.shape == shape
    assert volume.geometry.spacing_mm == pytest.approx(spacing, abs=1e-3)
    geometric = [w for w in volume.acquisition.warnings if "Hounsfield" not in w]
    assert [warning in w for w in geometric if warning] == ([True] if warning else [])
    assert len(geometric) == (1 if warning else 0)


@pytest.mark.parametrize("folder", REFUSED)
def test_what_cannot_be_read_says_why(test_data: Path, folder: str) -> None:
    kind, words = REFUSED[folder]
    for stored in listed(test_data / folder):
        assert stored.problem is not None
        assert stored.problem.type == kind
        assert words in stored.problem.detail
        with pytest.raises(AnnotateError) as caught:
            read_series(stored)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "folder",
    [
        "04_liver_ct_dicom_crlm/CRLM-CT-1006/dicom",
        f"{STS}/CT/image",
        f"{STS}/MR_T1/image",
        f"{STS}/PET/image",
        f"{BRAIN}/11-T1post-18670",
        f"{ODD}/mr_patient_position_HFS",
    ],
)
def test_voxels_and_grid_equal_those_of_simpleitk(test_data: Path, folder: str) -> None:
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(test_data / folder))
    reference = sitk.ReadImage(names)
    volume = read(test_data / folder)
    assert volume.geometry.matches(sitk_geometry(reference), tolerance_mm=1e-3)
    np.testing.assert_allclose(volume.voxels, sitk.GetArrayViewFromImage(reference), rtol=1e-6)


@pytest.mark.parametrize(
    "twin", ["d2n_compressed", "d2n_compressed_j2k", "d2n_compressed_jpegls", "d2n_compressed_rle"]
)
def test_compressed_twins_have_identical_voxels(test_data: Path, twin: str) -> None:
    lossless_jpeg = read(test_data / SYNTAX / "d2n_compressed_jpeg")
    assert read(test_data / SYNTAX / twin).digest == lossless_jpeg.digest
    assert lossless_jpeg.voxels.max() > 0


def test_one_slice_in_six_encodings_is_one_volume(test_data: Path) -> None:
    digests = {}
    for path in sorted((test_data / SYNTAX / "pydicom_test_files").glob("MR_small*.dcm")):
        (stored,) = stored_volumes([read_header(path)], path.name)
        digests[path.name] = read_series(stored).digest
    assert len(digests) >= 6
    assert len(set(digests.values())) == 1, digests


def test_one_volume_as_single_slices_and_as_a_multi_frame_file(test_data: Path) -> None:
    parts = listed(test_data / SYNTAX / "panimg_ct_enhanced_7frames_and_single_slices")
    assert [part.part for part in parts] == ["single-frame", "multi-frame"]
    single, multiple = map(read_series, parts)
    assert single.geometry.matches(multiple.geometry)
    np.testing.assert_array_equal(single.voxels, multiple.voxels)


def test_a_localizer_of_two_orientations_is_split(test_data: Path) -> None:
    parts = listed(test_data / SYNTAX / "pydicom_test_files/dicomdirtests/98892001/CT2N")
    assert [part.part for part in parts] == ["sagittal", "coronal"]
    assert all("LOCALIZER" in part.image_type for part in parts)


def test_the_slices_of_a_tilted_gantry_keep_their_places(test_data: Path) -> None:
    (stored,) = listed(test_data / ODD / "d2n_failing_gantrytilting_001")
    volume = read_series(stored)
    for k, path in enumerate(stored.files):
        header = read_header(path)
        (index,) = volume.geometry.index([header.frames[0].position_mm])
        assert index[0] == pytest.approx(k, abs=1e-6)
        assert -0.001 <= index[1] <= volume.geometry.shape[1] - header.rows + 0.001
        plane = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0].astype(np.float64)
        # Half-way rows: the mean of a row and the next, as far as the shift says.
        whole, part = divmod(float(index[1]), 1.0)
        expected = (1 - part) * plane[1:] + part * plane[:-1]
        found = volume.voxels[k, int(whole) + 1 : int(whole) + header.rows]
        assert np.abs(found - expected).max() <= 0.51


def outcome(path: Path) -> list[str]:
    """Return for each volume of a file its modality, or the type of the reason why there is none."""
    try:
        return [str(read_series(part).modality) for part in stored_volumes([read_header(path)], path.name)]
    except AnnotateError as error:
        return [error.type]


def test_every_file_of_a_zoo_is_read_or_refused_and_nothing_else_happens(test_data: Path) -> None:
    foreign = {".txt", ".json", ".gz", ".icc", ".dump"}
    paths = [path for path in sorted((test_data / SYNTAX / "pydicom_test_files").rglob("*")) if path.is_file()]
    outcomes = [word for path in paths if path.suffix not in foreign for word in outcome(path)]
    assert len(outcomes) > 100
    assert set(outcomes) == {"CT", "MR", "not-made-for", "unreadable-file", "unsupported-input"}


def test_the_hostile_dicom_is_read_or_refused_by_its_defect(test_data: Path, tmp_path: Path) -> None:
    corpus = unpacked(test_data / "12_hostile.tar.gz", tmp_path)
    crafted = corpus / "crafted"
    assert read(crafted / "d01_reference_ok").geometry.shape == (17, 128, 88)
    assert read(crafted / "d09_markup_in_tags").geometry.shape == (5, 128, 88)
    (missing,) = listed(crafted / "d02_missing_middle_slice")
    assert missing.problem is not None
    assert "1 slice missing: between -10.71 mm and -6.71 mm" in missing.problem.detail
    for path in sorted((corpus / "upstream_nibabel").glob("*.dcm")):
        for stored in stored_volumes([read_header(path)], path.name):
            if stored.problem is None:
                assert read_series(stored).geometry.shape[0] == 1
            else:
                assert stored.problem.type in ("not-made-for", "unsupported-input")
