"""What the stock clients of MONAI Label send, recorded call by call, against a real server on phantoms."""

import email
import hashlib
import io
import json
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import nrrd
import numpy as np
import pytest
from conftest import oblique_geometry
from server_process import ServerProcess, running
from small_studies import small_chest, write_chest, write_chest_series

from annotate_server.api.monailabel.translate import is_turned, turned
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.imaging.labelmap_files import LabelmapFormat, read_labelmap, write_labelmap
from annotate_server.imaging.plain_nrrd import PlainGrid, nrrd_parts
from annotate_server.testing.phantom_files import write_nifti

TILTED = oblique_geometry((9, 14, 11))
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
    write_nifti(studies / "tilted.nii", voxels[:9, :14, :11], TILTED)
    write_nifti(studies / "tilted backwards.nii", voxels[:9, :14, :11], turned(TILTED))
    with running(folder / "workspace", studies) as made:
        yield made.wait_until_ready().wait_for_cases(5)


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
    assert web.get("/batch/infer").json()["id"] == task["id"]
    assert web.get("/batch/infer?all=true").json()[0]["id"] == task["id"]
    assert web.delete("/batch/infer/").status_code == 200


@pytest.mark.parametrize("count", [1, 7, 104])
@pytest.mark.parametrize("name", ["tilted.nii", "tilted backwards.nii"])
def test_labels_keep_every_voxel_and_name_from_one_client_to_the_other(
    web: httpx.Client, tmp_path: Path, name: str, count: int
) -> None:
    image, info = image_of(web, name)
    geometry = TILTED if name == "tilted.nii" else turned(TILTED)
    voxels = np.random.default_rng(count).integers(0, count + 1, geometry.shape).astype(np.uint8)
    names = [f"Part {count} no. {number}" for number in range(count, 0, -1)]

    # Slicer hands in: a NIfTI file of 1 to N, numbered from 2 in label_info where a background is left out
    write_nifti(tmp_path / "slicer.nii", voxels, geometry)
    listed = [{"name": each, "idx": rank} for rank, each in enumerate(names, 2)]
    assert submit(web, image, tmp_path / "slicer.nii", {"label_info": listed, "project": "any_structure"}).is_success
    assert_named(web, image, geometry, names, voxels, tmp_path)

    # OHIF names the image by its series, counts slices along the normal, and numbers by name
    shown = turned(geometry) if is_turned(geometry) else geometry
    planes = voxels[::-1] if is_turned(geometry) else voxels
    (tmp_path / "ohif.nrrd").write_bytes(b"".join(nrrd_parts(PlainGrid(shown, planes.dtype, planes))))
    listed = [{"name": each, "idx": rank} for rank, each in enumerate(names, 1)]
    params = {"label_info": listed, "project": "any_structure"}
    assert submit(web, info["SeriesInstanceUID"], tmp_path / "ohif.nrrd", params).is_success
    assert_named(web, image, geometry, names, voxels, tmp_path)

    # Slicer hands back what it got
    (tmp_path / "out.seg.nrrd").write_bytes(web.get(f"/datastore/label?label={image}&tag=final").content)
    assert submit(web, image, tmp_path / "out.seg.nrrd", {"project": "any_structure"}).is_success
    assert_named(web, image, geometry, names, voxels, tmp_path)


def assert_named(
    web: httpx.Client, image: str, geometry: Geometry, names: Sequence[str], voxels: np.ndarray, folder: Path
) -> None:
    """Assert that the newest label holds the names, the n-th where `voxels` is n."""
    (folder / "back.seg.nrrd").write_bytes(web.get(f"/datastore/label?label={image}&tag=final").content)
    (back,) = read_labelmap(folder / "back.seg.nrrd", geometry)
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


@dataclass(frozen=True)
class Wrong:
    """A request that must be refused, and with which status; `{files}` brings a file under the name of its part."""

    method: str
    path: str
    status: int
    params: str = json.dumps({"label_info": [{"name": "Lesion", "idx": 1}]})
    files: tuple[str, str] | None = None


LABEL = "/datastore/label?image={chest}"
CLICK = "/infer/any_structure?image={chest}"
WRONG = {
    "a label of another shape": Wrong("PUT", LABEL, 422, files=("label", "shape.nii")),
    "a label elsewhere in space": Wrong("PUT", LABEL, 422, files=("label", "moved.nii")),
    "text as a label": Wrong("PUT", LABEL, 415, files=("label", "text.nii.gz")),
    "an empty label": Wrong("PUT", LABEL, 415, files=("label", "empty.nrrd")),
    "a label that is cut off": Wrong("PUT", LABEL, 422, files=("label", "cut.nii")),
    "a label without a file": Wrong("PUT", LABEL, 422),
    "a label whose values nobody names": Wrong("PUT", LABEL, 422, "{}", ("label", "chest.nii")),
    "a label under a tag that is a path": Wrong("PUT", LABEL + "&tag=..%2F..%2Fx", 422, files=("label", "chest.nii")),
    "a label over a draft": Wrong("PUT", LABEL + "&tag=original", 422, files=("label", "chest.nii")),
    "a label under an endless tag": Wrong("PUT", LABEL + "&tag=" + "x" * 300, 422, files=("label", "chest.nii")),
    "a label of no image": Wrong("PUT", "/datastore/label?image=", 422, files=("label", "chest.nii")),
    "a label of an unknown image": Wrong("PUT", "/datastore/label?image=nothing", 404, files=("label", "chest.nii")),
    "a label of a path": Wrong("PUT", "/datastore/label?image=..%2F..%2Fx", 404, files=("label", "chest.nii")),
    "a label of a zero byte": Wrong("PUT", "/datastore/label?image=%00", 404, files=("label", "chest.nii")),
    "an unknown model": Wrong("POST", "/infer/nothing?image={chest}", 404),
    "an unknown image": Wrong("POST", "/infer/demo_ct?image=nothing", 404),
    "an image that is a path": Wrong("POST", "/infer/demo_ct?image=%2Fetc%2Fpasswd", 404),
    "an image that params name": Wrong("POST", "/infer/demo_ct?image=", 422, '{"image": "/etc/passwd"}'),
    "an unknown series": Wrong("POST", "/infer/demo_ct?image=1.2.3", 404),
    "a click outside": Wrong("POST", CLICK, 422, '{"foreground": [[99, 1, 1]]}'),
    "clicks that are none": Wrong("POST", CLICK, 422, '{"foreground": 3}'),
    "a click of two numbers": Wrong("POST", CLICK, 422, '{"foreground": [[1, 2]]}'),
    "a click that is no number": Wrong("POST", CLICK, 422, '{"foreground": [[NaN, 1, 1]]}'),
    "a box of four numbers": Wrong("POST", CLICK, 422, '{"roi": [1, 2, 3, 4]}'),
    "params that are no JSON": Wrong("POST", CLICK, 422, "{"),
    "params that are a list": Wrong("POST", CLICK, 422, "[1]"),
    "a volume that is text": Wrong("PUT", "/datastore/?image=x", 415, files=("file", "text.nii.gz")),
    "a volume that is a program": Wrong("PUT", "/datastore/image?image=x", 415, files=("file", "virus.exe")),
    "an empty volume": Wrong("PUT", "/datastore/image?image=x", 415, files=("file", "empty.nrrd")),
    "a volume that is cut off": Wrong("PUT", "/datastore/?image=x", 422, files=("file", "cut.nii")),
    "an archive that leads out": Wrong("PUT", "/datastore/?image=x", 415, files=("file", "evil.zip")),
    "an archive that is none": Wrong("PUT", "/datastore/?image=x", 422, files=("file", "torn.zip")),
    "a tar that leads out": Wrong("PUT", "/datastore/?image=x", 415, files=("file", "evil.tar")),
    "an inference on text": Wrong("POST", "/infer/demo_ct?image=", 415, files=("file", "text.nii.gz")),
    "a session of text": Wrong("PUT", "/session/", 415, files=("files", "text.nii.gz")),
    "a strategy that is not there": Wrong("POST", "/activelearning/nonsense", 404, ""),
    "a method of scoring that is not there": Wrong("POST", "/scoring/epistemic", 404, ""),
    "the training of a model that is not there": Wrong("POST", "/train/nothing", 404, ""),
    "a download of a path": Wrong("GET", "/datastore/image?image=..%2F..%2Fetc%2Fpasswd", 404, ""),
    "a label under a tag that leads out": Wrong("GET", "/datastore/label?label={chest}&tag=..%2Fx", 404, ""),
    "the end of an image": Wrong("DELETE", "/datastore/?id={chest}", 409, ""),
    "the end of a label": Wrong("DELETE", "/datastore/label?id={chest}&tag=final", 409, ""),
    "the end of a model": Wrong("DELETE", "/model/demo_ct", 409, ""),
    "words about an image": Wrong("PUT", "/datastore/image/info?image={chest}", 422, '{"note": "x"}'),
}
"""What MONAI Label answers with 500 and no reason, or takes, and worse."""


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    write_chest(folder / "chest.nii")
    (folder / "text.nii.gz").write_text("no label")
    (folder / "virus.exe").write_bytes(b"MZ" + bytes(300))
    (folder / "empty.nrrd").write_bytes(b"")
    (folder / "cut.nii").write_bytes((folder / "chest.nii").read_bytes()[:5000])
    (folder / "torn.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    write_nifti(folder / "shape.nii", np.ones((3, 4, 5), np.uint8), replace(small_chest(), shape=(3, 4, 5)))
    moved = replace(small_chest(), origin_mm=(500.0, 500.0, 500.0))
    write_nifti(folder / "moved.nii", np.ones(moved.shape, np.uint8), moved)
    with zipfile.ZipFile(folder / "evil.zip", "w") as archive:
        archive.write(folder / "chest.nii", "../../evil.nii")
    with tarfile.open(folder / "evil.tar", "w") as tar:
        tar.add(folder / "chest.nii", "../../evil.nii")
    return folder


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_refused_with_a_sentence_and_changes_nothing(
    server: ServerProcess, web: httpx.Client, bad_files: Path, name: str
) -> None:
    wrong = WRONG[name]
    image, _ = image_of(web, "chest.nii")
    before = web.get("/datastore/?output=all").json()
    headers: dict[str, str] = {}
    body = b""
    if wrong.params:
        sent = {part: bad_files / file for part, file in (wrong.files,)} if wrong.files else {}
        headers, body = slicer_body({"params": wrong.params}, sent)
    answer = web.request(wrong.method, wrong.path.replace("{chest}", image), content=body or None, headers=headers)
    assert answer.status_code == wrong.status, answer.text
    assert len(answer.json()["detail"]) > 5
    assert str(bad_files.parent) not in answer.text
    assert str(server.workspace) not in answer.text
    assert web.get("/datastore/?output=all").json() == before
    assert not list((server.workspace / "uploads").glob(".part-*"))
    assert not list((server.workspace / "drafts").glob("loose-*"))
    assert not list(server.workspace.parent.rglob("evil.nii"))


def test_a_body_that_is_no_multipart_or_ends_early_is_refused(web: httpx.Client) -> None:
    image, _ = image_of(web, "chest.nii")
    headers, body = slicer_body({"params": "{}"}, {})
    torn = web.post(f"/infer/any_structure?image={image}", content=body[:-30], headers=headers)
    other = web.post(f"/infer/any_structure?image={image}", content=b"x", headers={"content-type": "multipart/x"})
    for answer in (torn, other):
        assert (answer.status_code, len(answer.json()["detail"]) > 5) == (422, True)


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


def test_volumes_are_downloaded_in_parts_and_known_by_their_checksum(web: httpx.Client) -> None:
    image, _ = image_of(web, "chest.nii")
    url = f"/datastore/image?image={image}"
    whole = web.get(url)
    parts = [
        web.get(url, headers={"Range": f"bytes={at}-{at + 49_999}"}) for at in range(0, len(whole.content), 50_000)
    ]
    assert [part.status_code for part in parts] == [206] * len(parts)
    assert b"".join(part.content for part in parts) == whole.content
    assert parts[0].headers["content-range"] == f"bytes 0-49999/{len(whole.content)}"
    changed = web.get(url, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (changed.status_code, len(changed.content)) == (200, len(whole.content))
    assert web.get(url, headers={"Range": f"bytes={len(whole.content)}-"}).status_code == 416
    digest = hashlib.sha256(whole.content).hexdigest()
    wrong = ("0" if digest[0] != "0" else "1") + digest[1:]
    found = [web.head(f"{url}&check_sum=SHA256:{each}").status_code for each in (digest, wrong)]
    assert found == [200, 404]


def test_labelled_cases_come_as_one_archive(web: httpx.Client, tmp_path: Path) -> None:
    image, _ = image_of(web, "chest.nii")
    geometry = small_chest()
    voxels = np.random.default_rng(1).integers(0, 2, geometry.shape).astype(np.uint8)
    write_nifti(tmp_path / "label.nii", voxels, geometry)
    named = {"label_info": [{"name": "Archived", "idx": 1}], "project": "any_structure"}
    assert submit(web, image, tmp_path / "label.nii", named).is_success
    pairs = web.get("/datastore/?output=train").json()
    assert {"image", "label"} == set(pairs[0])
    assert len(pairs) == web.get("/datastore/").json()["completed"]
    assert web.get(pairs[0]["label"]).is_success
    with zipfile.ZipFile(io.BytesIO(web.get("/datastore/dataset").content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert archive.read(f"image/{image}.nrrd") == web.get(f"/datastore/image?image={image}").content
        archive.extract(f"label/{image}.seg.nrrd", tmp_path)
        told = json.loads(archive.read("metadata.json"))
    assert len(names) == 2 * len(pairs) + 1
    assert (set(told["objects"]), told["left_out"]) == ({name[6:-5] for name in names if name.startswith("image/")}, {})
    (layer,) = read_labelmap(tmp_path / f"label/{image}.seg.nrrd", geometry)
    np.testing.assert_array_equal(layer.voxels > 0, voxels == 1)
    one = web.get("/datastore/dataset?limit_cases=1").content
    assert len(zipfile.ZipFile(io.BytesIO(one)).namelist()) == 3


def test_scores_of_labels_are_ordered_followed_and_stopped(web: httpx.Client, tmp_path: Path) -> None:
    image, _ = image_of(web, "Small chest")
    (tmp_path / "label.nrrd").write_bytes(slicer_infer(web, "demo_ct", image, {})[1])
    assert submit(web, image, tmp_path / "label.nrrd", {"model": "demo_ct"}).is_success
    (method,) = web.get("/info/").json()["scoring"]
    task = web.post(f"/scoring/{method}", json={})
    assert (task.status_code, task.json()["status"] in ("RUNNING", "DONE")) == (200, True)
    assert web.post("/scoring/", json={}).json()[method]["detail"] is None
    newest = web.get("/scoring/").json()["id"]
    assert newest, "the label was scored by itself"
    assert [each["id"] for each in web.get("/scoring/?all=true").json()] == [newest]
    assert web.delete("/scoring/").status_code == 200


def test_the_log_is_of_jobs_and_names_no_file(web: httpx.Client) -> None:
    image, _ = image_of(web, "chest.nii")
    slicer_infer(web, "demo_ct", image, {})
    text = web.get("/logs/?lines=50&text=true")
    assert text.headers["content-type"].startswith("text/plain")
    assert f"draft succeeded model=demo_ct case={image}" in text.text
    for name in ("chest.nii", "SMALL", "Sample^Small", "Small chest"):
        assert name not in text.text
    page = web.get("/logs/?lines=5&refresh=1")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["refresh"] == "3"
    assert "Models run on" in web.get("/logs/gpu").text


def test_a_model_says_its_version_and_one_without_weights_gives_none(web: httpx.Client) -> None:
    told = web.get("/model/info/demo_ct").json()
    assert set(told) == {"checksum", "modified_time", "train_stats"}
    weights = web.get("/model/demo_ct")
    if weights.is_success:
        assert told["checksum"] == f"SHA256:{hashlib.sha256(weights.content).hexdigest()}"
        assert told["modified_time"] > 0
    nothing = web.get("/model/any_structure")
    assert (nothing.status_code, "no weights" in nothing.json()["detail"]) == (404, True)
    assert web.put("/model/demo_ct", content=b"x").status_code == 501


def test_a_modality_is_kept_where_the_file_names_none(web: httpx.Client) -> None:
    image, _ = image_of(web, "downwards.nii")
    url = f"/datastore/image/info?image={image}"
    assert web.put(url, data={"info": '{"modality": "CT"}'}).json() is None
    assert web.get(url).json()["modality"] == "CT"
    series, _ = image_of(web, "Small chest")
    refused = web.put(f"/datastore/image/info?image={series}", data={"info": '{"modality": "MR"}'})
    assert (refused.status_code, "itself" in refused.json()["detail"]) == (409, True)


def test_a_series_may_be_sent_in_file_by_file(web: httpx.Client, tmp_path: Path) -> None:
    write_chest_series(tmp_path / "own", 6)
    files = [("files", (path.name, path.read_bytes())) for path in sorted((tmp_path / "own").iterdir())]
    session = web.put("/session/", files=files).json()["session_id"]
    volume = web.get(f"/session/{session}?image=true").content
    assert volume == web.get(f"/datastore/image?image={session}").content
    assert read_nrrd(volume, tmp_path)[0].shape == small_chest().shape


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("/ohif/", "/viewer/worklist"),
        ("/ohif/monai-label?StudyInstanceUIDs=1.2.3", "/viewer/annotate?StudyInstanceUIDs=1.2.3"),
    ],
)
def test_links_to_the_viewer_of_monai_label_lead_to_ours(web: httpx.Client, link: str, expected: str) -> None:
    answer = web.get(link)
    assert (answer.status_code, answer.headers["location"]) == (307, expected)
    assert web.get("/ohif/x?StudyInstanceUIDs=%22%3E").status_code == 422
    others = (("GET", "/docs"), ("GET", "/openapi.json"), ("POST", "/reload"))
    assert [web.request(*other).status_code for other in others] == [404, 404, 404]


def test_all_trainings_are_listed_and_one_that_cannot_begin_says_why(web: httpx.Client) -> None:
    assert web.get("/train/?all=true").status_code == 404
    told = web.post("/train/", json={"demo_ct": {}, "nothing": {}})
    assert (told.status_code, "cannot be trained" in told.json()["detail"]) == (409, True)
    assert web.post("/train/demo_ct?enqueue=true", json={}).status_code == 409


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
