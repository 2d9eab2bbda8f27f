"""NRRD in: spaces, encodings and axes of the format, and nothing that its header should not be believed."""

import gzip
from pathlib import Path

import nrrd as pynrrd
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import oblique_geometry
from crafted_files import numbers, stored_as, text_headed

from annotate_server.domain.case import Format
from annotate_server.domain.errors import InputError, TooLarge, UnreadableFile, UnsupportedInput, UntrustedGeometry
from annotate_server.domain.volume import Volume
from annotate_server.imaging.nrrd import read_nrrd
from annotate_server.imaging.resampling import as_sitk

FIELDS = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "7 6 5",
    "space directions": "(2,0,0) (0,3,0) (0,0,4)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(10,20,30)",
}


def write(folder: Path, body: bytes | None = None, name: str = "v.nrrd", **changes: str | None) -> Path:
    spaced = {key.replace("_", " "): value for key, value in changes.items()}
    fields = {key: value for key, value in {**FIELDS, **spaced}.items() if value is not None}
    body = numbers().tobytes() if body is None else body
    path = text_headed(folder, name, fields, b"\n" + body, mark=": ")
    path.write_bytes(b"NRRD0004\n# a remark: x\n" + path.read_bytes())
    return path


def read(folder: Path, body: bytes | None = None, **changes: str | None) -> Volume:
    return read_path(write(folder, body, **changes))


def read_path(path: Path) -> Volume:
    return read_nrrd(stored_as(path, Format.NRRD))


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("suffix", ["nrrd", "nhdr"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_what_itk_wrote_is_read_as_it_was(tmp_path: Path, suffix: str, dtype: str, *, compressed: bool) -> None:
    geometry = oblique_geometry((5, 6, 7))
    values = np.abs(numbers()).astype(dtype)
    sitk.WriteImage(as_sitk(values, geometry), str(tmp_path / f"v.{suffix}"), compressed)
    volume = read_path(tmp_path / f"v.{suffix}")
    np.testing.assert_array_equal(volume.voxels, values)
    np.testing.assert_allclose(volume.geometry.affine, geometry.affine, atol=1e-9)
    assert volume.acquisition.warnings == ()


@pytest.mark.parametrize(
    ("space", "first_step", "origin"),
    [
        ("left-posterior-superior", (2, 0, 0), (10, 20, 30)),
        ("LPS", (2, 0, 0), (10, 20, 30)),
        ("right-anterior-superior", (-2, 0, 0), (-10, -20, 30)),
        ("RAS", (-2, 0, 0), (-10, -20, 30)),
        ("left-anterior-superior", (2, 0, 0), (10, -20, 30)),
    ],
)
def test_every_space_comes_out_in_lps(
    tmp_path: Path, space: str, first_step: tuple[float, ...], origin: tuple[float, ...]
) -> None:
    volume = read(tmp_path, space=space)
    assert volume.geometry.origin_mm == origin
    np.testing.assert_allclose(volume.geometry.world([[0, 0, 1]])[0] - origin, first_step)
    assert volume.acquisition.warnings == ()


@pytest.mark.parametrize("changes", [{"space": None}, {"space": "scanner-xyz"}])
def test_an_unknown_space_is_flagged(tmp_path: Path, changes: dict[str, str | None]) -> None:
    assert "space" in read(tmp_path, **changes).acquisition.warnings[0]


def test_spacings_alone_are_a_plain_grid_and_flagged(tmp_path: Path) -> None:
    volume = read(tmp_path, space=None, space_directions=None, space_origin=None, spacings="2 3 4")
    assert volume.geometry.spacing_mm == (4, 3, 2)
    assert len(volume.acquisition.warnings) == 1


def test_what_pynrrd_wrote_without_kinds_is_read(tmp_path: Path) -> None:
    pynrrd.write(str(tmp_path / "v.nrrd"), numbers().transpose(2, 1, 0), {"spacings": [2.0, 3.0, 4.0]})
    np.testing.assert_array_equal(read_path(tmp_path / "v.nrrd").voxels, numbers())


def test_a_single_volume_of_four_dimensions_is_a_volume(tmp_path: Path) -> None:
    volume = read(tmp_path, dimension="4", sizes="7 6 5 1", kinds="domain domain domain list",
                  space_directions="(2,0,0) (0,3,0) (0,0,4) none")  # fmt: skip
    np.testing.assert_array_equal(volume.voxels, numbers())


def test_lines_and_bytes_before_the_voxels_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "v.raw").write_bytes(b"one\ntwo\nxyz" + numbers().tobytes())
    for skips in ({"line_skip": "2", "byte_skip": "3"}, {"byte_skip": "-1"}):
        path = write(tmp_path, b"", "v.nhdr", data_file="./v.raw", **skips)
        np.testing.assert_array_equal(read_path(path).voxels, numbers())


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    content = write(tmp_path, b"").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "v.nrrd").write_bytes(content + numbers().tobytes())
    np.testing.assert_array_equal(read_path(tmp_path / "v.nrrd").voxels, numbers())


@pytest.mark.parametrize("name", ["/etc/passwd", "../v.raw", "a/v.raw", "..\\v.raw", "v.nrrd", "././v.raw"])
def test_voxels_in_another_folder_are_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path.parent / "v.raw").write_bytes(numbers().tobytes())
    with pytest.raises(UnsupportedInput, match="in another folder"):
        read(tmp_path, b"", data_file=name)


@pytest.mark.parametrize("name", ["LIST", "slice%03d.raw 1 5 1"])
def test_voxels_spread_over_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedInput, match="spread over several files"):
        read(tmp_path, b"", data_file=name)


def test_a_bomb_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="would inflate"):
        read(tmp_path, gzip.compress(bytes(1 << 20)), encoding="gzip", sizes="1000 1000 1000")


def test_compressed_voxels_that_were_cut_off_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="cut off"):
        read(tmp_path, gzip.compress(numbers().tobytes())[:-9], encoding="gzip")


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"sizes": "7 6 6"}, UnreadableFile, "promises 504 bytes of voxels and 420 are there"),
        ({"sizes": "7 6 4"}, UnreadableFile, "more follows than the 336 bytes"),
        ({"sizes": "7 6 -5"}, UnreadableFile, "7 x 6 x -5"),
        ({"sizes": "7 6 five"}, UnreadableFile, "whole numbers in `sizes`"),
        ({"sizes": "99999 99999 99999"}, TooLarge, "99999 x 99999 x 99999"),
        ({"dimension": "4"}, UnreadableFile, "another dimension"),
        ({"kinds": "domain domain"}, UnreadableFile, "another number of axes"),
        ({"kinds": "vector domain domain", "space_directions": "none (0,3,0) (0,0,4)"}, UnsupportedInput, "no volume"),
        (
            {
                "dimension": "4",
                "sizes": "7 6 5 2",
                "kinds": "domain domain domain list",
                "space_directions": "(2,0,0) (0,3,0) (0,0,4) none",
            },
            UnsupportedInput,
            "more than one volume",
        ),
        (
            {
                "dimension": "4",
                "sizes": "3 7 6 5",
                "kinds": "vector domain domain domain",
                "space_directions": "none (2,0,0) (0,3,0) (0,0,4)",
            },
            UnsupportedInput,
            "3 numbers for each voxel",
        ),
        ({"type": "block"}, UnsupportedInput, "block"),
        ({"endian": None}, UnreadableFile, "order of bytes"),
        ({"encoding": "bzip2"}, UnsupportedInput, "encoded as bzip2"),
        ({"encoding": None}, UnreadableFile, "does not say its `encoding`"),
        ({"space_directions": "(2,0,0) (0,nan,0) (0,0,4)"}, UntrustedGeometry, "not finite"),
        ({"space_directions": "(2,0,0) (0,0,0) (0,0,4)"}, UntrustedGeometry, "maps the volume to a plane"),
        ({"space_directions": "(2,0,0) (2,0,0) (0,0,4)"}, UntrustedGeometry, "maps the volume to a plane"),
        ({"space_directions": "(2,0) (0,3) (0,4)"}, UntrustedGeometry, "2 numbers in `space directions`"),
        ({"space_directions": None}, UntrustedGeometry, "how large a voxel is"),
        ({"space_directions": None, "spacings": "2 0 4"}, UntrustedGeometry, "2 x 0 x 4 mm"),
        ({"space_origin": "(a,b,c)"}, UntrustedGeometry, "no numbers in `space origin`"),
        ({"byte_skip": "-2"}, UnreadableFile, "byte skip"),
        ({"line_skip": "9", "data_file": "v.raw"}, UnreadableFile, "line skip"),
    ],
)
def test_a_header_that_cannot_be_is_refused_with_its_defect(
    tmp_path: Path, changes: dict[str, str | None], kind: type[InputError], says: str
) -> None:
    (tmp_path / "v.raw").write_bytes(b"one\n")
    with pytest.raises(kind, match=says) as caught:
        read(tmp_path, **changes)
    assert caught.value.source == "v.nrrd"


def test_less_than_a_slice_may_follow_the_voxels(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(tmp_path, numbers().tobytes() + bytes(80)).voxels, numbers())


@pytest.mark.parametrize("content", [b"", b"NRRD", b"\xff" * 4096])
def test_what_is_no_nrrd_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.nrrd").write_bytes(content)
    with pytest.raises(UnreadableFile, match="no NRRD"):
        read_path(tmp_path / "v.nrrd")
