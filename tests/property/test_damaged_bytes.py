"""Bytes that were changed at random: a volume comes out or an InputError, and nothing that is not finite."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import oblique_geometry
from dicom_phantom import slice_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.errors import InputError
from annotate_server.imaging.dicom_instances import MetadataPlace
from annotate_server.imaging.dicom_metadata import volumes_of_metadata
from annotate_server.imaging.prescreen import prescreen_dicom
from annotate_server.imaging.reading import identify, read_volume
from annotate_server.imaging.resampling import as_sitk

Answer = TypeVar("Answer")
VALUES = np.arange(210, dtype=np.float32).reshape(5, 6, 7)
CHANGES = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), min_size=1, max_size=6)
SPECIAL = st.lists(
    st.tuples(
        st.integers(0, 350), st.sampled_from([b"\xff\xff", b"\0\0\xc0\x7f", b"\0\0\0\x80", b"-1 ", b"nan", b"\n"])
    ),
    max_size=2,
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    image = as_sitk(VALUES, oblique_geometry((5, 6, 7)))
    for name in ("v.nii", "v.mha", "v.nrrd"):
        sitk.WriteImage(image, str(folder / name))
    nibabel.save(nibabel.Nifti2Image(VALUES.transpose(2, 1, 0), np.eye(4)), folder / "two.nii")
    sitk.WriteImage(sitk.GetImageFromArray(VALUES[:1].astype(np.int16)), str(folder / "s.dcm"))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def damaged(content: bytes, changes: list[tuple[int, int]], special: list[tuple[int, bytes]], cut: int) -> bytes:
    changed = bytearray(content)
    for at, value in changes:
        changed[at % len(changed)] = value
    for at, value in special:
        changed[at : at + len(value)] = value
    return bytes(changed[: len(changed) - cut])


def attempt(work: Callable[[], Answer]) -> Answer | InputError:
    try:
        return work()
    except InputError as error:
        return error


@settings(deadline=None, max_examples=300)
@given(changes=CHANGES, special=SPECIAL, cut=st.sampled_from([0, 0, 0, 1, 100]))
@pytest.mark.parametrize("name", ["v.nii", "two.nii", "v.mha", "v.nrrd"])
def test_a_damaged_volume_is_read_or_refused(
    originals: dict[str, bytes],
    name: str,
    changes: list[tuple[int, int]],
    special: list[tuple[int, bytes]],
    cut: int,
) -> None:
    kind = {"v.mha": Format.METAIMAGE, "v.nrrd": Format.NRRD}.get(name, Format.NIFTI)
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(damaged(originals[name], changes, special, cut))
        identify(path)
        outcome = attempt(lambda: read_volume(StoredVolume(name, kind, (path,), PatientKey("", ""))))
    if isinstance(outcome, InputError):
        assert outcome.source == name
    else:
        assert np.isfinite(outcome.voxels).all()
        assert np.isfinite(outcome.geometry.affine).all()


@settings(deadline=None, max_examples=300)
@given(changes=CHANGES, special=SPECIAL, cut=st.sampled_from([0, 0, 1, 100]))
def test_a_damaged_dicom_file_is_passed_or_refused(
    originals: dict[str, bytes], changes: list[tuple[int, int]], special: list[tuple[int, bytes]], cut: int
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "s.dcm"
        shifted = [(at + 128, value) for at, value in changes]
        path.write_bytes(damaged(originals["s.dcm"], shifted, special, cut))
        outcome = attempt(lambda: prescreen_dicom(path))
        assert outcome is None or outcome.source == str(path)


def _metadata() -> bytes:
    """Return the metadata of two slices as an archive sends it."""
    grid = oblique_geometry((2, 6, 7))
    rows = []
    for k in range(2):
        dataset = slice_dataset(grid, k, np.zeros((6, 7), np.int16), "CT", "1.2.3.4")
        del dataset.PixelData
        rows.append(dataset.to_json_dict())
    return json.dumps(rows).encode()


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=4),
    st.lists(
        st.tuples(st.integers(0, 5000), st.sampled_from([b"null", b"[]", b"{}", b"1e999", b"-0", b'"'])), max_size=3
    ),
    st.integers(0, 40),
)
def test_metadata_of_an_archive(changes: list[tuple[int, int]], special: list[tuple[int, bytes]], cut: int) -> None:
    content = _metadata()
    at = [(place % len(content), value) for place, value in special]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "metadata.json"
        path.write_bytes(damaged(content, changes, at, cut if cut > 35 else 0))
        found = attempt(lambda: volumes_of_metadata(MetadataPlace(path, Path(folder))))
        if not isinstance(found, InputError):
            assert all(file.parent == Path(folder) for stored in found for file in stored.files)
