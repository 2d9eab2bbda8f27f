"""The studies of a real archive (Debian's Orthanc): found, shown, annotated, and labels sent back to it."""

import base64
import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from conftest import oblique_geometry
from dicom_phantom import phantom_voxels, write_enhanced, write_series
from orthanc_process import PASSWORD, USER, OrthancProcess, needs_orthanc
from pydicom.uid import JPEGLSLossless
from server_process import ServerProcess, running

from annotate_server.domain.annotation import SendingState
from annotate_server.domain.archive import ArchiveAddress
from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.dicom_uids import segmentation_uids
from annotate_server.domain.geometry import Box
from annotate_server.domain.project import Project, ReviewPolicy
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.labelmap_files import read_labelmap
from annotate_server.imaging.reading import read_volume
from annotate_server.stores.dicomweb_line import ArchiveLine
from annotate_server.stores.dicomweb_studies import archive_studies
from annotate_server.stores.folder_studies import FolderStudies
from annotate_server.testing.phantoms import make_sample_data

pytestmark = pytest.mark.slow
FRAMES = {"Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}
LONGEST_S = 60.0


@dataclass
class Site:
    """An archive with the phantoms, and a server whose studies it is."""

    orthanc: OrthancProcess
    server: ServerProcess
    samples: Path
    clients: ExitStack

    def web(self) -> httpx.Client:
        """Return a client of the server as it listens now."""
        return self.clients.enter_context(httpx.Client(base_url=self.server.url, timeout=60))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    needs_orthanc()
    samples, folder = tmp_path_factory.mktemp("samples"), tmp_path_factory.mktemp("archive")
    make_sample_data(samples)
    orthanc = OrthancProcess(folder / "orthanc").start()
    try:
        orthanc.upload(sorted((samples / "images/ct_chest").iterdir()))
        settings = {
            "ANNOTATE_ARCHIVE_USER": USER,
            "ANNOTATE_ARCHIVE_PASSWORD": PASSWORD,
            "ANNOTATE_RESCAN_S": "1",
            "ANNOTATE_ARCHIVE_TIMEOUT_S": "20",
        }
        with running(folder / "workspace", orthanc.dicom_web, settings) as server:
            server.wait_until_ready().wait_for_cases(1)
            with ExitStack() as clients:
                yield Site(orthanc, server, samples, clients)
    finally:
        orthanc.kill()


def chest_of(samples: Path) -> StoredVolume:
    files = tuple(sorted((samples / "images/ct_chest").iterdir()))
    return StoredVolume("chest", Format.DICOM, files, PatientKey("", ""))


def eventually(wanted: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        if found := wanted():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not come about in time")


def sending(web: httpx.Client, label_id: str) -> dict[str, Any]:
    found: dict[str, Any] = web.get(f"/api/v1/labels/{label_id}").json()["sending"]
    return found


def approved(site: Site, case_id: str, corner: int) -> tuple[str, np.ndarray]:
    """Draw a box on a case, submit it, and let somebody else approve it; returns the label and its voxels."""
    with site.server.client("ann") as ann, site.server.client("bob") as bob:
        session = ann.open("chests", case_id)
        box = Box((corner, corner, corner), (corner + 3, corner + 4, corner + 5))
        session.edit(box, np.full(box.shape, session.segments[0].index, session.draft.dtype))
        voxels = session.draft.copy()
        label = session.submit()
        assert bob.review(label.id, "approved").state == "approved"
    return label.id, voxels


def test_an_archive_is_annotated_like_a_folder_and_gets_its_labels_back(site: Site, tmp_path: Path) -> None:
    # found: the case is that of the files, with its slices, before a voxel was fetched
    web, chest = site.web(), read_volume(chest_of(site.samples))
    (case,) = web.get("/api/v1/cases").json()["cases"]
    slices = web.get(f"/api/v1/cases/{case['id']}").json()["instances"]
    assert [each["k"] for each in slices] == list(range(chest.geometry.shape[0]))
    with running(tmp_path / "files", site.samples / "images/ct_chest") as other:
        other.wait_for_cases(1)
        with other.client() as client:
            assert [each.id for each in client.cases()] == [case["id"]]
    # a series that comes later is found by the next look
    site.orthanc.upload(sorted((site.samples / "images/mr_head").iterdir()))
    site.server.wait_for_cases(2)
    # drafted, prompted, edited
    with site.server.client("ann") as ann, site.server.client("bob") as bob:
        app = ann.model("demo_ct")
        review = ReviewPolicy.OTHER_PERSON
        ann.add_project(Project("chests", "Chests", app.segments, ("demo_ct",), review=review, send_labels_back=True))
        session = ann.open("chests", case["id"])
        assert session.draft_by("demo_ct").state == "succeeded"
        assert ann.case(case["id"]).geometry == chest.geometry
        inside = chest.geometry.world([np.argwhere(session.draft == 0)[1000]])[0]
        session.point("any_structure", inside, segment=session.segments[0].index)
        box = Box((1, 2, 3), (3, 5, 7))
        session.edit(box, np.full(box.shape, session.segments[0].index, session.draft.dtype))
        final, segments = session.draft.copy(), session.segments
        label = session.submit()
        assert web.get(f"/api/v1/labels/{label.id}").json()["sending"] is None
        assert bob.review(label.id, "approved").state == "approved"
    # sent back: there, readable, and equal
    eventually(lambda: sending(web, label.id)["state"] == SendingState.SENT)
    (content,) = site.orthanc.instances("SEG")
    seg = pydicom.dcmread(io.BytesIO(content))
    assert (seg.SeriesInstanceUID, seg.SOPInstanceUID) == segmentation_uids(label.id)
    assert sending(web, label.id)["sop_instance_uid"] == seg.SOPInstanceUID
    assert {each.SeriesInstanceUID for each in seg.ReferencedSeriesSequence} == {case["series_uid"]}
    assert seg.StudyInstanceUID == case["study_uid"]
    path = tmp_path / "seg.dcm"
    path.write_bytes(content)
    (back,) = read_labelmap(path, chest.geometry)
    names = {segment.name: segment.index for segment in back.segments}
    for segment in segments:
        np.testing.assert_array_equal(back.voxels == names.get(segment.name, -1), final == segment.index, segment.name)


def test_a_label_that_is_approved_while_the_archive_is_down_arrives_once(site: Site) -> None:
    web = site.web()
    case = next(each for each in web.get("/api/v1/cases").json()["cases"] if each["modality"] == "CT")
    before = len(site.orthanc.instances("SEG"))
    site.orthanc.kill()
    down = web.get("/dicomweb/studies")
    assert down.status_code == 503
    assert down.headers["content-type"].startswith("application/problem+json")
    assert "cannot be reached" in down.json()["detail"]
    assert down.json()["type"].endswith("archive-unreachable")
    assert int(down.headers["retry-after"]) > 0
    label_id, _ = approved(site, case["id"], 4)
    waiting = eventually(lambda: (now := sending(web, label_id))["reason"] and now)
    assert waiting["state"] == SendingState.PENDING
    assert "cannot be reached" in waiting["reason"]
    assert 'annotate_labels_to_archive{state="pending"} 1.0' in web.get("/metrics").text
    # the server is killed as well, and knows after its restart what it owes
    site.server.kill()
    site.server.start()
    web = site.web()
    assert len(web.get("/api/v1/cases").json()["cases"]) == 2
    assert not any(each["is_missing"] for each in web.get("/api/v1/cases").json()["cases"])
    assert sending(web, label_id)["state"] == SendingState.PENDING
    site.orthanc.start()
    eventually(lambda: sending(web, label_id)["state"] == SendingState.SENT)
    time.sleep(1.5)
    uids = [pydicom.dcmread(io.BytesIO(each)).SOPInstanceUID for each in site.orthanc.instances("SEG")]
    assert len(uids) == len(set(uids)) == before + 1
    assert segmentation_uids(label_id)[1] in uids
    assert 'annotate_labels_to_archive{state="pending"} 0.0' in web.get("/metrics").text


def test_what_a_viewer_asks_reaches_the_archive_as_it_was_asked(site: Site) -> None:
    web, there = site.web(), site.clients.enter_context(site.orthanc.client())
    for query in (
        "limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060",
        "limit=5&includefield=00081030&includefield=00100020&PatientID=SAMPLE*",
        "PatientName=*&limit=1&offset=1",
        "PatientID=nobody",
    ):
        answers = [web.get(f"/dicomweb/studies?{query}"), there.get(f"/dicom-web/studies?{query}")]
        assert answers[0].status_code == answers[1].status_code
        ours, theirs = (answer.text.replace(site.server.url, "").replace(site.orthanc.url, "") for answer in answers)
        assert ours.replace("/dicomweb", "/dicom-web") == theirs, query
    assert web.get("/dicomweb/studies?limit=5").json() != []
    assert web.get("/dicomweb/studies/1.2.3/metadata").status_code == 404
    assert web.get("/dicomweb/studies/1.2.3/series/4.5/instances/6/frames/1", headers=FRAMES).status_code == 404


def test_frames_and_bulk_data_come_through_and_every_address_is_the_servers(site: Site) -> None:
    web = site.web()
    case = next(each for each in web.get("/api/v1/cases").json()["cases"] if each["modality"] == "CT")
    chest = chest_of(site.samples)
    instance = pydicom.dcmread(chest.files[3])
    path = f"/dicomweb/studies/{case['study_uid']}/series/{case['series_uid']}"
    metadata = web.get(f"{path}/metadata", headers={"Accept": "application/dicom+json"})
    assert site.orthanc.url not in metadata.text
    assert len(metadata.json()) == len(chest.files)
    frame = web.get(f"{path}/instances/{instance.SOPInstanceUID}/frames/1", headers=FRAMES)
    assert frame.status_code == 200
    assert instance.PixelData in frame.content
    bulk = next(each["7FE00010"]["BulkDataURI"] for each in metadata.json() if "7FE00010" in each)
    assert bulk.startswith(site.server.url)
    assert web.get(bulk).status_code == 200


def test_compressed_and_multi_frame_series_of_an_archive_are_those_of_their_files(site: Site, tmp_path: Path) -> None:
    grid = oblique_geometry((5, 48, 40))
    files = write_series(tmp_path / "files/packed", grid, uid="1.8.1", syntax=JPEGLSLossless)
    files.append(write_enhanced(tmp_path / "files/enhanced.dcm", grid, [phantom_voxels(grid.shape)], modality="CT"))
    site.orthanc.upload(files)
    credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    line = ArchiveLine(ArchiveAddress(site.orthanc.dicom_web, f"Basic {credentials}"))
    with Isolated() as isolated:
        archive = archive_studies(line, tmp_path / "workspace", 1 << 30, isolated)
        there = {each.series_uid: each for each in archive.scan()}
        for stored in FolderStudies(tmp_path / "files", isolated).scan():
            same = there[stored.series_uid]
            assert (same.part, same.modality, same.problem) == (stored.part, stored.modality, stored.problem)
            with archive.held(same):
                assert read_volume(same).digest == read_volume(stored).digest
    line.hang_up()


def test_an_uploaded_case_is_served_here_beside_the_archive(site: Site) -> None:
    with site.server.client("ann") as ann:
        (case,) = ann.upload(site.samples / "labels/mr_head.nii")
        ann.declare_modality(case.id, "MR")
        made = ann.case(case.id)
    web = site.web()
    found = web.get("/dicomweb/studies", params={"StudyInstanceUID": made.study_uid or ""}).json()
    assert len(found) == 1
    metadata = web.get(f"/dicomweb/studies/{made.study_uid}/series/{made.series_uid}/metadata")
    assert metadata.status_code == 200
    assert not any(each.get("PatientID") for each in metadata.json())


def test_instances_are_stored_by_reviewers_and_no_secret_is_in_the_log(site: Site, tmp_path: Path) -> None:
    instance = pydicom.dcmread(chest_of(site.samples).files[0])
    instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5.6"
    instance.SeriesInstanceUID, instance.Modality = "1.2.3.4.5", "OT"
    path = tmp_path / "one.dcm"
    instance.save_as(path)
    body = b"--part\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes() + b"\r\n--part--\r\n"
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=part'}
    answer = site.web().post("/dicomweb/studies", content=body, headers={**kind, "Accept": "application/dicom+json"})
    assert answer.status_code == 200, answer.text
    assert len(site.orthanc.instances("OT")) == 1
    log = (site.server.workspace.parent / f"{site.server.workspace.name}.log").read_text()
    assert PASSWORD not in log
    assert "Basic " not in log
