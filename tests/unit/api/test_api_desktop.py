"""What a desktop program asks for beside the journey: a case by its voxels, its volume, and the draft as a file."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from api_server import GEOMETRY, Running, Site, make_site, serving

from annotate_server.domain.case import Case, Format, StoredVolume, case_id
from annotate_server.domain.geometry import Box
from annotate_server.domain.stored import VolumeFacts
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.frame import MEDIA_TYPE, Frame, encode_frame
from annotate_server.imaging.labelmap_files import read_labelmap


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(make_site(tmp_path_factory.mktemp("site"))) as server:
        yield server


@pytest.fixture
def web(running: Running) -> Iterator[httpx.Client]:
    with running.client() as client:
        yield client


def _known(site: Site, number: int, facts: VolumeFacts) -> str:
    made = site.add_case(number)
    site.services.cases.learn(made, facts)
    return made


def test_a_case_is_found_by_its_voxels_and_by_its_series(web: httpx.Client, running: Running) -> None:
    facts = VolumeFacts("ab" * 32, GEOMETRY, Modality.CT, "HU")
    made = _known(running.site, 7, facts)
    found = web.get("/api/v1/cases", params={"digest": "ab" * 32}).json()
    assert [each["id"] for each in found["cases"]] == [made]
    assert web.get("/api/v1/cases", params={"digest": "cd" * 32}).json()["total"] == 0
    assert [each["id"] for each in web.get("/api/v1/cases", params={"series": "1.2.3.4"}).json()["cases"]] == ["case1"]
    assert web.get("/api/v1/cases", params={"digest": "no digest"}).status_code == 422


def test_a_case_that_was_not_read_yet_is_found_by_the_voxels_that_name_it(web: httpx.Client, running: Running) -> None:
    (template,) = running.site.services.cases.get("case2").case.volumes.values()
    stored = StoredVolume("folder/8.nii", Format.NIFTI, template.files, template.patient, Modality.CT)
    named = case_id(stored, "ef" * 32)
    running.site.services.cases.put([Case(named, stored.patient, {"CT": stored})])
    found = web.get("/api/v1/cases", params={"digest": "ef" * 32}).json()
    assert [each["id"] for each in found["cases"]] == [named]


def test_a_volume_comes_as_the_numbers_that_labels_lie_on(web: httpx.Client, running: Running) -> None:
    voxels = np.arange(GEOMETRY.shape[0] * GEOMETRY.shape[1] * GEOMETRY.shape[2], dtype=np.int16)
    volume = Volume(voxels.reshape(GEOMETRY.shape), GEOMETRY, Modality.CT, "HU")
    running.site.services.dicom.volumes.cache.put(volume)
    made = _known(running.site, 9, VolumeFacts(volume.digest, GEOMETRY, Modality.CT, "HU"))
    answer = web.get(f"/api/v1/cases/{made}/volume")
    assert answer.status_code == 200, answer.text
    head, _, body = answer.content.partition(b"\n\n")
    assert b"sizes: 11 14 9" in head
    np.testing.assert_array_equal(np.frombuffer(body, "<i2").reshape(GEOMETRY.shape), volume.voxels)
    assert web.get("/api/v1/cases/nowhere/volume").status_code == 404


def test_a_draft_comes_as_a_file_that_says_its_revision(web: httpx.Client, tmp_path: Path) -> None:
    session = web.post("/api/v1/projects/bright/cases/case2/sessions").json()
    address = f"/api/v1/sessions/{session['id']}"
    box = Box((1, 2, 3), (4, 6, 5))
    frame = Frame("", session["id"], session["revision"], box, np.full(box.shape, 2, np.uint8), GEOMETRY.digest())
    headers = {"Content-Type": MEDIA_TYPE, "If-Match": f'"{session["revision"]}"'}
    revision = web.put(f"{address}/labelmap", content=encode_frame(frame), headers=headers).headers["etag"]
    answer = web.get(f"{address}/file")
    assert (answer.status_code, answer.headers["etag"]) == (200, revision)
    assert f"annotate_revision:={revision.strip(chr(34))}".encode() in answer.content.partition(b"\n\n")[0]
    path = tmp_path / "draft.seg.nrrd"
    path.write_bytes(answer.content)
    (layer,) = read_labelmap(path, GEOMETRY)
    names = {segment.name: segment.index for segment in layer.segments}
    drawn = np.zeros(GEOMETRY.shape, np.bool_)
    drawn[box.slices] = True
    np.testing.assert_array_equal(layer.voxels == names["Dark"], drawn)
    assert set(names) == {"Bright", "Dark"}
    web.post(f"{address}/leave")
    assert web.get(f"{address}/file").status_code == 409
