"""One person, one case, from the worklist to a downloaded label, over HTTP."""

import gzip
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from api_server import DARK, GEOMETRY, PATIENT, Running, make_site, serving

from annotate_server.domain.geometry import Box
from annotate_server.imaging.frame import MEDIA_TYPE, Frame, decode_frame, encode_frame

POINT = {"kind": "point", "points_mm": GEOMETRY.world([[2, 3, 4]]).tolist(), "segment": 1, "model": "bright"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(make_site(tmp_path_factory.mktemp("site"))) as server:
        yield server


@pytest.fixture
def web(running: Running) -> Iterator[httpx.Client]:
    with running.client() as client:
        yield client


@pytest.fixture
def session(web: httpx.Client) -> Iterator[str]:
    found = web.post("/api/v1/projects/bright/cases/case1/sessions")
    assert found.status_code == 201, found.text
    address = found.headers["location"]
    yield address
    web.post(f"{address}/leave")


def frame_of(response: httpx.Response) -> Frame:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    frame = decode_frame(response.content)
    assert response.headers["etag"] == f'"{frame.revision}"'
    return frame


def edit_of(frame: Frame, box: Box, value: int) -> bytes:
    voxels = np.full(box.shape, value, np.uint8)
    return encode_frame(Frame("", frame.session_id, frame.revision, box, voxels, GEOMETRY.digest()))


def test_a_case_comes_with_grid_and_identifiers_but_without_its_patient(web: httpx.Client, session: str) -> None:
    case = web.get("/api/v1/cases/case1").json()
    assert case["geometry"]["digest"] == GEOMETRY.digest()
    assert case["geometry"]["shape"] == [9, 14, 11]
    assert np.allclose(case["geometry"]["direction"], GEOMETRY.direction)
    assert case["study_uid"] == "1.2.3"
    assert case["warnings"] == ["The qform was not used"]
    everything = web.get("/api/v1/cases").text + web.get("/api/v1/cases/case1").text
    assert PATIENT not in everything


def test_cases_are_filtered_and_paged(web: httpx.Client) -> None:
    assert web.get("/api/v1/cases", params={"study": "1.2.3"}).json()["total"] == 1
    assert {c["id"] for c in web.get("/api/v1/cases", params={"modality": "CT"}).json()["cases"]} == {"case1", "case2"}
    page = web.get("/api/v1/cases", params={"limit": 1, "offset": 1}).json()
    assert (page["total"], [c["id"] for c in page["cases"]]) == (3, ["case2"])


def test_a_prompt_answers_with_the_changed_box_and_undo_gives_it_back(web: httpx.Client, session: str) -> None:
    whole = frame_of(web.get(f"{session}/labelmap"))
    assert whole.box == Box.whole(GEOMETRY.shape)
    assert whole.segments is not None
    answered = frame_of(web.post(f"{session}/prompts", json=POINT))
    assert answered.voxels.size < whole.voxels.size / 10
    assert (answered.voxels == 1).any()
    assert answered.can_undo
    undone = frame_of(web.post(f"{session}/undo"))
    assert not undone.voxels.any()
    assert undone.can_redo
    redone = frame_of(web.post(f"{session}/redo"))
    assert (redone.voxels == 1).any()
    since = frame_of(web.get(f"{session}/labelmap", params={"since": undone.revision}))
    assert (since.voxels == 1).sum() == (answered.voxels == 1).sum()


def test_an_answer_says_where_the_time_went(web: httpx.Client, session: str) -> None:
    answer = web.post(f"{session}/prompts", json=POINT)
    parts = dict(each.strip().split(";dur=") for each in answer.headers["server-timing"].split(","))
    assert {"blob", "log", "total"} <= set(parts)
    assert all(0 <= float(parts[name]) <= float(parts["total"]) for name in parts)


def test_an_edit_needs_the_revision_it_was_made_on(web: httpx.Client, session: str) -> None:
    frame = frame_of(web.get(f"{session}/labelmap"))
    box = Box((0, 0, 0), (1, 3, 4))
    body = edit_of(frame, box, DARK.index)
    assert web.put(f"{session}/labelmap", content=body).status_code == 428
    assert web.put(f"{session}/labelmap", content=body, headers={"If-Match": "*"}).status_code == 428
    assert web.put(f"{session}/labelmap", content=body, headers={"If-Match": "7"}).status_code == 412
    stale = web.put(f"{session}/labelmap", content=body, headers={"If-Match": '"999"'})
    assert (stale.status_code, stale.json()["type"]) == (412, "urn:annotate-server:problem:stale-revision")
    etag = f'"{frame.revision}"'
    edited = frame_of(web.put(f"{session}/labelmap", content=body, headers={"If-Match": etag}))
    assert (edited.voxels == DARK.index).all()
    assert web.put(f"{session}/labelmap", content=body, headers={"If-Match": etag}).status_code == 412
    assert web.post(f"{session}/undo", headers={"If-Match": etag}).status_code == 412


def test_an_edit_may_come_as_gzip_and_may_not_inflate_beyond_the_grid(web: httpx.Client, session: str) -> None:
    frame = frame_of(web.get(f"{session}/labelmap"))
    headers = {"If-Match": f'"{frame.revision}"', "Content-Encoding": "gzip"}
    bomb = web.put(f"{session}/labelmap", content=gzip.compress(bytes(64 << 20)), headers=headers)
    assert bomb.status_code == 413
    assert web.put(f"{session}/labelmap", content=b"\x1f\x8b rubbish", headers=headers).status_code == 422
    cut = gzip.compress(edit_of(frame, Box((0, 0, 0), (1, 1, 9)), 1))[:-9]
    assert web.put(f"{session}/labelmap", content=cut, headers=headers).status_code == 422
    assert (
        web.put(f"{session}/labelmap", content=b"x", headers={**headers, "Content-Encoding": "br"}).status_code == 415
    )
    body = gzip.compress(edit_of(frame, Box((0, 0, 0), (1, 1, 9)), 1))
    assert (frame_of(web.put(f"{session}/labelmap", content=body, headers=headers)).voxels == 1).all()


def test_what_is_no_frame_is_named(web: httpx.Client, session: str) -> None:
    revision = frame_of(web.get(f"{session}/labelmap")).revision
    answer = web.put(f"{session}/labelmap", content=b"nothing of the kind", headers={"If-Match": f'"{revision}"'})
    assert answer.status_code == 422
    assert "ANF1" in answer.json()["detail"]


def test_a_draft_is_sent_as_gzip_only_where_that_is_taken(web: httpx.Client, session: str) -> None:
    plain = web.get(f"{session}/labelmap", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = web.get(f"{session}/labelmap", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert "content-encoding" not in web.get(f"{session}/labelmap", headers={"Accept-Encoding": "gzip;q=0"}).headers


def test_a_locked_segment_is_neither_prompted_nor_edited(web: httpx.Client, session: str) -> None:
    locked = web.put(f"{session}/locked", json={"locked": [1]})
    assert locked.json()["locked"] == [1]
    assert web.post(f"{session}/prompts", json=POINT).status_code == 409
    frame = frame_of(web.get(f"{session}/labelmap"))
    body = edit_of(frame, Box((0, 0, 0), (1, 3, 4)), 1)
    refused = web.put(f"{session}/labelmap", content=body, headers={"If-Match": f'"{frame.revision}"'})
    assert (refused.status_code, refused.json()["type"][-14:]) == (409, "locked-segment")


def test_segments_are_added_altered_and_removed(web: httpx.Client, session: str) -> None:
    new = {"index": 5, "name": "Cyst", "colour": [1, 2, 3], "kind": ["367643001", "SCT", "Cyst"]}
    added = frame_of(web.post(f"{session}/segments", json=new))
    assert added.segments is not None
    assert "Cyst" in [segment.name for segment in added.segments]
    altered = frame_of(web.patch(f"{session}/segments/5", json={"name": "Large cyst"}))
    assert altered.segments is not None
    [cyst] = [segment for segment in altered.segments if segment.index == 5]
    assert (cyst.name, cyst.colour, cyst.kind and cyst.kind.value) == ("Large cyst", (1, 2, 3), "367643001")
    removed = frame_of(web.delete(f"{session}/segments/5"))
    assert removed.segments is not None
    assert 5 not in [segment.index for segment in removed.segments]
    assert web.patch(f"{session}/segments/77", json={"name": "x"}).status_code == 404


def test_a_helper_lacking_a_number_names_it(web: httpx.Client, session: str) -> None:
    answer = web.post(f"{session}/helpers", json={"kind": "threshold", "low": 3.0})
    assert answer.status_code == 422
    assert "high" in answer.json()["detail"]
    assert web.post(f"{session}/helpers", json={"kind": "smooth", "distance_mm": 1.0}).status_code in (200, 409, 422)


def test_an_open_case_is_taken_and_says_by_whom(web: httpx.Client, running: Running, session: str) -> None:
    other = web.post("/api/v1/projects/bright/cases/case1/sessions", headers={"X-Annotate-Name": "bela"})
    assert other.status_code == 409
    assert other.json()["person"] == "me"
    assert other.json()["session"] == session.rsplit("/", 1)[1]


def test_a_stored_prediction_is_taken_into_the_draft(web: httpx.Client, running: Running, session: str) -> None:
    stored = running.site.add_prediction("case1")
    assert web.get("/api/v1/cases/case1/prediction").json()["id"] == stored
    assert web.get(f"{session}/drafted").json() is None
    assert web.get(f"{session}/drafted/labelmap").status_code == 404
    taken = frame_of(web.post(f"{session}/predictions/{stored}"))
    assert (taken.voxels == 1).sum() == 2 * 4 * 5
    drafted = web.get(f"{session}/drafted").json()
    assert [drafted["prediction"], drafted["model"], drafted["version"], drafted["unsure"]] == [
        stored,
        "bright",
        "1",
        [],
    ]
    made = frame_of(web.get(f"{session}/drafted/labelmap"))
    assert (made.box.shape, made.voxels.sum(), made.revision) == ((2, 4, 5), 40, taken.revision)
    assert web.get(f"/api/v1/predictions/{stored}/file", params={"format": "nifti"}).content == b"nifti: Bright"
    assert web.get("/api/v1/cases/case2/prediction").status_code == 404


def test_a_session_submits_a_label_that_downloads_in_every_format(web: httpx.Client) -> None:
    session = web.post("/api/v1/projects/bright/cases/case2/sessions").headers["location"]
    revision = frame_of(web.post(f"{session}/prompts", json=POINT)).revision
    assert web.post(f"{session}/heartbeat", json={"active_s": 4.0}).json()["revision"] == revision
    label = web.post(f"{session}/submit", headers={"If-Match": f'"{revision}"'})
    assert label.status_code == 201, label.text
    address = label.headers["location"]
    assert label.json()["state"] == "approved"
    assert web.get(address).json() == label.json()
    assert [one["id"] for one in web.get("/api/v1/projects/bright/cases/case2/labels").json()] == [label.json()["id"]]
    nrrd = web.get(f"{address}/file", params={"format": "nrrd"})
    assert nrrd.content.startswith(b"NRRD")
    assert nrrd.headers["content-disposition"].endswith('.seg.nrrd"')
    assert web.get(f"{address}/file").content == b"nifti: Bright, Dark"
    assert web.get(f"{address}/file", params={"format": "jpeg"}).status_code == 422
    gone = web.post(f"{session}/undo")
    assert gone.status_code == 409


def test_a_returned_label_goes_back_with_its_comment(web: httpx.Client) -> None:
    session = web.post("/api/v1/projects/reviewed/cases/case2/sessions").headers["location"]
    web.post(f"{session}/prompts", json=POINT)
    label = web.post(f"{session}/submit").json()
    assert label["state"] == "submitted"
    assert [one["id"] for one in web.get("/api/v1/projects/reviewed/reviews").json()] == [label["id"]]
    mine = web.post(f"/api/v1/labels/{label['id']}/review", json={"verdict": "approved"})
    assert mine.status_code == 409
    second = {"X-Annotate-Name": "bela"}
    verdict = {"verdict": "returned", "comment": "The rim is missing"}
    assert web.post(f"/api/v1/labels/{label['id']}/review", json=verdict, headers=second).json()["reviewer"] == "bela"
    [item] = [i for i in web.get("/api/v1/projects/reviewed/worklist").json() if i["case"] == "case2"]
    assert (item["status"], item["reason"]) == ("returned", "The rim is missing")


def test_an_expired_session_is_gone_until_it_is_resumed(web: httpx.Client, running: Running) -> None:
    session = web.post("/api/v1/projects/bright/cases/case3/sessions").headers["location"]
    running.site.watch.skip(100)
    assert web.post(f"{session}/heartbeat", json={}).status_code == 200
    running.site.watch.skip(121)
    assert web.get(session).status_code == 410
    assert session.rsplit("/", 1)[1] in [each["id"] for each in web.get("/api/v1/sessions").json()]
    assert web.post(f"{session}/resume").status_code == 200
    assert web.get(session).status_code == 200
    web.post(f"{session}/leave")


def test_a_case_put_aside_is_passed_over_until_it_is_taken_back(web: httpx.Client) -> None:
    aside = web.post("/api/v1/projects/reviewed/cases/case3/put-aside", json={"reason": "Motion"})
    assert (aside.json()["status"], aside.json()["reason"]) == ("put-aside", "Motion")
    assert web.post("/api/v1/projects/reviewed/cases/case3/sessions").status_code == 409
    assert web.post("/api/v1/projects/reviewed/cases/case3/take-back").json()["status"] == "open"


def test_two_people_never_get_the_same_next_case(web: httpx.Client) -> None:
    names = ["x", "y", "z"]
    got = [web.post("/api/v1/projects/reviewed/next", headers={"X-Annotate-Name": name}) for name in names]
    cases = [answer.json()["case"] for answer in got if answer.status_code == 201]
    assert len(cases) == len(set(cases)) >= 1
    assert web.post("/api/v1/projects/nowhere/next").status_code == 404


def test_a_modality_is_declared_once_and_remembered(web: httpx.Client) -> None:
    assert web.get("/api/v1/cases/case3").json()["modality"] is None
    assert web.put("/api/v1/cases/case3/modality", json={"modality": "MR"}).json()["modality"] == "MR"
    assert web.put("/api/v1/cases/case3/modality", json={"modality": "XR"}).status_code == 422


def test_projects_are_added_and_changed(web: httpx.Client) -> None:
    project = {"id": "lungs", "title": "Lungs", "apps": ["bright"], "modalities": ["CT"]}
    assert web.post("/api/v1/projects", json=project).status_code == 201
    assert web.post("/api/v1/projects", json=project).status_code == 409
    assert web.post("/api/v1/projects", json={**project, "id": "b", "apps": ["gone"]}).status_code == 404
    changed = web.put("/api/v1/projects/lungs", json={"title": "Both lungs", "review": "other-person"})
    assert (changed.json()["title"], changed.json()["review"]) == ("Both lungs", "other-person")
    assert web.put("/api/v1/projects/none", json={"title": "x"}).status_code == 404


def test_models_say_whether_they_can_be_used(web: httpx.Client) -> None:
    [model] = web.get("/api/v1/models").json()
    assert (model["name"], model["state"]) == ("bright", "ready")
    assert model["card"]["not_for"] == "Patients."
    assert web.get("/api/v1/models/other").status_code == 404


def test_the_server_says_who_asks_and_what_it_takes(web: httpx.Client) -> None:
    assert web.get("/api/v1/me").json() == {"name": "me", "role": "admin", "verified": False}
    assert "dicom-seg" in web.get("/api/v1/server").json()["downloads"]


def test_a_label_that_goes_back_to_the_archive_says_so_from_its_approval_on(web: httpx.Client) -> None:
    form = {"title": "Back", "segments": [], "apps": ["bright"], "send_labels_back": True}
    made = web.post("/api/v1/projects", json={**form, "id": "back"})
    assert (made.status_code, made.json()["send_labels_back"]) == (201, True)
    assert not web.get("/api/v1/projects/bright").json()["send_labels_back"]
    session = web.post("/api/v1/projects/back/cases/case1/sessions").headers["location"]
    label = web.post(f"{session}/submit", headers={"If-Match": '"0"'}).json()
    sending = label["sending"]
    assert (sending["state"], sending["attempts"], sending["reason"], sending["sent_at"]) == ("pending", 0, "", None)
    assert sending["sop_instance_uid"].startswith("2.25.")
    assert web.get(f"/api/v1/labels/{label['id']}").json()["sending"] == sending
    changed = web.put("/api/v1/projects/back", json={**form, "send_labels_back": False})
    assert not changed.json()["send_labels_back"]


def test_a_dicom_seg_of_a_case_that_is_no_dicom_is_refused_with_what_to_ask_for(web: httpx.Client) -> None:
    session = web.post("/api/v1/projects/bright/cases/case2/sessions").headers["location"]
    label = web.post(f"{session}/submit", headers={"If-Match": '"0"'}).json()
    answer = web.get(f"/api/v1/labels/{label['id']}/file", params={"format": "dicom-seg"})
    assert answer.status_code == 422
    assert "refers to a DICOM series" in answer.json()["detail"]
    assert "Ask for nifti or nrrd." in answer.json()["detail"]
