"""The prescreen of DICOM bytes: what a parser must not see is refused, and everything in use passes."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)

from annotate_server.domain.errors import InputError, TooLarge, UnreadableFile
from annotate_server.imaging.prescreen import MAX_VOXELS, check_ratio, check_voxels, prescreen_dicom

VOXELS = b"\xe0\x7f\x10\x00"


def slice_of(syntax: str = ExplicitVRLittleEndian, **attributes: object) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["slice"])
    dataset.PatientName = "A^B"
    dataset.Modality = "CT"
    dataset.Rows, dataset.Columns = 6, 8
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 1, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    dataset.ReferencedImageSequence = Sequence([item, Dataset()])
    dataset.PixelData = np.arange(48, dtype=np.int16).tobytes()
    dataset["PixelData"].VR = "OW"
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def content_of(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def judge(folder: Path, content: bytes) -> None:
    (folder / "s.dcm").write_bytes(content)
    prescreen_dicom(folder / "s.dcm")


def nested(depth: int, *, is_defined: bool = False) -> bytes:
    """Return sequences within sequences, by delimiters or by lengths."""
    content = b""
    for _ in range(depth):
        if is_defined:
            item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content)) + content
            content = b"\x40\x00\x75\x02SQ\x00\x00" + struct.pack("<I", len(item)) + item
    if is_defined:
        return content
    begin = b"\x40\x00\x75\x02SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return begin * depth + (b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0") * depth


def before_voxels(content: bytes, added: bytes) -> bytes:
    at = content.index(VOXELS)
    return content[:at] + added + content[at:]


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_an_honest_slice_passes_in_every_encoding(tmp_path: Path, syntax: str) -> None:
    judge(tmp_path, content_of(slice_of(syntax)))


def test_honest_oddities_pass(tmp_path: Path) -> None:
    plain = content_of(slice_of())
    judge(tmp_path, plain + bytes(300))  # filled up to a block
    judge(tmp_path, plain[plain.index(b"\x08\x00\x16\x00") :])  # neither preamble nor meta group
    judge(tmp_path, before_voxels(plain, nested(30)))
    judge(tmp_path, before_voxels(plain, nested(30, is_defined=True)))
    judge(tmp_path, content_of(slice_of(PixelData=bytes(97 + 1))))
    judge(tmp_path, content_of(slice_of(NumberOfFrames="3", PixelData=bytes(3 * 96))))
    report = slice_of()
    del report.PixelData, report.Rows
    judge(tmp_path, content_of(report))


def test_compressed_frames_pass_and_missing_ones_do_not(tmp_path: Path) -> None:
    frames = encapsulate([b"\xff\x4f\xff\x51" + bytes(40)] * 2)
    judge(tmp_path, content_of(slice_of(JPEG2000Lossless, NumberOfFrames="2", PixelData=frames)))
    with pytest.raises(UnreadableFile, match="3 x 6 x 8 voxels of 16 bits and holds 2 compressed frames"):
        judge(tmp_path, content_of(slice_of(JPEG2000Lossless, NumberOfFrames="3", PixelData=frames)))
    whole = content_of(slice_of(JPEG2000Lossless, PixelData=frames))
    with pytest.raises(UnreadableFile, match="within a fragment"):
        judge(tmp_path, whole[:-30])


def test_a_sequence_that_contradicts_itself_is_left_where_it_ends(tmp_path: Path) -> None:
    """Vendors write such private sequences; a reader that needs nothing of them reads the rest."""
    liar = b"\x40\x00\x75\x02SQ\x00\x00\x10\x00\x00\x00" + b"\xfe\xff\x00\xe0\xff\x00\x00\x00" + bytes(8)
    judge(tmp_path, before_voxels(content_of(slice_of()), liar))


@pytest.mark.parametrize("depth", [33, 50, 900, 100_000])
def test_deep_nesting_is_refused_without_recursion(tmp_path: Path, depth: int) -> None:
    with pytest.raises(TooLarge, match="nested deeper than 32"):
        judge(tmp_path, before_voxels(content_of(slice_of()), nested(depth)))


def test_deep_nesting_by_lengths_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="nested deeper than 32"):
        judge(tmp_path, before_voxels(content_of(slice_of()), nested(60, is_defined=True)))


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"Rows": 65535, "Columns": 65535}, TooLarge, "1 x 65535 x 65535"),
        ({"NumberOfFrames": str(2**31 - 1)}, TooLarge, "2147483647 x 6 x 8"),
        ({"NumberOfFrames": "2"}, UnreadableFile, "192 bytes, and holds 96"),
        ({"Rows": 5}, UnreadableFile, "80 bytes, and holds 96"),
        ({"Rows": 0}, UnreadableFile, "1 x 0 x 8"),
        ({"BitsAllocated": 32}, UnreadableFile, "192 bytes, and holds 96"),
        ({"PixelData": b""}, UnreadableFile, "96 bytes, and holds 0"),
    ],
)
def test_voxels_that_are_not_there_are_missed(
    tmp_path: Path, changes: dict[str, object], kind: type[InputError], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught:
        judge(tmp_path, content_of(slice_of(**changes)))
    assert str(caught.value).startswith(f"{tmp_path / 's.dcm'}: ")


def test_a_length_that_lies_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    plain = content_of(slice_of())
    at = plain.index(VOXELS)
    with pytest.raises(UnreadableFile, match=r"\(7FE0,0010\) claims 4294967294 bytes and 96 follow"):
        judge(tmp_path, plain[: at + 8] + b"\xfe\xff\xff\xff" + plain[at + 12 :])
    name = plain.index(b"\x10\x00\x10\x00PN")
    with pytest.raises(UnreadableFile, match=r"\(0010,0010\) claims 65535 bytes"):
        judge(tmp_path, plain[: name + 6] + b"\xff\xff" + plain[name + 8 :])


def test_rows_of_another_type_are_refused(tmp_path: Path) -> None:
    plain = content_of(slice_of())
    rows = b"\x28\x00\x10\x00US\x02\x00\x06\x00"
    with pytest.raises(UnreadableFile, match="its Rows is not written as the standard demands"):
        judge(tmp_path, plain.replace(rows, b"\x28\x00\x10\x00UL\x04\x00\x20\x00\x00\x10"))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_unreadable(tmp_path: Path, share: float) -> None:
    content = content_of(slice_of())
    with pytest.raises(UnreadableFile):
        judge(tmp_path, content[: int(len(content) * share)])


def test_noise_is_no_dicom(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).bytes(5000)
    with pytest.raises(UnreadableFile, match="no DICOM"):
        judge(tmp_path, noise)
    with pytest.raises(InputError):
        judge(tmp_path, content_of(slice_of())[:132] + noise)


def test_a_deflate_bomb_is_refused_early(tmp_path: Path) -> None:
    whole = content_of(slice_of(DeflatedExplicitVRLittleEndian))
    start = 144 + struct.unpack_from("<I", whole, 140)[0]
    plain = content_of(slice_of())
    body = plain[144 + struct.unpack_from("<I", plain, 140)[0] : plain.index(VOXELS)]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(body + VOXELS + b"OW\x00\x00" + struct.pack("<I", 80 << 20))
    bomb += b"".join(packer.compress(bytes(1 << 20)) for _ in range(80)) + packer.flush()
    assert len(bomb) < 1 << 20
    with pytest.raises(TooLarge, match="inflates to more than 64 times"):
        judge(tmp_path, whole[:start] + bomb)
    with pytest.raises(UnreadableFile, match="deflated data set is damaged"):
        judge(tmp_path, whole[:start] + b"\xff" * 100)


def test_too_many_elements_end_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annotate_server.imaging.dicom_walk.MAX_ELEMENTS", 1000)
    content = before_voxels(content_of(slice_of()), b"\x11\x00\x10\x00LO\x00\x00" * 1001)
    with pytest.raises(TooLarge, match="more than 1000 elements"):
        judge(tmp_path, content)


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="cannot be read"):
        prescreen_dicom(tmp_path / "nothing.dcm")


def test_the_limits_are_named() -> None:
    assert check_voxels((512, 512, 4000)) == 512 * 512 * 4000
    with pytest.raises(TooLarge, match=str(MAX_VOXELS)):
        check_voxels((MAX_VOXELS, 2))
    check_ratio(1 << 28, 10)
    check_ratio(1 << 32, 1 << 27)
    with pytest.raises(TooLarge, match="64 fold"):
        check_ratio(1 << 32, 1 << 22)
