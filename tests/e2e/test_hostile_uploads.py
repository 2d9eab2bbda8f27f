"""Bad files and bad senders against a real server: each is told what is wrong, and nothing of it stays."""

import contextlib
import gzip
import io
import os
import socket
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from hostile_corpus import unpacked
from server_process import ServerProcess, running
from small_studies import add_project, small_chest, write_chest, write_chest_series

LIMIT_BYTES = 4 << 20
MOST_GROWTH_BYTES = 50 << 20
MEDIA_TYPE = "application/problem+json"


@dataclass
class Site:
    """A server for uploads, and what it keeps of them."""

    server: ServerProcess
    temporary: Path
    good: bytes

    def upload(self, content: bytes | Iterator[bytes]) -> httpx.Response:
        return httpx.post(f"{self.server.url}/api/v1/cases", content=content, timeout=120)

    def kept(self) -> list[Path]:
        """Return everything below the folders that uploads and their parsers write to."""
        folders = (self.server.workspace / "uploads", self.server.workspace / "scratch", self.temporary)
        walked = (found for folder in folders for found in os.walk(folder))  # it bears folders that vanish meanwhile
        return sorted(Path(root) / name for root, below, files in walked for name in (*below, *files))

    def wait_until_kept(self, expected: list[Path]) -> None:
        """Wait until what a sender left behind is cleared away: the server notices only then that they are gone."""
        deadline = time.monotonic() + 30
        while self.kept() != expected:
            assert time.monotonic() < deadline, f"left behind: {set(self.kept()) ^ set(expected)}"
            time.sleep(0.05)

    def raw(self, *heads: str) -> socket.socket:
        """Begin an upload by hand."""
        host, port = self.server.url.removeprefix("http://").split(":")
        line = socket.create_connection((host, int(port)), 60)
        line.sendall("\r\n".join(("POST /api/v1/cases HTTP/1.1", "Host: localhost", *heads, "", "")).encode())
        return line

    def rss_bytes(self) -> int:
        """Return what the web process holds."""
        return int(psutil.Process(self.server.process.pid).memory_info().rss)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("uploads")
    (folder / "temporary").mkdir()
    settings = {"ANNOTATE_UPLOAD_BYTES": str(LIMIT_BYTES), "TMPDIR": str(folder / "temporary")}
    with running(folder / "workspace", settings=settings) as server:
        server.wait_until_ready()
        made = Site(server, folder / "temporary", write_chest(folder / "good.nii").read_bytes())
        assert made.upload(made.good).status_code == 201
        with server.client() as client:
            add_project(client)
        yield made


@pytest.fixture
def unchanged(site: Site) -> Iterator[None]:
    """Assert that a test leaves nothing behind, neither on the disk nor in memory, and a server that works."""
    before, rss = site.kept(), site.rss_bytes()
    yield
    site.wait_until_kept(before)
    assert site.rss_bytes() - rss < MOST_GROWTH_BYTES
    assert site.upload(site.good).status_code == 201
    for path in reversed(site.kept()):
        if path not in before:
            path.unlink() if path.is_file() else path.rmdir()


def assert_refused(answer: httpx.Response, status: int, said: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert said in answer.json()["detail"]


# Senders


def answered(line: socket.socket) -> tuple[int, bytes]:
    """Return the status and all that a server says, until it closes the line."""
    said = b""
    with line, contextlib.suppress(ConnectionResetError):
        while part := line.recv(1 << 16):
            said += part
            head, found, body = said.partition(b"\r\n\r\n")
            if found and f"content-length: {len(body)}".encode() in head.lower():
                break
    return int(said.split()[1]), said


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("half", ["in the middle", "before anything"])
def test_an_upload_that_is_cut_off_leaves_nothing(site: Site, half: str) -> None:
    line = site.raw(f"Content-Length: {len(site.good)}")
    if half == "in the middle":
        line.sendall(site.good[: len(site.good) // 2])
        time.sleep(0.2)
    line.close()


@pytest.mark.usefixtures("unchanged")
def test_a_line_that_breaks_in_the_middle_of_chunks_leaves_nothing(site: Site) -> None:
    line = site.raw("Transfer-Encoding: chunked")
    line.sendall(b"8000\r\n" + site.good[:0x8000] + b"\r\n8000\r\n" + site.good[:0x100])
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it ends by a reset
    time.sleep(0.2)
    line.close()


@pytest.mark.usefixtures("unchanged")
def test_a_body_that_is_announced_too_long_is_refused_before_it_comes(site: Site) -> None:
    status, said = answered(site.raw(f"Content-Length: {LIMIT_BYTES + 1}"))
    assert status == 413
    assert MEDIA_TYPE.encode() in said
    assert str(LIMIT_BYTES).encode() in said


@pytest.mark.usefixtures("unchanged")
def test_a_body_without_a_length_is_stopped_at_the_limit(site: Site) -> None:
    line = site.raw("Transfer-Encoding: chunked")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(64):
            line.sendall(b"40000\r\n" + bytes(0x40000) + b"\r\n")
    status, said = answered(line)
    assert status == 413
    assert MEDIA_TYPE.encode() in said


@pytest.mark.usefixtures("unchanged")
def test_a_body_longer_than_announced_is_read_to_what_was_announced(site: Site) -> None:
    line = site.raw("Content-Length: 2000", "Connection: close")
    line.sendall(site.good[:4000])
    status, said = answered(line)
    assert status == 422
    assert b"cut off" in said


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("length", ["-1", "12a", "1e3", "999999999999999999999999", "5, 6"])
def test_a_length_that_is_none_is_refused(site: Site, length: str) -> None:
    status, _ = answered(site.raw(f"Content-Length: {length}", "Connection: close"))
    assert status in (400, 413, 422)


@pytest.mark.slow
@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("pause_s", [0.5, 100.0])
def test_a_trickle_is_given_up(site: Site, pause_s: float) -> None:
    line = site.raw(f"Content-Length: {len(site.good)}")
    line.settimeout(pause_s)
    line.sendall(site.good[:64])
    for byte in range(70):
        try:
            line.recv(1, socket.MSG_PEEK)
            break
        except TimeoutError:
            line.sendall(site.good[byte : byte + 1])
    line.settimeout(60)
    status, said = answered(line)
    assert status == 408
    assert b"too slowly" in said


@pytest.mark.usefixtures("unchanged")
def test_a_trickle_holds_nobody_else_up(site: Site) -> None:
    lines = [site.raw(f"Content-Length: {len(site.good)}", f"X-Annotate-Name: slow{n}") for n in range(20)]
    for line in lines:
        line.sendall(site.good[:1000])
    assert httpx.get(f"{site.server.url}/api/v1/cases", timeout=10).status_code == 200
    assert httpx.get(f"{site.server.url}/health/live", timeout=10).status_code == 200
    for line in lines:
        line.close()


# Archives


def zipped(members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda info: None) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            change(info)
            archive.writestr(info, member)
    return content.getvalue()


def linked(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def device(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFBLK | 0o777) << 16


def lying() -> bytes:
    """Return a zip whose directory says that its member is small; it is 16 MB."""
    content = bytearray(zipped({"big": bytes(16 << 20)}))
    for magic, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        where = content.rfind(magic)
        content[where + at : where + at + 4] = struct.pack("<I", 100)
    return bytes(content)


def overlapping() -> bytes:
    """Return a zip whose thousand entries are one and the same member."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(1 << 20))
        only = archive.infolist()[0]
        archive.filelist += [only] * 999
    return content.getvalue()


def many() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(10_001):
            archive.writestr(str(number), b"")
    return content.getvalue()


ARCHIVES = {
    "bomb": (lambda: zipped({"zeros": bytes(256 << 20)}), 413, "unpacks to more"),
    "bomb of small files": (lambda: zipped({str(n): bytes(1 << 20) for n in range(64)}), 413, "unpacks to more"),
    "lies of its size": (lying, 422, "damaged"),
    "one member a thousand times": (overlapping, 413, "unpacks to more"),
    "bomb in a bomb": (lambda: zipped({"inner.zip": zipped({"zeros": bytes(2 << 20)})}), 415, "no volume"),
    "many": (many, 413, "more than 10000 files"),
    "parent folder": (lambda: zipped({"../../evil.nii": b"x"}), 415, "leads out"),
    "parent folder, backslashes": (lambda: zipped({"..\\evil.nii": b"x"}), 415, "leads out"),
    "absolute": (lambda: zipped({"/tmp/evil.nii": b"x"}), 415, "leads out"),  # noqa: S108  nothing is written there
    "drive": (lambda: zipped({"C:\\evil.nii": b"x"}), 415, "leads out"),
    "symbolic link": (lambda: zipped({"link": b"/etc/passwd"}, linked), 415, "link or device"),
    "device": (lambda: zipped({"device": b""}, device), 415, "link or device"),
    "cut": (lambda: zipped({"a": bytes(10_000)})[:-40], 422, "zip archive"),
    "noise": (lambda: b"PK\x03\x04" + bytes(range(256)) * 40, 422, "zip archive"),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_is_refused_with_its_defect(site: Site, name: str) -> None:
    make, status, said = ARCHIVES[name]
    assert_refused(site.upload(make()), status, said)
    assert not Path("/tmp/evil.nii").exists()  # noqa: S108  see above


# Files


def wide_nifti(good: bytes) -> bytes:
    """Return a NIfTI whose header announces 32767 voxels a side."""
    header = bytearray(good[:352])
    struct.pack_into("<8h", header, 40, 3, 32767, 32767, 32767, 1, 1, 1, 1)
    return bytes(header) + good[352:]


def inflating_nifti(good: bytes) -> bytes:
    """Return 512 MB of voxels as 512 kB of gzip."""
    header = bytearray(good[:352])
    struct.pack_into("<8h", header, 40, 3, 1024, 1024, 256, 1, 1, 1, 1)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(bytes(header))]
    parts += [packer.compress(bytes(1 << 20)) for _ in range(512)]
    return b"".join((*parts, packer.flush()))


FILES = {
    "empty": lambda good: b"",
    "text": lambda good: b"no volume",
    "program": lambda good: b"\x7fELF" + bytes(1000),
    "cut in the header": lambda good: good[:200],
    "cut in the voxels": lambda good: good[:-1000],
    "cut gzip": lambda good: gzip.compress(good)[:-100],
    "gzip of noise": lambda good: gzip.compress(bytes(range(256)) * 100),
    "far too wide": wide_nifti,
    "DICOM without anything": lambda good: bytes(128) + b"DICM" + bytes(100),
    "NRRD of another file": lambda good: (
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: /etc/passwd\n\n"
    ),
    "MetaImage of another file": lambda good: (
        b"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_SHORT\nElementDataFile = /etc/passwd\n"
    ),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_with_its_defect(site: Site, name: str) -> None:
    answer = site.upload(FILES[name](site.good))
    assert answer.status_code in (413, 415, 422), answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert len(answer.json()["detail"]) > 20
    assert "root:" not in answer.text


def test_a_file_that_inflates_to_much_more_leaves_no_memory_taken(site: Site) -> None:
    before = site.rss_bytes()
    answer = site.upload(inflating_nifti(site.good))
    assert answer.status_code in (201, 413, 422), answer.text
    assert site.rss_bytes() - before < MOST_GROWTH_BYTES
    assert not list(site.temporary.iterdir())


def test_a_series_that_was_read_is_neither_changed_nor_kept_twice_by_another_upload(site: Site, tmp_path: Path) -> None:
    write_chest_series(tmp_path / "known")
    slices = {path.name: path.read_bytes() for path in sorted((tmp_path / "known").iterdir())}
    first = site.upload(zipped(slices))
    assert first.status_code == 201
    case = first.json()["cases"][0]["id"]
    with site.server.client() as client:
        session = client.open("small", case)
        before = site.kept()
        for other in (next(iter(slices.values())), zipped(dict(list(slices.items())[1:]))):
            assert_refused(site.upload(other), 409, "already, with other slices")
        assert site.kept() == before
        again = site.upload(zipped(slices))
        assert (again.status_code, again.json()["cases"][0]["id"]) == (201, case)
        assert site.kept() == before
        session.point("any_structure", small_chest().world([[15, 20, 12]])[0])
        session.leave()


# The corpus


@pytest.fixture(scope="module")
def corpus(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(test_data / "12_hostile.tar.gz", tmp_path_factory.mktemp("corpus"))


@pytest.mark.slow
@pytest.mark.real_data
def test_every_hostile_file_becomes_a_case_or_is_refused_with_its_defect(
    test_data: Path, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "temporary").mkdir()
    settings = {"TMPDIR": str(tmp_path / "temporary")}
    with running(tmp_path / "workspace", settings=settings) as server:
        server.wait_until_ready()
        good = write_chest(tmp_path / "good.nii").read_bytes()
        site = Site(server, tmp_path / "temporary", good)
        assert site.upload(good).status_code == 201
        with server.client() as client:
            add_project(client)
        before, accepted = site.rss_bytes(), 1
        for name, content in bodies(corpus):
            answer = site.upload(content)
            print(f"\n{name}: {answer.status_code} {said_of(answer)}")  # noqa: T201  the figures, with -s
            assert answer.status_code in (201, 409, 413, 415, 422), f"{name}: {answer.text}"
            if answer.status_code == 201:
                accepted += 1
                for case in answer.json()["cases"]:
                    opened = httpx.post(f"{server.url}/api/v1/projects/small/cases/{case['id']}/sessions", timeout=60)
                    print(f"  opened: {opened.status_code} {said_of(opened)}")  # noqa: T201  as above
                    assert opened.status_code in (201, 409, 413, 415, 422), f"{name}: {opened.text}"
            else:
                assert answer.headers["content-type"] == MEDIA_TYPE
                assert len(answer.json()["detail"]) > 20
        folders = list((server.workspace / "uploads").iterdir())
        assert len(folders) == accepted
        assert not [folder for folder in folders if folder.name.startswith(".")]
        assert not list(site.temporary.iterdir())
        growth = site.rss_bytes() - before
        print(f"web process: {before / 1e6:.0f} MB before, {growth / 1e6:+.0f} MB after")  # noqa: T201  as above
        assert growth < MOST_GROWTH_BYTES
        assert site.upload(good).status_code == 201


def bodies(corpus: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every series of the corpus as a zip, then every file."""
    for folder in sorted(corpus.glob("*/d0*")):
        yield folder.name, zipped({each.name: each.read_bytes() for each in sorted(folder.iterdir())})
    for path in sorted(corpus.rglob("*")):
        if path.is_file():
            yield path.name, path.read_bytes()


def said_of(answer: httpx.Response) -> str:
    return str(answer.json().get("detail", ""))
