import stat
import struct
import zipfile
from pathlib import Path

import pytest

from annotate_server.domain.errors import InputError, TooLarge, UnreadableFile, UnsupportedInput
from annotate_server.imaging.unpack import UnpackLimits, unpack, unpack_tree

SMALL = UnpackLimits(members=20, total_bytes=1 << 20, ratio=100)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def packed(tmp_path: Path, *members: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def test_members_get_names_of_ours_and_folders_are_left_out(tmp_path: Path, target: Path) -> None:
    path = packed(tmp_path, ("Meier^Anna/", b""), ("Meier^Anna/1.dcm", b"first"), ("Meier^Anna/2.dcm", b"second"))
    files = unpack(path, target, SMALL)
    assert [file.name for file in files] == ["00000", "00001"]
    assert [file.read_bytes() for file in files] == [b"first", b"second"]


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/x", "..\\up", "C:\\x", "\\\\host\\x"])
def test_a_path_that_leads_out_is_refused_without_naming_it(tmp_path: Path, target: Path, name: str) -> None:
    with pytest.raises(UnsupportedInput, match="member 1 of the zip archive is a path that leads out") as caught:
        unpack(packed(tmp_path, (name, b"x")), target, SMALL)
    assert name not in str(caught.value)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path: Path, target: Path, kind: int) -> None:
    member = zipfile.ZipInfo("link")
    member.external_attr = (kind | 0o777) << 16
    with pytest.raises(UnsupportedInput, match="a link or device"):
        unpack(packed(tmp_path, ("fine", b"x"), (member, b"/etc/passwd")), target, SMALL)
    assert list(target.iterdir()) == []


def test_a_bomb_is_refused_by_what_it_says_and_by_what_it_does(tmp_path: Path, target: Path) -> None:
    path = packed(tmp_path, ("zeros", bytes(1 << 20)))
    with pytest.raises(TooLarge):
        unpack(path, target, SMALL)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 10)  # the directory says that it is small
    path.write_bytes(content)
    with pytest.raises(InputError):
        unpack(path, target, SMALL)
    assert sum(file.stat().st_size for file in target.iterdir()) <= 100 * len(content)


def test_too_many_members_are_refused_before_the_directory_is_read(tmp_path: Path, target: Path) -> None:
    path = packed(tmp_path, *((f"{number}", b"") for number in range(21)))
    with pytest.raises(TooLarge, match="more than 20 files"):
        unpack(path, target, SMALL)
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 10 : end + 12] = struct.pack("<H", 3)
    content[end + 12 : end + 16] = struct.pack("<I", 1 << 30)
    path.write_bytes(content)
    with pytest.raises(TooLarge):
        unpack(path, target, SMALL)


def test_a_large_directory_behind_a_zip64_record_is_refused(tmp_path: Path, target: Path) -> None:
    path = packed(tmp_path, ("one", b"1"))
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 10**6, 10**6, 1 << 40, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    path.write_bytes(content[:end] + record + locator + content[end:])
    with pytest.raises(TooLarge):
        unpack(path, target, SMALL)


def test_encrypted_and_strangely_packed_members_are_refused(tmp_path: Path, target: Path) -> None:
    with pytest.raises(UnsupportedInput, match="method"):
        unpack(packed(tmp_path, ("a", b"x" * 99), method=zipfile.ZIP_LZMA), target, SMALL)
    path = packed(tmp_path, ("a", b"x"))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UnsupportedInput, match="encrypted"):
        unpack(path, target, SMALL)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.95])
def test_a_cut_archive_is_damaged(tmp_path: Path, target: Path, part: float) -> None:
    path = packed(tmp_path, *((f"{number}", bytes(range(256))) for number in range(5)))
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UnreadableFile):
        unpack(path, target, SMALL)


def test_a_flipped_byte_is_found_by_its_checksum(tmp_path: Path, target: Path) -> None:
    path = packed(tmp_path, ("a", b"some content of the file"), method=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"some content")] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnreadableFile):
        unpack(path, target, SMALL)


def test_a_tree_keeps_the_names_that_it_has(tmp_path: Path, target: Path) -> None:
    path = packed(tmp_path, ("model/configs/", b""), ("model/configs/a.json", b"{}"), ("./model/w.pt", b"w"))
    files = unpack_tree(path, target, SMALL)
    assert [file.relative_to(target).as_posix() for file in files] == ["model/configs/a.json", "model/w.pt"]
    assert [file.read_bytes() for file in files] == [b"{}", b"w"]


@pytest.mark.parametrize(
    "names", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("x" * 201,), ("a\nb",), ("/".join("d" * 20),), (".",)]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_cannot_be_kept_are_refused(tmp_path: Path, target: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedInput, match=r"member . of the zip archive"):
        unpack_tree(packed(tmp_path, *((name, b"x") for name in names)), target, SMALL)


@pytest.mark.parametrize("name", ["../up", "/etc/x", "..\\up", "C:\\x"])
def test_a_tree_stays_in_its_folder(tmp_path: Path, target: Path, name: str) -> None:
    with pytest.raises(UnsupportedInput, match="leads out"):
        unpack_tree(packed(tmp_path, (name, b"x")), target, SMALL)
    assert list(target.iterdir()) == []
