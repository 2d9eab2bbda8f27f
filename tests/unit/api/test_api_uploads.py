"""Uploads: whole or not at all, whatever comes."""

import contextlib
import io
import socket
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from api_server import PATIENT, Running, make_site, serving

from annotate_server.api.services import ApiOptions, Limits

NIFTI = b"\x5c\x01\x00\x00" + bytes(36) + b"\x03\x00" + bytes(302) + b"n+1\x00" + bytes(1000)
DICOM = bytes(128) + b"DICM" + bytes(400)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = Limits(upload_bytes=1 << 20, unpacked_bytes=2 << 20, idle_s=0.4, least_bytes_per_s=1000)
    with serving(make_site(tmp_path_factory.mktemp("site")), ApiOptions(limits=limits)) as server:
        yield server


@pytest.fixture
def web(running: Running) -> Iterator[httpx.Client]:
    with running.client() as client:
        yield client


def uploads(running: Running) -> list[str]:
    return sorted(
        str(path.relative_to(running.site.services.uploads)) for path in running.site.services.uploads.rglob("*")
    )


def zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(f"{PATIENT}/{name}", member)
    return content.getvalue()


def test_a_volume_becomes_a_case_under_a_name_of_ours(web: httpx.Client, running: Running) -> None:
    answer = web.post("/api/v1/cases", content=NIFTI)
    assert answer.status_code == 201, answer.text
    [case] = answer.json()["cases"]
    assert answer.headers["location"] == f"/api/v1/cases/{case['id']}"
    assert case["is_uploaded"]
    assert PATIENT not in answer.text
    assert [name.partition("/")[2] for name in uploads(running) if "/" in name] == ["volume.nii"]
    assert web.get(f"/api/v1/cases/{case['id']}").status_code == 200


def test_a_zip_of_several_series_answers_with_all_of_them(web: httpx.Client, running: Running) -> None:
    content = zipped(a=DICOM, b=DICOM + b"2", readme=b"read me")
    answer = web.post("/api/v1/cases", content=content)
    assert answer.status_code == 201, answer.text
    assert answer.json()["total"] == 2
    assert "location" not in answer.headers
    names = [name.partition("/")[2] for name in uploads(running)]
    assert {"volume-00000.dcm", "volume-00001.dcm"} <= set(names)
    assert not any(PATIENT in name or "body" in name or "00002" in name for name in names)


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 415, "no volume"),
        (b"just some text", 415, "no volume"),
        (zipped(readme=b"read me"), 415, "no volume"),
        (zipped(zeros=bytes(1 << 20)), 413, "unpacks to more"),
        (zipped(a=DICOM)[:-30], 422, "zip archive"),
        (bytes(2 << 20), 413, "1048576 bytes"),
        (b"bad!" + NIFTI[4:], 422, "ends in the middle of a slice"),
    ],
)
def test_what_cannot_be_used_is_named_and_leaves_nothing(
    web: httpx.Client, running: Running, content: bytes, status: int, said: str
) -> None:
    before = uploads(running)
    answer = web.post("/api/v1/cases", content=content)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert uploads(running) == before


def test_a_body_without_length_is_stopped_at_the_limit(web: httpx.Client, running: Running) -> None:
    before = uploads(running)

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(1 << 16)

    with contextlib.suppress(httpx.WriteError):  # the server closed the line while the client was still sending
        assert web.post("/api/v1/cases", content=endless()).status_code == 413
    assert uploads(running) == before


def raw(running: Running, head: bytes) -> socket.socket:
    host, port = running.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), 10)
    connection.sendall(b"POST /api/v1/cases HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n")
    return connection


def settled(running: Running, before: list[str]) -> bool:
    for _ in range(100):
        with suppress(FileNotFoundError):  # a folder that goes while it is listed
            if uploads(running) == before:
                return True
        time.sleep(0.05)
    return False


def test_a_body_that_is_cut_off_leaves_nothing(running: Running) -> None:
    before = uploads(running)
    with raw(running, b"Content-Length: 500000\r\n") as connection:
        connection.sendall(NIFTI)
        time.sleep(0.1)
    assert settled(running, before)


def test_a_body_that_stalls_is_given_up(running: Running) -> None:
    before = uploads(running)
    with raw(running, b"Content-Length: 500000\r\n") as connection:
        connection.sendall(NIFTI)
        assert connection.recv(200).startswith(b"HTTP/1.1 408")
    assert settled(running, before)


def test_a_body_that_drips_is_given_up(running: Running) -> None:
    before = uploads(running)
    with raw(running, b"Content-Length: 500000\r\n") as connection:
        connection.settimeout(0.1)
        answer = b""
        for _ in range(100):
            try:
                connection.sendall(b"x")
                answer = connection.recv(200)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")
    assert settled(running, before)


def test_a_small_body_that_stalls_is_given_up_too(running: Running) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert connection.recv(200).startswith(b"HTTP/1.1 408")


def test_what_a_killed_server_left_is_swept_at_the_next_start(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    left = site.services.uploads / ".part-123"
    left.mkdir(parents=True)
    (left / "body").write_bytes(b"half")
    with serving(site):
        assert list(site.services.uploads.iterdir()) == []
