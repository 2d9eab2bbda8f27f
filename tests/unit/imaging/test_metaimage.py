"""MetaImage in: as ITK writes it, and nothing that its header should not be believed."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import oblique_geometry
from crafted_files import numbers, stored_as, text_headed

from annotate_server.domain.case import Format
from annotate_server.domain.errors import InputError, TooLarge, UnreadableFile, UnsupportedInput, UntrustedGeometry
from annotate_server.domain.volume import Volume
from annotate_server.imaging.metaimage import read_metaimage
from annotate_server.imaging.resampling import as_sitk

FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "10 20 30",
    "ElementSpacing": "2 3 4",
    "DimSize": "7 6 5",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def read(folder: Path, body: bytes | None = None, **changes: str | None) -> Volume:
    fields = {key: value for key, value in {**FIELDS, **changes}.items() if value is not None}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")
    body = numbers().tobytes() if body is None else body
    return read_path(text_headed(folder, "v.mha", fields, body, mark=" = "))


def read_path(path: Path) -> Volume:
    return read_metaimage(stored_as(path, Format.METAIMAGE))


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("suffix", ["mha", "mhd"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_what_itk_wrote_is_read_as_it_was(tmp_path: Path, suffix: str, dtype: str, *, compressed: bool) -> None:
    geometry = oblique_geometry((5, 6, 7))
    values = np.abs(numbers()).astype(dtype)
    sitk.WriteImage(as_sitk(values, geometry), str(tmp_path / f"v.{suffix}"), compressed)
    volume = read_path(tmp_path / f"v.{suffix}")
    np.testing.assert_array_equal(volume.voxels, values)
    np.testing.assert_allclose(volume.geometry.affine, geometry.affine, atol=1e-9)
    assert volume.acquisition.warnings == ()


def test_big_endian_numbers_are_turned(tmp_path: Path) -> None:
    volume = read(tmp_path, numbers().astype(">i2").tobytes(), BinaryDataByteOrderMSB="True")
    np.testing.assert_array_equal(volume.voxels, numbers())


def test_a_header_of_the_data_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "v.raw").write_bytes(b"0123456789" + numbers().tobytes())
    for size in ("10", "-1"):
        volume = read(tmp_path, b"", ElementDataFile="v.raw", HeaderSize=size)
        np.testing.assert_array_equal(volume.voxels, numbers())


def test_without_a_direction_the_volume_is_flagged(tmp_path: Path) -> None:
    volume = read(tmp_path, TransformMatrix=None)
    assert "TransformMatrix" in volume.acquisition.warnings[0]


@pytest.mark.parametrize("name", ["/etc/passwd", "../v.raw", "a/v.raw", "..", ".", "", "c:\\v.raw", "v.mha"])
def test_voxels_in_another_folder_are_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path.parent / "v.raw").write_bytes(numbers().tobytes())
    with pytest.raises(UnsupportedInput, match="in another folder"):
        read(tmp_path, b"", ElementDataFile=name)


@pytest.mark.parametrize("name", ["LIST", "LIST 2", "slice%03d.raw 1 5 1"])
def test_voxels_spread_over_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedInput, match="spread over several files"):
        read(tmp_path, b"v.raw\n", ElementDataFile=name)


def test_a_bomb_is_too_large(tmp_path: Path) -> None:
    body = zlib.compress(bytes(1 << 20), 9)
    with pytest.raises(TooLarge, match="would inflate"):
        read(tmp_path, body, CompressedData="True", DimSize="1000 1000 1000")


def test_compressed_voxels_that_were_cut_off_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="cut off"):
        read(tmp_path, zlib.compress(numbers().tobytes())[:-5], CompressedData="True")


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"DimSize": "7 6 6"}, UnreadableFile, "promises 504 bytes of voxels and 420 are there"),
        ({"DimSize": "-7 6 5"}, UnreadableFile, "-7 x 6 x 5"),
        ({"DimSize": "7 6 x"}, UnreadableFile, "whole numbers in `DimSize`"),
        ({"DimSize": "7 6 5 2", "NDims": "4"}, UnsupportedInput, "2 volumes"),
        ({"DimSize": "7 30", "NDims": "2"}, UnsupportedInput, "a picture of 7 x 30"),
        ({"NDims": "2"}, UnreadableFile, "NDims 2 and 3 sizes"),
        ({"DimSize": "99999 99999 99999"}, TooLarge, "99999 x 99999 x 99999"),
        ({"ElementNumberOfChannels": "3"}, UnsupportedInput, "3 numbers for each voxel"),
        ({"ElementType": "MET_STRING"}, UnsupportedInput, "MET_STRING"),
        ({"BinaryData": "False"}, UnsupportedInput, "written as text"),
        ({"ElementSpacing": "2 0 4"}, UntrustedGeometry, "2 x 0 x 4 mm"),
        ({"ElementSpacing": "2 -3 4"}, UntrustedGeometry, "2 x -3 x 4 mm"),
        ({"ElementSpacing": "2 nan 4"}, UntrustedGeometry, "not finite in `ElementSpacing`"),
        ({"ElementSpacing": "2 3"}, UntrustedGeometry, "2 numbers in `ElementSpacing`"),
        ({"ElementSpacing": None}, UntrustedGeometry, "how large a voxel is"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, UntrustedGeometry, "maps the volume to a plane"),
        ({"TransformMatrix": "1 0 0 0 1e999 0 0 0 1"}, UntrustedGeometry, "not finite"),
        ({"Offset": "a b c"}, UntrustedGeometry, "no numbers in `Offset`"),
        ({"DimSize": None}, UnreadableFile, "does not say its `DimSize`"),
        ({"ElementDataFile": "v.raw"}, UnreadableFile, "not beside it"),
        ({"HeaderSize": "-5", "ElementDataFile": "v.raw"}, UnreadableFile, "HeaderSize"),
    ],
)
def test_a_header_that_cannot_be_is_refused_with_its_defect(
    tmp_path: Path, changes: dict[str, str | None], kind: type[InputError], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught:
        read(tmp_path, **changes)
    assert caught.value.source == "v.mha"


@pytest.mark.parametrize("content", [b"", b"ObjectType = Image\n", b"\xff" * 4096, b"ObjectType = Image\nNDims = 3"])
def test_what_is_no_metaimage_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.mha").write_bytes(content)
    with pytest.raises(UnreadableFile, match="no MetaImage"):
        read_path(tmp_path / "v.mha")
