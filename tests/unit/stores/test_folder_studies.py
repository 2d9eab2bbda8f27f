"""Scanning a folder: what is offered, what is skipped and why, and what a second scan costs."""

import gzip
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry
from dicom_phantom import save, set_voxels, slice_dataset, write_enhanced, write_series
from pydicom.dataset import Dataset

from annotate_server.domain.case import Format, StoredVolume
from annotate_server.domain.errors import UnreadableFile
from annotate_server.domain.volume import Modality
from annotate_server.imaging.dicom_series import read_series
from annotate_server.imaging.isolation import FUNCTIONS, Isolated
from annotate_server.stores import file_look
from annotate_server.stores.folder_studies import FolderStudies

GRID = oblique_geometry((4, 14, 11))


@pytest.fixture(scope="module")
def isolated() -> Iterator[Isolated]:
    with Isolated() as ready:
        yield ready


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    return folder


def scan(root: Path, isolated: Isolated, index: Path | None = None) -> list[StoredVolume]:
    return list(FolderStudies(root, isolated, index).scan())


def keys(volumes: list[StoredVolume]) -> list[str]:
    return [volume.key for volume in volumes]


def problems(volumes: list[StoredVolume]) -> dict[str, str]:
    return {volume.key: volume.problem.type for volume in volumes if volume.problem}


def write_nifti(path: Path, magic: bytes = b"n+1\0") -> None:
    header = bytearray(352)
    header[:4] = (348).to_bytes(4, "little")
    header[344:348] = magic
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(bytes(header)) if path.suffix == ".gz" else bytes(header))


def test_a_series_is_found_by_content_whatever_its_files_are_called(root: Path, isolated: Isolated) -> None:
    for n, path in enumerate(write_series(root / "a" / "b", GRID)):
        path.rename(path.with_name(f"no suffix {n}"))
    (volume,) = scan(root, isolated)
    assert volume.key == "a/b"
    assert (volume.format, volume.modality) == (Format.DICOM, Modality.CT)
    assert (volume.patient.identifier, volume.patient.known) == ("P1", True)
    assert (volume.study_uid, volume.series_uid) == ("1.2.3", "1.2.3.4")
    assert volume.description == "phantom"
    assert len(volume.files) == 4
    assert read_series(volume).geometry.matches(GRID, tolerance_mm=1e-6)


def test_files_come_in_the_order_of_the_slices(root: Path, isolated: Isolated) -> None:
    paths = write_series(root, GRID)
    (volume,) = scan(root, isolated)
    assert list(volume.files) == paths
    assert volume.key == root.name


def test_series_that_share_a_folder_are_told_apart_by_their_uid(root: Path, isolated: Isolated) -> None:
    for n, end in enumerate(("11112222", "33334444")):
        for path in write_series(root / "all", GRID, uid=f"1.2.{end}"):
            path.rename(path.with_name(f"{n}-{path.name}"))
    assert keys(scan(root, isolated)) == ["all~11112222", "all~33334444"]


def test_a_series_spread_over_folders_is_one_volume(root: Path, isolated: Isolated) -> None:
    for n, path in enumerate(write_series(root / "case", GRID)):
        folder = root / "case" / f"part {n % 2}"
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    assert keys(scan(root, isolated)) == ["case"]


def test_copies_of_a_series_in_two_folders_are_two_volumes(root: Path, isolated: Isolated) -> None:
    for name in ("original", "processed"):
        write_series(root / name, GRID)
    assert keys(scan(root, isolated)) == ["original", "processed"]


def test_a_multi_frame_file_is_named_after_itself(root: Path, isolated: Isolated) -> None:
    def group(stack: int, groups: Dataset) -> None:
        groups.MREchoSequence = [Dataset()]
        groups.MREchoSequence[0].EffectiveEchoTime = 5.0 * stack + 5.0

    stacks = [np.zeros(GRID.shape, np.int16)] * 2
    write_enhanced(root / "e.dcm", GRID, stacks, group=group)
    volumes = scan(root, isolated)
    assert keys(volumes) == ["e.dcm#echo 1", "e.dcm#echo 2"]
    assert [volume.part for volume in volumes] == ["echo 1", "echo 2"]


def test_a_series_with_a_defect_is_listed_with_it(root: Path, isolated: Isolated) -> None:
    write_series(root / "ct", GRID)[2].unlink()
    (volume,) = scan(root, isolated)
    assert volume.problem is not None
    assert volume.problem.type == "untrusted-geometry"
    assert volume.problem.detail.startswith("ct: 1 slice missing")


def test_what_holds_no_volume_is_listed_as_not_made_for(root: Path, isolated: Isolated) -> None:
    report = slice_dataset(GRID, 0, np.zeros(GRID.shape[1:], np.int16), "CT", "1.2.5")
    report.SOPClassUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.33", "SR"
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(report, keyword)
    save(report, root / "report")
    write_series(root / "ct", GRID)
    (root / "labels.seg.nrrd").write_bytes(b"NRRD0004\ntype: uchar\n\n")
    assert problems(scan(root, isolated)) == {"report": "not-made-for", "labels.seg.nrrd": "not-made-for"}


def test_other_formats_are_found_by_content_and_the_rest_is_left_out(root: Path, isolated: Isolated) -> None:
    write_nifti(root / "a.nii")
    write_nifti(root / "b.nii.gz")
    write_nifti(root / "pair.hdr", b"ni1\0")
    (root / "pair.img").write_bytes(b"\0" * 100)
    (root / "m.mhd").write_text("ObjectType = Image\nNDims = 3\n")
    (root / "m.raw").write_bytes(b"\0" * 100)
    (root / "n.nrrd").write_bytes(b"NRRD0004\ntype: short\n\n")
    for name in ("notes.txt", "a.json", "participants.tsv", "picture.png", ".hidden.nii", "README", "._a.nii"):
        (root / name).write_bytes(b"nothing of interest, but long enough to be looked into " * 10)
    write_nifti(root / ".git" / "c.nii")
    write_nifti(root / "__MACOSX" / "d.nii")
    volumes = scan(root, isolated)
    assert keys(volumes) == ["a.nii", "b.nii.gz", "m.mhd", "n.nrrd", "pair.hdr"]
    assert [volume.format for volume in volumes] == [
        Format.NIFTI,
        Format.NIFTI,
        Format.METAIMAGE,
        Format.NRRD,
        Format.NIFTI,
    ]
    assert not problems(volumes)


def test_a_file_that_is_not_what_its_name_says_is_listed(root: Path, isolated: Isolated) -> None:
    (root / "broken.dcm").write_bytes(b"\x89PNG" + b"x" * 500)
    assert problems(scan(root, isolated)) == {"broken.dcm": "unreadable-file"}


def test_a_damaged_slice_spoils_its_series_and_is_named(root: Path, isolated: Isolated) -> None:
    paths = write_series(root / "ct", GRID)
    paths[3].write_bytes(paths[3].read_bytes()[:-50])
    (volume,) = scan(root, isolated)
    assert volume.problem is not None
    assert paths[3].name in volume.problem.detail


def test_a_dicomdir_is_left_out(root: Path, isolated: Isolated) -> None:
    write_series(root, GRID)

    def change(_: int, dataset: Dataset) -> None:
        dataset.SOPClassUID = "1.2.840.10008.1.3.10"

    other = write_series(root / "x", GRID, change=change)
    other[0].rename(root / "DICOMDIR")
    for path in other[1:]:
        path.unlink()
    assert keys(scan(root, isolated)) == [root.name]


def test_patients_of_files_come_from_the_table_then_bids_then_nowhere(root: Path, isolated: Isolated) -> None:
    for name in ("sub-01/anat/sub-01_T1w.nii.gz", "sub-01_T2w.nii", "x/1.nii", "x/2.nii", "plain.nii"):
        write_nifti(root / name)
    (root / "x" / "patients.csv").write_text("file,patient\n1.nii,Anna\n2.nii,Anna\n")
    found = {volume.key: volume.patient for volume in scan(root, isolated)}
    assert found["sub-01/anat/sub-01_T1w.nii.gz"] == found["sub-01_T2w.nii"]
    assert found["sub-01_T2w.nii"].known
    assert found["x/1.nii"] == found["x/2.nii"]
    assert found["x/1.nii"].identifier == "Anna"
    assert not found["plain.nii"].known
    assert len({key.pseudonym() for key in found.values()}) == 3


def test_a_table_of_patients_without_its_columns_is_refused(root: Path, isolated: Isolated) -> None:
    write_nifti(root / "a.nii")
    (root / "patients.csv").write_text("a;b\n1;2\n")
    with pytest.raises(UnreadableFile, match="columns"):
        scan(root, isolated)


def test_dicom_without_a_patient_is_a_patient_of_its_own(root: Path, isolated: Isolated) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset.PatientID, dataset.StudyInstanceUID = "", ""

    for name in "ab":
        write_series(root / name, GRID, change=change, uid=f"1.2.{ord(name)}")
    first, second = scan(root, isolated)
    assert not first.patient.known
    assert first.patient != second.patient


def test_links_are_followed_below_the_root_only_and_in_no_circle(
    root: Path, isolated: Isolated, tmp_path: Path
) -> None:
    write_nifti(root / ".store" / "object")
    write_nifti(tmp_path / "outside" / "secret.nii")
    write_nifti(root / "b" / "real.nii")
    (root / "linked.nii").symlink_to(root / ".store" / "object")
    (root / "a.nii").symlink_to(root / "b" / "real.nii")
    (root / "secret.nii").symlink_to(tmp_path / "outside" / "secret.nii")
    (root / "outside").symlink_to(tmp_path / "outside")
    (root / "b" / "circle").symlink_to(root)
    (root / "dangling.nii").symlink_to(root / "nothing")
    assert keys(scan(root, isolated)) == ["b/real.nii", "linked.nii"]


def test_a_single_file_may_be_scanned(root: Path, isolated: Isolated) -> None:
    write_nifti(root / "a.nii.gz")
    write_nifti(root / "b.nii.gz")
    assert keys(scan(root / "a.nii.gz", isolated)) == ["a.nii.gz"]


def test_a_folder_that_is_not_there_is_refused(root: Path, isolated: Isolated) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        scan(root / "nowhere", isolated)


def test_a_name_that_is_no_text_can_be_printed(root: Path, isolated: Isolated) -> None:
    write_nifti(root / "plain.nii")
    (root / "plain.nii").rename(root / os.fsdecode(b"caf\xe9.nii"))
    (volume,) = scan(root, isolated)
    assert volume.key.encode() == "caf\ufffd.nii".encode()
    assert volume.files[0].is_file()


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names that are looked into, in turn."""
    names: list[str] = []
    real = file_look.look_into

    def counting(wanted: list[str], folder: Path, isolated: Isolated) -> file_look.Look:
        names.extend(wanted)
        return real(wanted, folder, isolated)

    monkeypatch.setattr("annotate_server.stores.folder_census.look_into", counting)
    return names


def test_a_second_scan_looks_into_nothing(root: Path, isolated: Isolated, tmp_path: Path, looked_at: list[str]) -> None:
    write_series(root / "ct", GRID)
    write_nifti(root / "a.nii")
    (root / "README").write_text("x" * 500)
    first = scan(root, isolated, tmp_path / "scan.sqlite")
    assert len(looked_at) == 6
    looked_at.clear()
    assert scan(root, isolated, tmp_path / "scan.sqlite") == first
    assert looked_at == []


def test_a_new_slice_makes_its_series_be_judged_again(
    root: Path, isolated: Isolated, tmp_path: Path, looked_at: list[str]
) -> None:
    last = write_series(root / "ct", GRID)[3]
    write_series(root / "other", GRID, uid="1.2.9")
    content = last.read_bytes()
    last.unlink()
    index = tmp_path / "scan.sqlite"
    assert len(scan(root, isolated, index)[0].files) == 3
    looked_at.clear()
    last.write_bytes(content)
    assert len(scan(root, isolated, index)[0].files) == 4
    assert set(looked_at) == {f"ct/{path.name}" for path in (root / "ct").iterdir()}


def test_a_slice_that_vanished_makes_its_series_be_judged_again(root: Path, isolated: Isolated, tmp_path: Path) -> None:
    paths = write_series(root / "ct", GRID)
    index = tmp_path / "scan.sqlite"
    assert not problems(scan(root, isolated, index))
    paths[1].unlink()
    assert problems(scan(root, isolated, index)) == {"ct": "untrusted-geometry"}
    for path in paths[2:]:
        path.unlink()
    assert [len(volume.files) for volume in scan(root, isolated, index)] == [1]
    paths[0].unlink()
    assert scan(root, isolated, index) == []


def test_a_file_that_changed_is_looked_into_again(root: Path, isolated: Isolated, tmp_path: Path) -> None:
    write_nifti(root / "a.nii")
    index = tmp_path / "scan.sqlite"
    assert keys(scan(root, isolated, index)) == ["a.nii"]
    (root / "a.nii").write_bytes(b"NRRD0004\ntype: short\n\n" + b" " * 400)
    assert [volume.format for volume in scan(root, isolated, index)] == [Format.NRRD]


def test_one_index_serves_several_roots(root: Path, isolated: Isolated, tmp_path: Path) -> None:
    write_nifti(root / "x" / "a.nii")
    write_nifti(root / "y" / "b.nii")
    index = tmp_path / "scan.sqlite"
    for _ in range(2):
        assert keys(scan(root / "x", isolated, index)) == ["a.nii"]
        assert keys(scan(root, isolated, index)) == ["x/a.nii", "y/b.nii"]


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_index_is_made_again(root: Path, isolated: Isolated, tmp_path: Path, content: bytes) -> None:
    write_nifti(root / "a.nii")
    index = tmp_path / "scan.sqlite"
    index.write_bytes(content)
    for _ in range(2):
        assert keys(scan(root, isolated, index)) == ["a.nii"]
    assert sqlite3.connect(index).execute("select count(*) from file").fetchone() == (1,)


def test_an_index_of_another_version_is_made_again(root: Path, isolated: Isolated, tmp_path: Path) -> None:
    index = tmp_path / "scan.sqlite"
    connection = sqlite3.connect(index)
    connection.execute("pragma user_version = 99")
    connection.close()
    write_nifti(root / "a.nii")
    assert keys(scan(root, isolated, index)) == ["a.nii"]


def test_an_index_that_cannot_be_written_costs_the_memory_only(root: Path, isolated: Isolated, tmp_path: Path) -> None:
    write_nifti(root / "a.nii")
    assert keys(scan(root, isolated, tmp_path / "nowhere" / "scan.sqlite")) == ["a.nii"]


def test_the_index_is_for_its_owner_only(root: Path, isolated: Isolated, tmp_path: Path) -> None:
    write_series(root, GRID)
    scan(root, isolated, tmp_path / "scan.sqlite")
    assert (tmp_path / "scan.sqlite").stat().st_mode & 0o077 == 0


def test_a_parser_that_crashes_costs_one_file(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "modules" / "crashing_header.py"
    module.parent.mkdir()
    module.write_text(
        "import os, signal\n"
        "from annotate_server.imaging.dicom_header import read_header\n"
        "def read(path):\n"
        "    if path.name == 'poison.dcm':\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return read_header(path)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(module.parent))
    poison = write_series(root / "ct", GRID)[3]
    poison.rename(poison.with_name("poison.dcm"))
    with Isolated(functions={**FUNCTIONS, "dicom header": "crashing_header:read"}) as isolated:
        volumes = scan(root, isolated, tmp_path / "scan.sqlite")
    assert problems(volumes) == {"ct/poison.dcm": "parser-failed"}
    assert [len(volume.files) for volume in volumes] == [3, 1]


def test_a_screenshot_among_the_slices_is_listed_beside_the_volume(root: Path, isolated: Isolated) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 3:
            set_voxels(dataset, np.zeros((14, 33), np.uint8))
            dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 11, 3, "RGB"
            dataset.PlanarConfiguration = 0

    write_series(root / "ct", GRID, change=change)
    volumes = scan(root, isolated)
    assert keys(volumes) == ["ct", "ct#other 1"]
    assert problems(volumes) == {"ct#other 1": "not-made-for"}
