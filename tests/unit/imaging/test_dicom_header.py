"""Headers: what is DICOM, whatever it is called, and what of it cannot be believed."""

from pathlib import Path

import pytest
from conftest import oblique_geometry
from dicom_phantom import write_series
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from annotate_server.domain.errors import InputError, UnreadableFile
from annotate_server.imaging.dicom_header import looks_like_dicom, read_header
from annotate_server.imaging.wire import pack, unpack

GRID = oblique_geometry((3, 14, 11))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_dataset_without_preamble_and_meta_header_is_recognised(tmp_path: Path, syntax: UID) -> None:
    path = write_series(tmp_path, GRID, syntax=syntax)[1]
    content = path.read_bytes()
    order = "big" if syntax == ExplicitVRBigEndian else "little"
    start = 132 + 12 + int.from_bytes(content[140:144], "little")
    path.write_bytes(content[start:])
    assert int.from_bytes(content[start : start + 2], order) == 8
    header = read_header(path)
    assert (header.modality, header.rows, header.columns) == ("CT", 14, 11)
    assert header.frames[0].spacing_mm == pytest.approx(GRID.spacing_mm[1:])
    assert header.defect == ""


@pytest.mark.parametrize(
    "content",
    [b"", b"short", b"\0" * 400, b"PK\x03\x04" + b"\0" * 300, b"\x89PNG" + b"x" * 300, b"II*\0" + b"\x08\0" * 200],
)
def test_other_files_are_no_dicom(tmp_path: Path, content: bytes) -> None:
    assert not looks_like_dicom(content[:132])
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(UnreadableFile):
        read_header(tmp_path / "f")


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("RescaleSlope", "abc"),
        ("PixelSpacing", "0.7\\x"),
        ("ImagePositionPatient", "1\\2\\left"),
    ],
)
def test_a_text_where_a_number_must_be_is_named(tmp_path: Path, keyword: str, text: str) -> None:
    def change(_: int, dataset: Dataset) -> None:
        setattr(dataset, keyword, "1" if keyword == "RescaleSlope" else ["1"] * (2 if "Spacing" in keyword else 3))

    path = write_series(tmp_path, GRID, change=change)[0]
    content = path.read_bytes()
    element = Dataset()
    setattr(element, keyword, None)
    tag = next(iter(element)).tag
    start = content.index(tag.group.to_bytes(2, "little") + tag.elem.to_bytes(2, "little") + b"DS")
    length = int.from_bytes(content[start + 6 : start + 8], "little")
    value = text.encode() + b" " * (len(text) % 2)
    path.write_bytes(
        content[: start + 6] + len(value).to_bytes(2, "little") + value + content[start + 8 + length :],
    )
    with pytest.raises(UnreadableFile, match=keyword) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


def test_numbers_that_nothing_depends_on_may_be_anything(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset.SliceThickness = None
        dataset.EchoTime = ""
        dataset.InstanceNumber = None

    header = read_header(write_series(tmp_path, GRID, change=change)[0])
    assert header.frames[0].thickness_mm is None
    assert header.instance == 0


def test_a_uid_with_a_path_in_it_stays_a_text(tmp_path: Path) -> None:
    path = write_series(tmp_path, GRID)[0]
    path.write_bytes(path.read_bytes().replace(b"1.2.3.4.1\0", b"../../etc\0"))
    assert read_header(path).sop_instance == "../../etc"


def test_a_header_crosses_to_another_process_unchanged(tmp_path: Path) -> None:
    header = read_header(write_series(tmp_path, GRID)[0])
    assert unpack(pack(header)) == header


def test_a_header_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = write_series(tmp_path, GRID)[0]
    path.write_bytes(path.read_bytes()[:700])
    try:
        header = read_header(path)
    except InputError:
        return
    assert header.defect
