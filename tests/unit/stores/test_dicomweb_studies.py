"""An archive as a source of volumes: pages, growth, and what may be wrong with what it sends."""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pydicom
import pytest
from conftest import oblique_geometry
from dicom_phantom import phantom_voxels, write_series
from fake_archive import Answer, Asked, FakeArchive, fake_archive

from annotate_server.domain.errors import (
    ArchiveRefused,
    ArchiveTooSlow,
    ArchiveUnreachable,
    InvalidSettings,
    NoSpace,
)
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.reading import read_volume
from annotate_server.stores.archive_folder import ArchiveFolder
from annotate_server.stores.dicomweb_line import ArchiveLine, check_address
from annotate_server.stores.dicomweb_studies import ArchiveStudies, archive_studies
from annotate_server.stores.folder_studies import FolderStudies

GRID = oblique_geometry((5, 7, 6))
STUDY = "1.2.3"


@dataclass
class Stand:
    """A fake archive with series of files, and its studies."""

    archive: FakeArchive
    studies: ArchiveStudies
    folder: Path
    most_page: int = 100
    rows: dict[str, Any] = field(default_factory=dict)

    def add(self, uid: str, slices: int = 5) -> list[Path]:
        """Put a series into the archive."""
        files = write_series(self.folder / uid, oblique_geometry((slices, 7, 6)), uid=uid, change=named)
        self.serve(uid, files)
        return files

    def serve(self, uid: str, files: list[Path]) -> None:
        path = f"/studies/{STUDY}/series/{uid}"
        datasets = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        metadata = json.dumps([dataset.to_json_dict() for dataset in datasets])
        self.archive.answers[f"{path}/metadata"] = Answer(content=metadata.encode())
        self.archive.answers[path] = parted([file.read_bytes() for file in files])
        self.rows[uid] = row(uid, len(files))
        self.archive.answers["/series"] = self.pages(self.rows)

    def pages(self, rows: dict[str, Any]) -> Any:
        def answer(asked: Asked) -> Answer:
            query = parse_qs(urlsplit(asked.target).query)
            if query["Modality"] != ["CT"]:
                return Answer(204, b"", {})
            start = int(query.get("offset", ["0"])[0])
            length = min(self.most_page, int(query.get("limit", ["100"])[0]))
            return Answer(content=json.dumps(list(rows.values())[start : start + length]).encode())

        return answer

    def asked(self, end: str) -> int:
        return sum(urlsplit(each.target).path.endswith(end) for each in self.archive.asked)


def named(_: int, dataset: pydicom.Dataset) -> None:
    dataset.StudyInstanceUID = STUDY


def row(uid: str, count: int) -> dict[str, Any]:
    return {
        "0020000D": {"vr": "UI", "Value": [STUDY]},
        "0020000E": {"vr": "UI", "Value": [uid]},
        "00201209": {"vr": "IS", "Value": [count]},
    }


def parted(files: list[bytes], kind: str = 'multipart/related; type="application/dicom"; boundary=b') -> Answer:
    parts = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files)
    return Answer(content=parts + b"--b--\r\n", headers={"Content-Type": kind})


@pytest.fixture(scope="module")
def isolated() -> Iterator[Isolated]:
    with Isolated() as made:
        yield made


@pytest.fixture
def stand(tmp_path: Path, isolated: Isolated) -> Iterator[Stand]:
    with fake_archive() as archive:
        line = ArchiveLine(archive.address())
        studies = archive_studies(line, tmp_path / "workspace", 1 << 20, isolated)
        yield Stand(archive, studies, tmp_path / "files")
        line.hang_up()


def test_a_volume_of_an_archive_is_that_of_its_files(stand: Stand, isolated: Isolated) -> None:
    stand.add("1.2.3.4")
    (stored,) = stand.studies.scan()
    (there,) = FolderStudies(stand.folder, isolated).scan()
    assert (stored.series_uid, stored.study_uid, stored.part) == (there.series_uid, there.study_uid, there.part)
    assert (stored.patient, stored.modality, stored.description) == (there.patient, there.modality, there.description)
    assert stored.frame_of_reference == there.frame_of_reference
    assert [uid for uid, _ in stand.studies.slices(stored).slices] == [f"1.2.3.4.{k + 1}" for k in range(5)]
    assert not any(file.exists() for file in stored.files)
    assert stand.asked("/series/1.2.3.4") == 0
    with stand.studies.held(stored):
        volume = read_volume(stored)
    np.testing.assert_array_equal(volume.voxels, phantom_voxels(GRID.shape))
    assert volume.geometry.matches(GRID)
    with stand.studies.held(stored):
        assert stand.asked("/series/1.2.3.4") == 1


def test_every_page_is_read_and_known_series_are_not_looked_into_again(stand: Stand) -> None:
    for number in range(7):
        stand.add(f"1.2.3.{number + 10}", 3)
    stand.most_page = 3
    assert len(list(stand.studies.scan())) == 7
    assert stand.asked("/metadata") == 7
    stand.add("1.2.3.99", 3)
    assert len(list(stand.studies.scan())) == 8
    assert stand.asked("/metadata") == 8


def test_an_archive_that_knows_no_pages_does_not_hold_a_scan_for_ever(stand: Stand) -> None:
    stand.add("1.2.3.4")
    text = json.dumps([row("1.2.3.4", 5)]).encode()
    stand.archive.answers["/series"] = Answer(content=text)
    assert len(list(stand.studies.scan())) == 1


def test_a_series_that_grows_is_looked_into_again_and_one_that_goes_is_gone(stand: Stand) -> None:
    stand.add("1.2.3.4", 4)
    stand.add("1.2.3.5", 4)
    assert len(list(stand.studies.scan())) == 2
    stand.add("1.2.3.4", 6)
    assert [len(stored.files) for stored in stand.studies.scan()] == [6, 4]
    stand.archive.answers["/series"] = stand.pages({"1.2.3.4": row("1.2.3.4", 6)})
    assert [stored.series_uid for stored in stand.studies.scan()] == ["1.2.3.4"]


def test_a_long_look_is_cut_short_and_goes_on_with_the_next_scan(stand: Stand) -> None:
    for number in range(4):
        stand.add(f"1.2.3.{number + 10}", 3)
    stand.studies.look_s = 0.0
    counts = []
    for _ in range(4):
        counts.append(len(list(stand.studies.scan())))
    assert counts == [1, 2, 3, 4]
    assert not stand.studies.has_more


def test_an_archive_that_fails_while_it_is_looked_through_loses_nothing(stand: Stand) -> None:
    stand.add("1.2.3.4")
    assert len(list(stand.studies.scan())) == 1
    stand.add("1.2.3.5")
    stand.archive.answers[f"/studies/{STUDY}/series/1.2.3.5/metadata"] = Answer(500, b"")
    stand.archive.answers[f"/studies/{STUDY}/series/1.2.3.6/metadata"] = Answer(content=b"{no json")
    stand.archive.answers["/series"] = stand.pages({f"1.2.3.{n}": row(f"1.2.3.{n}", 5) for n in (4, 5, 6)})
    fine, refused, damaged = stand.studies.scan()
    assert fine.problem is None
    assert refused.problem is not None
    assert refused.problem.type == "archive-refused"
    assert damaged.problem is not None
    assert damaged.problem.type == "unreadable-file"
    stand.add("1.2.3.5")
    stand.archive.answers["/series"] = stand.pages({f"1.2.3.{n}": row(f"1.2.3.{n}", 5) for n in (4, 5, 6)})
    assert [stored.problem is None for stored in stand.studies.scan()] == [True, True, False]
    stand.archive.answers["/series"] = Answer(503, b"")
    with pytest.raises(ArchiveUnreachable):
        list(stand.studies.scan())


def test_metadata_of_another_series_is_refused(stand: Stand) -> None:
    stand.add("1.2.3.4")
    stand.archive.answers[f"/studies/{STUDY}/series/1.2.3.5/metadata"] = stand.archive.answers[
        f"/studies/{STUDY}/series/1.2.3.4/metadata"
    ]
    stand.archive.answers["/series"] = stand.pages({"1.2.3.5": row("1.2.3.5", 5)})
    (stored,) = stand.studies.scan()
    assert stored.problem is not None
    assert "another series" in stored.problem.detail


@pytest.mark.parametrize("case", ["fewer", "others", "cut", "no parts", "page", "damaged"])
def test_instances_that_are_not_those_of_the_series_are_refused_and_nothing_stays(stand: Stand, case: str) -> None:
    files = [file.read_bytes() for file in stand.add("1.2.3.4")]
    others = [file.read_bytes() for file in write_series(stand.folder / "other", GRID, uid="9.8", change=named)]
    (stored,) = stand.studies.scan()
    whole = parted(files)
    stand.archive.answers[f"/studies/{STUDY}/series/1.2.3.4"] = {
        "fewer": parted(files[1:]),
        "others": parted(others),
        "cut": Answer(content=whole.content[:-300], headers=whole.headers),
        "no parts": Answer(content=b"hello", headers={"Content-Type": "multipart/related; boundary=b"}),
        "page": Answer(content=b"<html>", headers={"Content-Type": "text/html"}),
        "damaged": parted([file[:200] for file in files]),
    }[case]
    with pytest.raises(ArchiveRefused), stand.studies.held(stored):
        pass
    assert list(stand.studies.files.folder.iterdir()) == []
    stand.archive.answers[f"/studies/{STUDY}/series/1.2.3.4"] = whole
    with stand.studies.held(stored):
        assert all(file.exists() for file in stored.files)


def test_a_series_beyond_the_bound_is_refused_and_older_ones_make_room(stand: Stand, tmp_path: Path) -> None:
    stand.add("1.2.3.4")
    (stored,) = stand.studies.scan()
    stand.studies.files.most_bytes = 100
    with pytest.raises(NoSpace, match="ANNOTATE_ARCHIVE_CACHE_BYTES"), stand.studies.held(stored):
        pass
    folder = ArchiveFolder(tmp_path / "series", 250)
    for number, name in enumerate(("a", "b", "c")):
        with folder.made(name) as part:
            (part / "x.dcm").write_bytes(bytes(100))
        os.utime(folder.folder / name, (number, number))
    assert {each.name for each in folder.folder.iterdir()} == {"b", "c"}


def test_a_series_that_many_want_at_once_is_fetched_once_and_kept_while_it_is_held(stand: Stand) -> None:
    stand.add("1.2.3.4")
    (stored,) = stand.studies.scan()
    everybody = threading.Barrier(6)

    def read(_: int) -> bool:
        everybody.wait()
        with stand.studies.held(stored):
            return all(file.exists() for file in stored.files)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(6)))
    assert stand.asked("/series/1.2.3.4") == 1
    stand.add("1.2.3.5")
    _, other = stand.studies.scan()
    stand.studies.files.most_bytes = sum(file.stat().st_size for file in stored.files) + 1000
    with stand.studies.held(stored):
        os.utime(stored.files[0].parent, (1, 1))
        with stand.studies.held(other):
            assert all(file.exists() for file in (*stored.files, *other.files))
    shutil.rmtree(other.files[0].parent)
    os.utime(stored.files[0].parent, (1, 1))
    with stand.studies.held(other):
        assert not stored.files[0].exists()


def test_an_archive_that_is_silent_or_gone_says_so(stand: Stand, tmp_path: Path, isolated: Isolated) -> None:
    held = threading.Event()
    stand.archive.answers["/series"] = Answer(wait=held)
    line = ArchiveLine(stand.archive.address(timeout_s=0.3))
    with pytest.raises(ArchiveTooSlow, match=r"within 0\.3 s"):
        list(archive_studies(line, tmp_path / "w", 1 << 20, isolated).scan())
    held.set()
    line.hang_up()
    with fake_archive() as gone:
        line = ArchiveLine(gone.address())
    with pytest.raises(ArchiveUnreachable):
        list(archive_studies(line, tmp_path / "w", 1 << 20, isolated).scan())
    line.hang_up()


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, {}, None),
        (202, {"00081199": {"vr": "SQ", "Value": [{}]}}, None),
        (202, {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [272]}}]}}, "0110"),
        (409, {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [43264]}}]}}, "A900"),
        (400, {}, "400"),
        (401, {}, "ANNOTATE_ARCHIVE_USER"),
    ],
)
def test_what_an_archive_did_not_keep_is_known_by_its_reason(
    stand: Stand, tmp_path: Path, status: int, body: object, reason: str | None
) -> None:
    stand.archive.answers["/studies"] = Answer(status, json.dumps(body).encode())
    file = tmp_path / "label.dcm"
    file.write_bytes(b"dicom")
    if reason is None:
        stand.studies.store(file)
        assert b"\r\n\r\ndicom\r\n--" in stand.archive.asked[-1].body
    else:
        with pytest.raises(ArchiveRefused, match=reason):
            stand.studies.store(file)


@pytest.mark.parametrize(
    "address", ["http://", "ftp://host/x", "http://a:b@host/x", "http://host:99999/x", "http://host/x?y", "//host"]
)
def test_what_is_no_address_of_an_archive_is_refused(address: str) -> None:
    with pytest.raises(InvalidSettings):
        check_address(address)
