"""Which format a file is, and reading any of them, here and in the isolated process."""

import gzip
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import oblique_geometry
from crafted_files import nifti_bytes, nifti_file, numbers, stored_as, written

from annotate_server.domain.case import Format
from annotate_server.domain.errors import UnreadableFile
from annotate_server.domain.volume import Modality
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.reading import IsolatedReader, identify, read_volume
from annotate_server.imaging.resampling import as_sitk

GRID = oblique_geometry((5, 6, 7))


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("nii", Format.NIFTI),
        ("nii.gz", Format.NIFTI),
        ("mha", Format.METAIMAGE),
        ("mhd", Format.METAIMAGE),
        ("nrrd", Format.NRRD),
        ("nhdr", Format.NRRD),
    ],
)
def test_a_file_is_known_by_its_content_and_read(tmp_path: Path, suffix: str, kind: Format) -> None:
    path = tmp_path / f"v.{suffix}"
    sitk.WriteImage(as_sitk(numbers(), GRID), str(path))
    renamed = tmp_path / "without_suffix"
    renamed.write_bytes(path.read_bytes())
    assert identify(renamed) == identify(path) == kind
    volume = read_volume(stored_as(path, kind))
    np.testing.assert_array_equal(volume.voxels, numbers())
    np.testing.assert_allclose(volume.geometry.affine, GRID.affine, atol=1e-4)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (bytes(128) + b"DICM" + bytes(20), Format.DICOM),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", Format.DICOM),
        (b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100", Format.DICOM),
        (b"\x5c\x01\0\0" + bytes(36) + b"\x03\0" + bytes(306), Format.NIFTI),
        (b"", None),
        (b"hello = world\n", None),
        (b"\x08\x00" + bytes(range(200, 240)), None),
        (b"\x1f\x8bdamaged", None),
        (gzip.compress(b"a text", mtime=0), None),
        (b"PK\x03\x04" + bytes(100), None),
    ],
)
def test_the_first_bytes_decide(tmp_path: Path, content: bytes, kind: Format | None) -> None:
    (tmp_path / "file").write_bytes(content)
    assert identify(tmp_path / "file") == kind


def test_a_wrong_name_does_not_mislead(tmp_path: Path) -> None:
    (tmp_path / "v.nrrd").write_bytes(bytes(nifti_bytes(numbers())))
    assert identify(tmp_path / "v.nrrd") == Format.NIFTI


@pytest.mark.parametrize("name", ["v.nii.gz", "V.NII", "v.mha", "v.nrrd", "v.dcm"])
def test_a_damaged_file_is_listed_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"damaged")
    kind = identify(tmp_path / name)
    assert kind is not None
    with pytest.raises(UnreadableFile, match=f"{name}: "):
        read_volume(stored_as(tmp_path / name, kind))


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "v.nii")
    assert identify(tmp_path / "v.nii") == Format.NIFTI
    with pytest.raises(UnreadableFile, match="no plain file"):
        read_volume(stored_as(tmp_path / "v.nii"))


def test_a_missing_file_is_nothing(tmp_path: Path) -> None:
    assert identify(tmp_path / "missing") is None


def test_a_declared_modality_is_kept(tmp_path: Path) -> None:
    path = nifti_file(tmp_path)
    assert read_volume(stored_as(path)).modality is None
    stored = stored_as(path)
    stored = type(stored)(**{**vars(stored), "modality": Modality.CT})
    volume = read_volume(stored)
    assert (volume.modality, volume.unit) == (Modality.CT, "HU")


def test_the_isolated_reader_gives_the_same_volume(tmp_path: Path) -> None:
    stored = stored_as(nifti_file(tmp_path, written(112, "2f", 2, -1024)))
    with Isolated() as isolated:
        volume = IsolatedReader(isolated).read(stored)
    assert volume.digest == read_volume(stored).digest
    assert not volume.voxels.flags.writeable


def test_the_isolated_reader_names_file_and_defect(tmp_path: Path) -> None:
    stored = stored_as(nifti_file(tmp_path, written(42, "h", -8)))
    with (
        Isolated() as isolated,
        pytest.raises(UnreadableFile, match=r"^v\.nii: its header declares the size -8 x 6 x 5"),
    ):
        IsolatedReader(isolated).read(stored)


def test_threads_that_share_a_reader_wait_for_each_other(tmp_path: Path) -> None:
    stored = [stored_as(nifti_file(tmp_path, values=numbers() + n, name=f"{n}.nii")) for n in range(8)]
    seen: dict[int, int] = {}
    with Isolated() as isolated:
        reader = IsolatedReader(isolated)

        def read(number: int) -> None:
            seen[number] = int(reader.read(stored[number]).voxels[0, 0, 0])

        threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == {number: number - 20 for number in range(8)}
