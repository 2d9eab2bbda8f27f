"""Instances that are sent (STOW-RS): each is answered for by itself, with its reason (PS3.18 10.5, I.2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from conftest import oblique_geometry
from dicom_phantom import write_series
from pydicom.uid import RLELossless
from server_process import ServerProcess, running

GRID = oblique_geometry((4, 12, 11))
KIND = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=part'}
PROCESSING, DUPLICATE, CLASS, OTHER_STUDY, NOT_UNDERSTOOD = 0x0110, 0x0111, 0x0122, 0xA900, 0xC000
KEPT, FAILED, OTHER = "00081199", "00081198", "0008119A"


@dataclass
class Stored:
    """What a server said of what was sent."""

    status: int
    kept: list[str]
    failed: dict[str, int]
    other: list[int]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("storing") / "workspace") as made:
        yield made.wait_until_ready()


@pytest.fixture(scope="module")
def web(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def part(content: bytes, kind: str = "application/dicom") -> bytes:
    return f"--part\r\nContent-Type: {kind}\r\n\r\n".encode() + content + b"\r\n"


def send(web: httpx.Client, parts: Sequence[bytes], study: str = "") -> Stored:
    answer = web.post(f"/dicomweb/studies{study}", content=b"".join(parts) + b"--part--\r\n", headers=KIND)
    report = answer.json()
    if answer.status_code == 400:
        return Stored(400, [], {}, [])

    def items(tag: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = report.get(tag, {}).get("Value", [])
        return found

    return Stored(
        answer.status_code,
        [each["00081155"]["Value"][0] for each in items(KEPT)],
        {each["00081155"]["Value"][0]: each["00081197"]["Value"][0] for each in items(FAILED)},
        [each["00081197"]["Value"][0] for each in items(OTHER)],
    )


def series(folder: Path, uid: str, slices: int = 4) -> list[bytes]:
    return [file.read_bytes() for file in write_series(folder / uid, oblique_geometry((slices, 12, 11)), uid=uid)]


def frames(web: httpx.Client, uid: str) -> list[bytes]:
    """Return the frames that are served of a series, in order."""
    accepted = {"Accept": "application/octet-stream"}
    path = f"/dicomweb/studies/1.2.3/series/{uid}/instances"
    return [web.get(f"{path}/{each}/frames/1", headers=accepted).content for each in sorted(uids(uid))]


def uids(uid: str, slices: int = 4) -> set[str]:
    return {f"{uid}.{k + 1}" for k in range(slices)}


def test_the_same_instance_twice_is_there_once_and_both_were_kept(web: httpx.Client, tmp_path: Path) -> None:
    files = series(tmp_path, "1.9.1")
    first = send(web, [part(file) for file in (*files, files[0])])
    assert (first.status, set(first.kept), first.failed) == (200, uids("1.9.1"), {})
    again = send(web, [part(file) for file in files])
    assert (again.status, set(again.kept), again.failed) == (200, uids("1.9.1"), {})
    found = web.get("/dicomweb/studies/1.2.3/series/1.9.1/instances").json()
    assert {each["00080018"]["Value"][0] for each in found} == uids("1.9.1")
    assert len(found) == 4


def test_the_same_instance_in_another_encoding_is_the_same(web: httpx.Client, tmp_path: Path) -> None:
    files = series(tmp_path, "1.9.2")
    assert send(web, [part(file) for file in files]).status == 200
    packed = write_series(tmp_path / "packed", GRID, uid="1.9.2", syntax=RLELossless)
    again = send(web, [part(file.read_bytes()) for file in packed])
    assert (again.status, set(again.kept)) == (200, uids("1.9.2"))


def test_another_file_under_the_same_name_is_refused_and_changes_nothing(web: httpx.Client, tmp_path: Path) -> None:
    files = series(tmp_path, "1.9.3")
    assert send(web, [part(file) for file in files]).status == 200
    before = frames(web, "1.9.3")

    def brighter(_: int, dataset: pydicom.Dataset) -> None:
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<i2") + 1).tobytes()

    def renamed(_: int, dataset: pydicom.Dataset) -> None:
        dataset.SeriesDescription = "another"

    for number, change in enumerate((brighter, renamed)):
        other = write_series(tmp_path / f"other{number}", GRID, uid="1.9.3", change=change)
        sent = send(web, [part(file.read_bytes()) for file in other])
        assert (sent.status, sent.kept) == (409, [])
        assert sent.failed == dict.fromkeys(uids("1.9.3"), DUPLICATE)
    assert frames(web, "1.9.3") == before


def test_two_files_of_one_name_in_one_request_are_told_apart(web: httpx.Client, tmp_path: Path) -> None:
    files = series(tmp_path, "1.9.4")
    other = pydicom.dcmread(next((tmp_path / "1.9.4").glob("*0.dcm")))
    other.PixelData = bytes(len(other.PixelData))
    other.save_as(tmp_path / "other.dcm")
    sent = send(web, [*(part(file) for file in files), part((tmp_path / "other.dcm").read_bytes())])
    assert sent.status == 202
    assert set(sent.kept) == uids("1.9.4")
    assert sent.failed == {str(other.SOPInstanceUID): DUPLICATE}


def test_instances_of_another_study_than_the_address_says_are_refused(web: httpx.Client, tmp_path: Path) -> None:
    files = series(tmp_path, "1.9.5")
    sent = send(web, [part(file) for file in files], "/9.9.9")
    assert (sent.status, sent.kept, sent.failed) == (409, [], dict.fromkeys(uids("1.9.5"), OTHER_STUDY))
    assert web.get("/dicomweb/studies/9.9.9/series").status_code == 204
    sent = send(web, [part(file) for file in files], "/1.2.3")
    assert (sent.status, set(sent.kept)) == (200, uids("1.9.5"))
    half = series(tmp_path / "half", "1.9.6")
    stray = pydicom.dcmread(next((tmp_path / "1.9.5").iterdir()))
    stray.StudyInstanceUID, stray.SeriesInstanceUID = "7.7.7", "7.7.7.1"
    stray.SOPInstanceUID = stray.file_meta.MediaStorageSOPInstanceUID = "7.7.7.1.1"
    stray.save_as(tmp_path / "stray.dcm")
    sent = send(web, [*(part(file) for file in half), part((tmp_path / "stray.dcm").read_bytes())], "/1.2.3")
    assert (sent.status, set(sent.kept), sent.failed) == (202, uids("1.9.6"), {"7.7.7.1.1": OTHER_STUDY})


def test_what_is_no_dicom_is_named_beside_what_is(web: httpx.Client, tmp_path: Path) -> None:
    files = series(tmp_path, "1.9.7")
    sent = send(web, [part(b"{}", "application/json"), *(part(file) for file in files), part(b"no dicom at all")])
    assert (sent.status, set(sent.kept), sent.failed) == (202, uids("1.9.7"), {})
    assert sent.other == [NOT_UNDERSTOOD, NOT_UNDERSTOOD]
    alone = send(web, [part(b"hello", "text/plain")])
    assert (alone.status, alone.other) == (409, [NOT_UNDERSTOOD])
    cut = send(web, [part(series(tmp_path / "cut", "1.9.8")[0][:300])])
    assert cut.status == 409
    assert [*cut.failed.values(), *cut.other] == [NOT_UNDERSTOOD]


def test_an_object_that_is_no_image_is_refused_by_its_class(web: httpx.Client, tmp_path: Path) -> None:
    (file, *_) = write_series(tmp_path / "report", GRID, uid="1.9.9")
    report = pydicom.dcmread(file)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    report.Modality = "SR"
    for keyword in ("PixelData", "Rows", "Columns"):
        del report[keyword]
    report.save_as(file)
    sent = send(web, [part(file.read_bytes())])
    assert (sent.status, sent.failed) == (409, {str(report.SOPInstanceUID): CLASS})


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", KIND["Content-Type"], 400),
        (b"--part--\r\n", KIND["Content-Type"], 400),
        (b"--other\r\n\r\nx\r\n--other--\r\n", KIND["Content-Type"], 400),
        (b"--part\r\nContent-Type: application/dicom\r\n\r\nx", KIND["Content-Type"], 400),
        (b"x", 'multipart/related; type="application/dicom"', 400),
        (b"x", 'multipart/related; type="application/dicom+xml"; boundary=part', 415),
        (b"x", "application/dicom", 415),
    ],
)
def test_a_body_without_instances_is_refused_as_a_whole(web: httpx.Client, body: bytes, kind: str, status: int) -> None:
    answer = web.post("/dicomweb/studies", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["detail"].endswith(".")
