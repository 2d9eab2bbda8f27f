"""What the stock clients of MONAI Label send, recorded call by call, against a real server on phantoms."""

import email
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import nrrd
import numpy as np
import pytest
from server_process import ServerProcess, running
from small_studies import small_chest, write_chest, write_chest_series

from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.imaging.labelmap_files import LabelmapFormat, read_labelmap, write_labelmap
from annotate_server.testing.phantom_files import write_nifti

BOUNDARY = "----------lImIt_of_THE_fIle_eW_$"
STANDARD = {"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "anne"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("dialect")
    studies = folder / "studies"
    studies.mkdir()
    write_chest(studies / "chest.nii")
    write_chest_series(studies / "series", 2)
    grid = small_chest()
    last = grid.world([[grid.shape[0] - 1, 0, 0]])[0]
    down = replace(grid, direction=((0.0, 0.0, -1.0), *grid.direction[1:]), origin_mm=tuple(last.tolist()))
    voxels = np.random.default_rng(4).integers(-1000, 1000, grid.shape).astype(np.int16)
    write_nifti(studies / "downwards.nii", voxels, down)
    with running(folder / "workspace", studies) as made:
        yield made.wait_until_ready().wait_for_cases(3)


@pytest.fixture
def web(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def slicer_body(fields: Mapping[str, str], files: Mapping[str, Path]) -> tuple[dict[str, str], bytes]:
    """Return headers and body as Slicer's module makes them: `$` in the boundary, whole paths as file names."""
    lines: list[bytes] = []
    for name, value in fields.items():
        lines += [f"--{BOUNDARY}".encode(), f'Content-Disposition: form-data; name="{name}"'.encode(), b""]
        lines.append(value.encode())
    for name, path in files.items():
        lines.append(f"--{BOUNDARY}".encode())
        lines.append(f'Content-Disposition: form-data; name="{name}"; filename="{path}"'.encode())
        lines += [b"Content-Type: application/octet-stream", b"", path.read_bytes()]
    lines += [f"--{BOUNDARY}--".encode(), b""]
    return {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}, b"".join(line + b"\r\n" for line in lines)


def slicer_infer(web: httpx.Client, model: str, image: str, params: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    headers, body = slicer_body({"params": json.dumps({**STANDARD, **params})}, {})
    answer = web.post(f"/infer/{model}?image={image}", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return parts_of(answer)


def parts_of(answer: httpx.Response) -> tuple[dict[str, Any], bytes]:
    kind = answer.headers["content-type"]
    assert kind.startswith("multipart/form-data; boundary=")
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + answer.content)
    words, image = message.get_payload()  # type: ignore[misc]
    assert re.fullmatch(r"[\w-]+\.nrrd", image.get_filename()), image.get_filename()
    assert words.get_filename() is None
    raw = answer.content.split(b"application/octet-stream\r\n\r\n", 1)[1]
    return json.loads(words.get_payload(decode=True)), raw[: raw.rindex(b"\r\n--")]


def submit(web: httpx.Client, image: str, file: Path, params: Mapping[str, Any], tag: str = "") -> httpx.Response:
    headers, body = slicer_body({"params": json.dumps({"client_id": "anne", **params})}, {"label": file})
    suffix = f"&tag={tag}" if tag else ""
    return web.put(f"/datastore/label?image={image}{suffix}", content=body, headers=headers)


def read_nrrd(content: bytes, folder: Path) -> tuple[np.ndarray, Mapping[str, Any]]:
    path = folder / "read.nrrd"
    path.write_bytes(content)
    voxels, header = nrrd.read(str(path), index_order="C")
    return voxels, header


def image_of(web: httpx.Client, name: str) -> tuple[str, dict[str, Any]]:
    objects = web.get("/datastore/?output=all").json()["objects"]
    for image, words in objects.items():
        if words["image"]["info"]["description"] == name:
            return image, words["image"]["info"]
    raise AssertionError(f"{name} is not listed: {objects}")


def test_slicer_connects_drafts_clicks_and_submits(web: httpx.Client, tmp_path: Path) -> None:
    assert web.get("/auth/").status_code == 404
    info = web.get("/info/").json()
    assert "config" not in info
    assert info["models"]["demo_ct"]["type"] == "segmentation"
    assert info["models"]["any_structure"]["type"] == "deepgrow"
    assert isinstance(info["labels"], list)
    assert web.get("/train/?check_if_running=true").status_code == 404

    sample = web.post("/activelearning/random", json={"client_id": "anne"}).json()
    assert sample["path"] == ""
    volume = web.get(f"/datastore/image?image={sample['id']}")
    assert volume.headers["content-disposition"] == f'attachment; filename="{sample["name"]}"'

    image, _ = image_of(web, "chest.nii")
    volume = web.get(f"/datastore/image?image={image}")
    voxels, grid = read_nrrd(volume.content, tmp_path)
    assert int(volume.headers["content-length"]) == len(volume.content)
    words, body = slicer_infer(web, "demo_ct", image, {})
    labels, header = read_nrrd(body, tmp_path)
    assert labels.shape == voxels.shape
    assert labels.dtype == np.uint8
    np.testing.assert_allclose(header["space directions"], grid["space directions"])
    np.testing.assert_allclose(header["space origin"], grid["space origin"])
    assert list(words["label_names"].values()) == list(range(1, 6))
    assert set(np.unique(labels)) <= set(range(6))

    i, j, k = 22, 20, 15
    clicks = {"label": "Lesion", "foreground": [[i, j, k]], "background": [[1, 1, 1]]}
    words, body = slicer_infer(web, "any_structure", image, clicks)
    grown, _ = read_nrrd(body, tmp_path)
    assert words["label_names"] == {"Lesion": 1}
    assert (grown[k, j, i], grown[1, 1, 1]) == (1, 0)
    words, body = slicer_infer(
        web, "any_structure", image, {"label": "Bone", "Bone": [[i, j, k]], "Airways": [[1, 1, 1]], "background": []}
    )
    both, _ = read_nrrd(body, tmp_path)
    assert (both[k, j, i], both[1, 1, 1]) == (words["label_names"]["Bone"], words["label_names"]["Airways"])

    (tmp_path / "label.nrrd").write_bytes(slicer_infer(web, "demo_ct", image, {})[1])
    names = list(info["models"]["demo_ct"]["labels"])
    listed = [{"name": name, "idx": rank} for rank, name in enumerate(names, 2)]  # as after leaving out a background
    answer = submit(web, image, tmp_path / "label.nrrd", {"label_info": listed, "model": "demo_ct"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["image"], answer.json()["label"]) == (image, image)
    told = web.get("/datastore/?output=all").json()["objects"][image]["labels"]
    assert told["final"]["info"]["client_id"] == "anne"
    assert isinstance(told["original"]["info"]["params"]["label_names"], dict)
    assert web.head(f"/datastore/label?image={image}&tag=final").status_code == 200
    assert web.head(f"/datastore/label?image={image}&tag=version_9").status_code == 404
    original = web.get(f"/datastore/label?label={image}&tag=original")
    np.testing.assert_array_equal(read_nrrd(original.content, tmp_path)[0], labels)

    refused = web.post("/train/demo_ct", json={"client_id": "anne"})
    assert (refused.status_code, "cannot be trained" in refused.json()["detail"]) == (409, True)
    assert web.delete("/train/").json() is None


def test_slicers_scribbles_are_answered(web: httpx.Client, tmp_path: Path) -> None:
    assert web.get("/info/").json()["models"]["any_structure_scribbles"]["type"] == "scribbles"
    image, _ = image_of(web, "chest.nii")
    voxels = np.zeros(small_chest().shape, np.uint8)
    voxels[15, 18:21, 20:25], voxels[15, 1, 1:9], voxels[20, 20:22, 20:22] = 2, 1, 3
    write_nifti(tmp_path / "scribbles.nii", voxels, small_chest())
    names = ["background_scribbles", "foreground_scribbles", "Lesion"]
    listed = [{"name": name, "id": number} for number, name in enumerate(names, 1)]
    params = {**STANDARD, "label_info": listed, "roi": [], "selected_label_name": "Lesion"}
    headers, body = slicer_body({"params": json.dumps(params)}, {"label": tmp_path / "scribbles.nii"})
    answer = web.post(f"/infer/any_structure_scribbles?image={image}", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    words, content = parts_of(answer)
    labels, _ = read_nrrd(content, tmp_path)
    assert words["label_names"] == {"Lesion": 1}
    assert labels[voxels == 2].all()
    assert not labels[voxels == 1].any()


def test_slicers_reviewer_reads_versions_and_says_a_verdict(web: httpx.Client, tmp_path: Path) -> None:
    image, _ = image_of(web, "Small chest")
    _, body = slicer_infer(web, "demo_ct", image, {})
    (tmp_path / "label.nrrd").write_bytes(body)
    for tag in ("", "version_2"):
        assert submit(web, image, tmp_path / "label.nrrd", {"model": "demo_ct"}, tag).status_code == 200
    tags = web.get("/datastore/?output=all").json()["objects"][image]["labels"]
    assert {"final", "version_1", "version_2"} <= set(tags)
    file = web.get(f"/datastore/label?label={image}&tag=version_1")
    assert file.headers["content-disposition"] == f'attachment; filename="{image}.seg.nrrd"'
    verdict = {"segmentationMeta": {"status": "approved", "level": "easy", "comment": ""}}
    url = f"/datastore/updatelabelinfo?label={image}&tag=final"
    answer = web.put(url, data={"params": json.dumps(verdict)})
    assert (answer.status_code, answer.json()) == (200, None)
    headers, content = slicer_body({"params": json.dumps({"status": "flagged"})}, {})
    assert web.put(url, content=content, headers=headers).status_code == 409, "an approved label is not taken back"
    assert web.delete(f"/datastore/label?id={image}&tag=version_1").status_code == 409
    assert web.get(f"/datastore/label/info?label={image}&tag=version_1").json()["client_id"] == "anne"


def test_ohif_searches_drafts_and_points(web: httpx.Client, tmp_path: Path) -> None:
    sample = web.post("/activelearning/random", json={}).json()
    found = web.get(f"/proxy/dicom/qido/studies?StudyInstanceUID={sample['StudyInstanceUID']}&limit=25").json()
    assert [study["0020000D"]["Value"][0] for study in found] == [sample["StudyInstanceUID"]]
    for name in ("chest.nii", "Small chest", "downwards.nii"):
        image, info = image_of(web, name)
        series, study = info["SeriesInstanceUID"], info["StudyInstanceUID"]
        metadata = web.get(f"/proxy/dicom/wado/studies/{study}/series/{series}/metadata").json()
        first = positions_along_normal(metadata)[0]
        url = f"/infer/any_structure?image={series}&output=image"
        k, j, i = 25, 20, 22
        sent = {"foreground": [[i, j, k]], "background": [], "result_compress": False, "restore_label_idx": False}
        answer = web.post(url, files={"params": (None, json.dumps({**STANDARD, **sent}))})
        assert answer.status_code == 200, answer.text
        assert answer.content.startswith(b"NRRD")
        labels, header = read_nrrd(answer.content, tmp_path)
        assert header["encoding"] == "raw"
        np.testing.assert_allclose(header["space origin"], first, atol=1e-3)
        assert labels[k, j, i] == 1
        clicked = k if name != "downwards.nii" else labels.shape[0] - 1 - k
        same = {"foreground": [[i, j, clicked]], "background": []}
        file, _ = read_nrrd(slicer_infer(web, "any_structure", image, same)[1], tmp_path)
        np.testing.assert_array_equal(labels, file if clicked == k else file[::-1])
    assert web.post("/train/", json={"any_structure": {}}).status_code == 409
    assert web.get("/train/?check_if_running=true").json()["detail"]


def positions_along_normal(metadata: list[dict[str, Any]]) -> list[np.ndarray]:
    rows = [(each["00200032"]["Value"], each["00200037"]["Value"]) for each in metadata]
    found = [(np.array(place), np.cross(turn[:3], turn[3:])) for place, turn in rows]
    return [place for place, normal in sorted(found, key=lambda pair: float(np.dot(*pair)))]


def test_the_python_client_sends_volumes_in(web: httpx.Client, tmp_path: Path) -> None:
    file = write_chest(tmp_path / "new.nii", 9)
    with file.open("rb") as stream:
        made = web.put("/session/", files={"files": ("new.nii", stream)}, data={"client_id": "anne"}).json()
    assert web.get(f"/session/{made['session_id']}").json()["name"] == made["session_id"]
    headers, body = slicer_body({"params": "{}"}, {"file": file})
    again = web.put("/datastore/?image=..%2F..%2Fetc", content=body, headers=headers)
    assert again.json()["image"] == made["session_id"], "the same voxels are the same case, whatever it is called"
    headers, body = slicer_body({"params": json.dumps(STANDARD)}, {})
    answer = web.post(f"/infer/demo_ct?image=&session_id={made['session_id']}", content=body, headers=headers)
    assert answer.status_code == 200
    headers, body = slicer_body({"params": json.dumps(STANDARD)}, {"file": file})
    answer = web.post("/infer/demo_ct?image=&output=json", content=body, headers=headers)
    assert answer.json()["label_names"]["Bone"] == 4
    task = web.post("/batch/infer/demo_ct?images=unlabeled", json={}).json()
    assert task["status"] in ("RUNNING", "DONE")
    assert web.get("/batch/infer").json()["id"]
    assert web.delete("/batch/infer/").status_code == 200


@pytest.mark.parametrize("count", [1, 7, 104])
def test_labels_keep_every_voxel_and_name_from_one_client_to_the_other(
    web: httpx.Client, tmp_path: Path, count: int
) -> None:
    image, _ = image_of(web, "chest.nii")
    geometry = small_chest()
    voxels = np.random.default_rng(count).integers(0, count + 1, geometry.shape).astype(np.uint8)
    names = [f"Part {count} no. {number}" for number in range(count, 0, -1)]
    write_nifti(tmp_path / "slicer.nii", voxels, geometry)
    listed = [{"name": name, "idx": rank} for rank, name in enumerate(names, 1)]
    answer = submit(web, image, tmp_path / "slicer.nii", {"label_info": listed, "project": "any_structure"})
    assert answer.status_code == 200, answer.text
    out = web.get(f"/datastore/label?label={image}&tag=final").content
    (tmp_path / "out.seg.nrrd").write_bytes(out)
    assert submit(web, image, tmp_path / "out.seg.nrrd", {"project": "any_structure"}).status_code == 200
    (tmp_path / "back.seg.nrrd").write_bytes(web.get(f"/datastore/label?label={image}&tag=final").content)
    (back,) = read_labelmap(tmp_path / "back.seg.nrrd", geometry)
    by_name = {segment.name: segment.index for segment in back.segments}
    assert set(by_name) == set(names)
    for rank, name in enumerate(names, 1):
        np.testing.assert_array_equal(back.voxels == by_name[name], voxels == rank)


def test_overlapping_segments_stay_apart(web: httpx.Client, tmp_path: Path) -> None:
    image, _ = image_of(web, "chest.nii")
    geometry = small_chest()
    organ, lesion = np.zeros((2, *geometry.shape), np.uint8)
    organ[5:20, 5:30, 5:30], lesion[15:25, 20:35, 20:35] = 1, 1
    layers = tuple(
        Labelmap(layer, geometry, (Segment(1, name, (9, 9, 9)),))
        for layer, name in ((organ, "Organ"), (lesion, "Lesion"))
    )
    write_labelmap(layers, tmp_path / "two.seg.nrrd", LabelmapFormat.NRRD)
    assert submit(web, image, tmp_path / "two.seg.nrrd", {"project": "any_structure"}).status_code == 200
    (tmp_path / "out.seg.nrrd").write_bytes(web.get(f"/datastore/label?label={image}&tag=final").content)
    found = read_labelmap(tmp_path / "out.seg.nrrd", geometry)
    kept = {segment.name: layer.where(segment) for layer in found for segment in layer.segments}
    np.testing.assert_array_equal(kept["Organ"], organ == 1)
    np.testing.assert_array_equal(kept["Lesion"], lesion == 1)


def test_two_annotators_at_once_keep_both_labels(web: httpx.Client, tmp_path: Path) -> None:
    image, _ = image_of(web, "downwards.nii")
    (tmp_path / "label.nrrd").write_bytes(
        slicer_infer(web, "any_structure", image, {"label": "Lesion", "foreground": [[3, 4, 5]]})[1]
    )
    before = len(web.get("/datastore/?output=all").json()["objects"][image]["labels"])
    named = [{"name": "Lesion", "idx": 1}]

    def hand_in(who: str) -> None:
        answer = submit(web, image, tmp_path / "label.nrrd", {"label_info": named, "client_id": who})
        assert answer.status_code == 200, answer.text

    threads = [threading.Thread(target=hand_in, args=(who,)) for who in ("anne", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    labels = web.get("/datastore/?output=all").json()["objects"][image]["labels"]
    assert len(labels) >= before + 2
    assert {label["info"]["client_id"] for tag, label in labels.items() if tag != "original"} == {"anne", "bob"}


def test_bad_input_is_refused_with_a_sentence_and_changes_nothing(
    server: ServerProcess, web: httpx.Client, tmp_path: Path
) -> None:
    image, _ = image_of(web, "chest.nii")
    files = {name: tmp_path / name for name in ("text.nii.gz", "empty.nrrd", "cut.nii", "other.nii", "evil.zip")}
    files["text.nii.gz"].write_text("no label")
    files["empty.nrrd"].write_bytes(b"")
    files["cut.nii"].write_bytes(write_chest(tmp_path / "whole.nii").read_bytes()[:5000])
    write_nifti(files["other.nii"], np.ones((3, 4, 5), np.uint8), replace(small_chest(), shape=(3, 4, 5)))
    files["evil.zip"].write_bytes(b"PK\x03\x04" + b"\0" * 100)
    before = web.get("/datastore/?output=all").json()
    named = {"label_info": [{"name": "Lesion", "idx": 1}]}
    answers = [submit(web, image, file, named) for file in files.values()]
    answers += [submit(web, image, files["other.nii"], named, tag) for tag in ("..%2F..%2Fx", "original", "x" * 300)]
    answers += [submit(web, name, files["other.nii"], named) for name in ("", "..%2F..%2Fx", "%00", "nothing")]
    headers, body = slicer_body({"params": json.dumps({"foreground": [[99, 1, 1]]})}, {})
    answers += [web.post(f"/infer/{m}?image={image}", content=body, headers=headers) for m in ("no", "any_structure")]
    for params in ("{", "[1]", '{"foreground": 3}', '{"foreground": [[1,2]]}', '{"foreground": [[NaN,1,1]]}'):
        headers, body = slicer_body({"params": params}, {})
        answers.append(web.post(f"/infer/any_structure?image={image}", content=body, headers=headers))
    headers, body = slicer_body({"params": "{}"}, {})
    for name in ("", "nothing", "%2Fetc%2Fpasswd", "1.2.3"):
        answers.append(web.post(f"/infer/demo_ct?image={name}", content=body, headers=headers))
    answers.append(web.post(f"/infer/any_structure?image={image}", content=body[:-30], headers=headers))
    answers.append(
        web.post(f"/infer/any_structure?image={image}", content=b"x", headers={"content-type": "multipart/x"})
    )
    for file in ("text.nii.gz", "empty.nrrd", "cut.nii", "evil.zip"):
        headers, body = slicer_body({"params": "{}"}, {"file": files[file]})
        answers.append(web.put("/datastore/?image=x", content=body, headers=headers))
        answers.append(web.put("/datastore/image?image=x", content=body, headers=headers))
    answers += [web.post("/activelearning/nonsense", json={}), web.get("/datastore/image?image=..%2F..%2Fetc%2Fpasswd")]
    answers += [web.get(f"/datastore/label?label={image}&tag=..%2Fx"), web.delete(f"/datastore/?id={image}")]
    for number, answer in enumerate(answers):
        assert 400 <= answer.status_code < 500, (number, answer.request.url, answer.status_code, answer.text)
        assert len(answer.json()["detail"]) > 5
        assert str(tmp_path.parent) not in answer.text
        assert str(server.workspace) not in answer.text, answer.text
    assert web.get("/datastore/?output=all").json() == before
    assert not list((server.workspace / "uploads").glob(".part-*"))
    assert not list((server.workspace / "drafts").glob("loose-*"))


def test_a_body_of_too_many_or_too_long_parts_is_refused(server: ServerProcess, web: httpx.Client) -> None:
    image, _ = image_of(web, "chest.nii")
    url = f"/infer/any_structure?image={image}"
    many = web.post(url, files=[(f"field {number}", (None, "x")) for number in range(60)])
    long = web.post(url, files={"params": (None, "x" * (1 << 21))})
    files = web.post(url, files=[("file", (f"../../{number}", b"x")) for number in range(25)])
    assert [answer.status_code for answer in (many, long, files)] == [422, 413, 422]
    assert not list((server.workspace / "uploads").glob(".part-*"))


def test_a_draft_is_given_as_dicom_where_its_volume_is_dicom(web: httpx.Client) -> None:
    statuses = []
    for name in ("Small chest", "chest.nii"):
        image, _ = image_of(web, name)
        params = {"params": (None, json.dumps(STANDARD))}
        answer = web.post(f"/infer/demo_ct?image={image}&output=dicom_seg", files=params)
        statuses.append((answer.status_code, answer.content[128:132] == b"DICM"))
    assert statuses == [(200, True), (422, False)]


def test_another_website_changes_nothing(web: httpx.Client) -> None:
    evil = {"Origin": "http://evil.example"}
    assert web.post("/activelearning/random", json={}, headers=evil).status_code == 403
    for answer in (web.get("/info/", headers=evil), web.options("/infer/demo_ct", headers=evil)):
        assert "access-control-allow-origin" not in answer.headers
    assert web.post("/infer/wsi/any", json={}).status_code == 501


def test_with_users_slicer_signs_in_by_name_and_token(tmp_path: Path) -> None:
    with running(tmp_path / "workspace") as server, httpx.Client(base_url=server.url) as web:
        token = web.post("/api/v1/users", json={"name": "anne", "role": "admin"}).json()["token"]
        assert web.get("/auth/").json()["enabled"] is True
        assert web.get("/info/").status_code == 401
        form = {"username": "anne", "password": token, "grant_type": "password"}
        assert web.post("/auth/token", data={**form, "username": "bob"}).status_code == 401
        made = web.post("/auth/token", data=form).json()
        signed = {"Authorization": f"{made['token_type']} {made['access_token']}"}
        assert web.get("/auth/token/valid", headers=signed).json()["username"] == "anne"
        assert web.get("/info/", headers=signed).status_code == 200
        for method, path in (("GET", "/datastore/"), ("PUT", "/datastore/label"), ("POST", "/infer/demo_ct")):
            assert web.request(method, path).status_code == 401
