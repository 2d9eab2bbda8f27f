"""The crafted bad files: each is read rightly or refused with its defect, and nothing hangs, crashes or grows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile_corpus import unpacked

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.errors import AnnotateError, InvalidLabelmap, ParserFailed
from annotate_server.domain.volume import Volume
from annotate_server.imaging.isolation import FUNCTIONS, Isolated
from annotate_server.imaging.reading import IsolatedReader, identify

pytestmark = pytest.mark.real_data

READ = {
    "n10_no_qform_sform.nii.gz": "neither a qform nor an sform",
    "n20_nan_inf.nii.gz": "66 intensities were not finite",
    "n40_label_wrong_shape.nii.gz": None,
    "anatomical.nii": None,
    "reoriented_anat_moved.nii": None,
    "resampled_anat_moved.nii": "153 intensities were not finite",
    "standard.nii.gz": None,
    "decimal_rescale.dcm": "single slice",
}
REFUSED = {
    "n01_truncated.nii.gz": "cut off",
    "example4d.nii.gz": "2 volumes",
    "example_nifti2.nii.gz": "2 volumes",
    "functional.nii": "20 volumes",
    "analyze.hdr": "ANALYZE 7.5",
    "nifti1.hdr": r"its \.img is not beside it",
    "nifti2.hdr": r"its \.img is not beside it",
    "csa_slice_norm.dcm": "mosaic",
    "slicethickness_empty_string.dcm": "single slice",
}
SERIES = {"d01_reference_ok": None, "d02_missing_middle_slice": "missing", "d09_markup_in_tags": None}


@pytest.fixture(scope="module")
def hostile(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(test_data / "12_hostile.tar.gz", tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def isolated() -> Iterator[Isolated]:
    here = str(Path(__file__).parents[1] / "unit" / "imaging")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", here)
        with Isolated(functions={**FUNCTIONS, "peak": "planted_parsers:peak_bytes"}) as ready:
            yield ready


def found(hostile: Path, name: str) -> Path:
    (path,) = hostile.rglob(name)
    return path


def attempt(isolated: Isolated, path: Path) -> Volume | AnnotateError:
    """Read a file or a folder of slices; nothing may end by a crash or by the allowance of 8 s."""
    kind = Format.DICOM if path.is_dir() else identify(path)
    assert kind is not None
    files = tuple(sorted(path.iterdir())) if path.is_dir() else (path,)
    try:
        return IsolatedReader(isolated).read(StoredVolume(path.name, kind, files, PatientKey("", "")))
    except AnnotateError as error:
        return _not_by_force(error)


def _not_by_force(error: AnnotateError) -> AnnotateError:
    assert not isinstance(error, ParserFailed), str(error)
    return error


def test_every_file_of_the_corpus_has_an_expectation(hostile: Path) -> None:
    names = {path.name for path in hostile.rglob("*") if path.is_file() and not path.parent.name.startswith("d0")}
    assert names == {*READ, *REFUSED, "z01_zip_slip.zip"}
    assert {path.name for path in hostile.glob("crafted/d*")} == set(SERIES)


@pytest.mark.parametrize("name", [*READ, *(series for series, defect in SERIES.items() if defect is None)])
def test_what_can_be_read_is_read(hostile: Path, isolated: Isolated, name: str) -> None:
    volume = attempt(isolated, found(hostile, name))
    assert isinstance(volume, Volume)
    assert np.isfinite(volume.voxels).all()
    if says := READ.get(name):
        assert says in " ".join(volume.acquisition.warnings)


@pytest.mark.parametrize(
    ("name", "says"), [*REFUSED.items(), *((series, defect) for series, defect in SERIES.items() if defect)]
)
def test_what_cannot_is_refused_with_its_defect(hostile: Path, isolated: Isolated, name: str, says: str) -> None:
    error = attempt(isolated, found(hostile, name))
    assert isinstance(error, AnnotateError)
    with pytest.raises(AnnotateError, match=says):
        raise error
    assert name in str(error)


def test_an_archive_is_no_volume(hostile: Path) -> None:
    assert identify(found(hostile, "z01_zip_slip.zip")) is None


def test_a_label_of_another_shape_is_refused(hostile: Path, isolated: Isolated) -> None:
    volume = attempt(isolated, found(hostile, "n20_nan_inf.nii.gz"))
    assert isinstance(volume, Volume)
    with pytest.raises(InvalidLabelmap, match="34 x 51 x 35 voxels and the volume 35 x 51 x 35"):
        IsolatedReader(isolated).read_labelmap(found(hostile, "n40_label_wrong_shape.nii.gz"), volume)


def test_the_process_that_reads_them_stays_small(hostile: Path, isolated: Isolated) -> None:
    for path in sorted(hostile.rglob("*")):
        if path.is_file() and identify(path) is not None:
            attempt(isolated, path)
    peak = isolated.call("peak", None, allowance_s=10, source="memory")
    assert isinstance(peak, int)
    assert peak < 1 << 30
