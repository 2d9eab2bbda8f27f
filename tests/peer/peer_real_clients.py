"""The stock clients of MONAI Label 0.8.5, unchanged, through everything that they do, against a real server.

The Python client and the client library of the module for 3D Slicer have the same methods; both run all of this. With
MONAILABEL_RECORDINGS naming a folder, what they sent is kept there (`record.py`).
"""

import base64
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import nrrd
import numpy as np
import pytest
from foreign_client import (
    CLIENT_ID,
    OHIF_CLIENT,
    PYTHON_CLIENT,
    REVIEWER_CLIENT,
    REVIEWER_LIST,
    SLICER_CLIENT,
    ForeignClient,
    Refused,
    foreign_client,
    ohif_client,
)
from monailabel_site import TOYS, Site, packed, serving_site, write_tilted, write_toy_label
from recording_proxy import Recording, followed, recording
from server_process import running
from small_studies import small_chest

from annotate_server.imaging.labelmap_files import read_labelmap
from annotate_server.testing.phantom_files import write_nifti

STANDARD = {"result_extension": ".nrrd", "result_dtype": "uint8"}
LIBRARIES = {"python_client": PYTHON_CLIENT, "slicer_module": SLICER_CLIENT}
NODE = Path(__file__).parents[2] / ".venv/bin/node"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving_site(tmp_path_factory.mktemp("site")) as made:
        yield made


def keep(name: str, recorded: Recording, site: Site, sent: str = "") -> None:
    """Keep what a client sent, where somebody asked for it."""
    folder = os.environ.get("MONAILABEL_RECORDINGS")
    if not folder:
        return
    cases = {**site.cases, **({"sent": sent} if sent else {})}
    golden = [each.golden(cases) for each in followed(recorded.exchanges)]
    (Path(folder) / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")


def refused(client: ForeignClient, call: str, *words: object) -> str:
    """Call what must be refused, and return the sentence."""
    with pytest.raises(Refused) as caught:
        client.call(call, *words)
    return caught.value.text


def voxels_of(path: str | Path) -> tuple[np.ndarray, Mapping[str, Any]]:
    voxels, header = nrrd.read(str(path), index_order="C")
    return voxels, header


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_stock_client_goes_through_everything_that_it_does(
    name: str, site: Site, peer_python: Path, tmp_path: Path
) -> None:
    with (
        recording(site.url) as line,
        foreign_client(peer_python, LIBRARIES[name], line.url, str(tmp_path), CLIENT_ID) as client,
    ):
        connects(client)
        takes_the_next_case(client, line, tmp_path)
        drafts_and_clicks(client, site, tmp_path)
        sent = sends_volumes_in(client, site, tmp_path)
        submits_and_reads_labels(client, site, tmp_path)
        trains(client, site, tmp_path)
        hears_of_what_is_wrong(client, site, tmp_path)
    if name == "slicer_module":  # the other sends the same bytes
        keep(name, line, site, sent)


def connects(client: ForeignClient) -> None:
    assert client.call("auth_enabled") is False
    assert client.call("auth_valid_token") is True
    told = client.call("info")
    assert "config" not in told
    kinds = {name: words["type"] for name, words in told["models"].items()}
    assert (kinds["demo_ct"], kinds["any_structure"], kinds["organ_clicks"]) == ("segmentation", "deepgrow", "deepedit")
    assert kinds["any_structure_scribbles"] == "scribbles"
    assert told["models"]["organ_clicks"]["labels"] == {"Organ": 1, "Tumour": 2}
    assert "toy" in told["trainers"]
    assert client.call("train_status", True) is False


def takes_the_next_case(client: ForeignClient, line: Recording, folder: Path) -> None:
    told = client.call("info")
    for strategy in told["strategies"]:
        assert client.call("next_sample", strategy, {"project": "any"})["path"] == "", strategy
    sample = client.call("next_sample", "first", {})
    whole = httpx.get(f"{line.url}/datastore/image?image={sample['id']}")  # Slicer downloads by a module of its own
    part = httpx.get(f"{line.url}/datastore/image?image={sample['id']}", headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, whole.content[100:300])
    (folder / "image.nrrd").write_bytes(whole.content)
    assert voxels_of(folder / "image.nrrd")[0].size > 0


def drafts_and_clicks(client: ForeignClient, site: Site, folder: Path) -> None:
    chest, grid = site.cases["chest.nii"], small_chest()
    file, words = client.call("infer", "demo_ct", chest, STANDARD)
    labels, header = voxels_of(file)
    assert labels.shape == grid.shape
    np.testing.assert_allclose(header["space origin"], grid.origin_mm)
    assert list(words["label_names"].values()) == list(range(1, 6))
    assert set(np.unique(labels)) <= set(range(6))

    i, j, k = 22, 20, 15
    clicks = {**STANDARD, "label": "Lesion", "foreground": [[i, j, k]], "background": [[1, 1, 1]]}
    file, words = client.call("infer", "any_structure", chest, clicks)  # deepgrow
    grown, _ = voxels_of(file)
    assert (words["label_names"], grown[k, j, i], grown[1, 1, 1]) == ({"Lesion": 1}, 1, 0)
    clicks = {**STANDARD, "label": "Organ", "Organ": [[i, j, k]], "Tumour": [[1, 1, 1]], "background": []}
    file, words = client.call("infer", "organ_clicks", chest, clicks)  # deepedit
    both, _ = voxels_of(file)
    assert (words["label_names"], both[k, j, i], both[1, 1, 1]) == ({"Organ": 1, "Tumour": 2}, 1, 2)

    drawn = np.zeros(grid.shape, np.uint8)
    drawn[15, 18:21, 20:25], drawn[15, 1, 1:9] = 2, 1
    scribbles = packed(write_nifti(folder / "scribbles.nii", drawn, grid))
    names = ["background_scribbles", "foreground_scribbles", "Lesion"]
    listed = [{"name": each, "id": number} for number, each in enumerate(names, 1)]
    params = {**STANDARD, "label_info": listed, "roi": [], "selected_label_name": "Lesion"}
    file, _ = client.call("infer", "any_structure_scribbles", chest, params, str(scribbles))
    filled, _ = voxels_of(file)
    assert filled[drawn == 2].all()
    assert not filled[drawn == 1].any()


def sends_volumes_in(client: ForeignClient, site: Site, folder: Path) -> str:
    """Return the session of a volume that was sent in."""
    file = write_tilted(folder / "own.nii", 8)
    made = client.call("create_session", str(file))
    session = made["session_id"]
    assert client.call("get_session", session)["name"] == session
    click = {**STANDARD, "label": "Lesion", "foreground": [[5, 6, 4]]}
    _, words = client.call("infer", "any_structure", "", click, None, None, session)
    assert words["label_names"] == {"Lesion": 1}
    assert "stays" in refused(client, "remove_session", session)
    client.call("infer", "any_structure", "", click, None, str(file))

    # Slicer reads no answer: it goes on asking by the name that the volume has in its scene
    wished = "2: CT chest, own"
    assert client.call("upload_image", str(file), wished)["image"] == session
    file_of_label, _ = client.call("infer", "any_structure", wished, click)
    assert voxels_of(file_of_label)[0][4, 6, 5] == 1
    named = {"label_info": [{"name": "Lesion", "idx": 1}], "model": "any_structure"}
    assert client.call("save_label", wished, file_of_label, "", named)["image"] == session
    return str(session)


def submits_and_reads_labels(client: ForeignClient, site: Site, folder: Path) -> None:
    case = site.cases["Small chest"]
    file, words = client.call("infer", "demo_ct", case, STANDARD)
    names = list(words["label_names"])
    # as Slicer numbers them where the first segment is `background`, which it leaves out
    listed = [{"name": each, "idx": number} for number, each in enumerate(names, 2)]
    before = set(tags(client, case))
    sent, _ = voxels_of(file)
    exported = packed(write_nifti(folder / "exported.nii", sent, small_chest()))
    answer = client.call("save_label", case, str(exported), "", {"label_info": listed, "model": "demo_ct"})
    assert (answer["image"], answer["label"]) == (case, case)
    told = tags(client, case)
    assert len(set(told) - before) >= 1
    assert told["final"]["info"]["client_id"] == CLIENT_ID
    came = client.call("download_label", case, "final")
    assert came.endswith(".seg.nrrd")
    (layer,) = read_labelmap(Path(came), small_chest())
    for number, each in enumerate(names, 1):
        (segment,) = (segment for segment in layer.segments if segment.name == each)
        np.testing.assert_array_equal(layer.voxels == segment.index, sent == number)
    np.testing.assert_array_equal(voxels_of(client.call("download_label", case, "original"))[0], sent)


def tags(client: ForeignClient, case: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = client.call("datastore")["objects"][case]["labels"]
    return found


def trains(client: ForeignClient, site: Site, folder: Path) -> None:
    assert "cannot be trained" in refused(client, "train_start", "demo_ct", {})
    named = {"label_info": [{"name": "Ball", "idx": 1}], "model": "toy"}
    for seed in range(1, TOYS + 1):
        label = write_toy_label(folder / f"ball-{seed}.nii.gz", seed)
        client.call("save_label", site.cases[f"{seed:02}.nii.gz"], str(label), "final", named)
    begun = client.call("train_start", "toy", {"max_epochs": 2})
    assert begun["status"] == "RUNNING"
    assert client.call("train_status", True) is True
    assert client.call("train_status")["id"] == begun["id"]
    assert "Already Running" in refused(client, "train_start", "toy", {})
    (shown, *_) = client.call("info")["train_stats"].values()
    assert shown["total_epochs"] >= 1
    assert "total_time" not in shown
    assert client.call("train_stop")["status"] == "STOPPED"
    assert client.call("train_status", True) is False
    assert client.call("train_stop") is None
    assert client.call("train_status")["status"] == "STOPPED"
    every = client.call("train_start", "", {})  # the old form: all that have labels
    assert [words["result"]["status"] for words in every.values() if words["result"]] == ["RUNNING"] * len(every)
    assert "brain_t1" not in every
    assert client.call("train_stop")["status"] == "STOPPED"


def hears_of_what_is_wrong(client: ForeignClient, site: Site, folder: Path) -> None:
    text = folder / "text.nii.gz"
    text.write_text("no label")
    chest = site.cases["chest.nii"]
    before = site.listed()
    wrong = {
        "no model": refused(client, "infer", "nothing", chest, STANDARD),
        "no image": refused(client, "infer", "demo_ct", "../../etc/passwd", STANDARD),
        "outside": refused(client, "infer", "any_structure", chest, {"foreground": [[99, 1, 1]]}),
        "text": refused(client, "save_label", chest, str(text), "", {"label_info": [{"name": "Ball", "idx": 1}]}),
        "tag": refused(client, "save_label", chest, str(text), "../x", {}),
        "strategy": refused(client, "next_sample", "bogus", {}),
        "session": refused(client, "get_session", "nothing"),
        "label": refused(client, "download_label", chest, "version_99"),
        "pathology": refused(client, "wsi_infer", "demo_ct", chest),
    }
    for about, sentence in wrong.items():
        assert '"detail":"' in sentence, (about, sentence)
    assert site.listed() == before


def test_with_users_a_stock_client_signs_in_by_name_and_token(peer_python: Path, tmp_path: Path) -> None:
    with (
        running(tmp_path / "workspace") as server,
        foreign_client(peer_python, PYTHON_CLIENT, server.url, str(tmp_path), CLIENT_ID) as client,
    ):
        token = httpx.post(f"{server.url}/api/v1/users", json={"name": "anne", "role": "admin"}).json()["token"]
        assert client.call("auth_enabled") is True
        assert client.call("auth_valid_token") is False
        assert "401" in refused(client, "info")
        assert "401" in refused(client, "auth_token", "bob", token)
        client.call("update_auth", client.call("auth_token", "anne", token))
        assert client.call("auth_valid_token") is True
        assert "demo_ct" in client.call("info")["models"]
        assert client.call("next_sample", "random", {}) == {}


def test_the_reviewer_reads_the_list_and_says_a_verdict(site: Site, peer_python: Path, tmp_path: Path) -> None:
    case = site.cases["tilted.nii"]
    with (
        recording(site.url) as line,
        foreign_client(peer_python, PYTHON_CLIENT, line.url, str(tmp_path), CLIENT_ID) as client,
        foreign_client(peer_python, REVIEWER_CLIENT, line.url) as reviewer,
    ):
        file, _ = client.call("infer", "any_structure", case, {"label": "Lesion", "foreground": [[5, 6, 4]]})
        line.exchanges.clear()
        assert reviewer.call("checkServerConnection") is True
        said = {"label_info": [{"name": "Lesion", "idx": 1}], "client_id": CLIENT_ID}
        assert reviewer.call("saveLabel", case, file, "version_1", said) == 200
        listed = reviewer.call("requestDataStoreInfo")
        assert reviewer.call("requestSegmentation", case, "version_1")["status"] == 200
        assert reviewer.call("requestSegmentation", case, "")["bytes"] > 0
        meta = {"status": "approved", "level": "easy", "approvedBy": "bob", "editTime": 1, "comment": "fine"}
        assert reviewer.call("updateLabelInfo", case, "final", {"segmentationMeta": meta}) == 200
        assert reviewer.call("deleteLabelByVersionTag", case, "version_1") == 409
    keep("slicer_reviewer", line, site)
    assert {"final", "version_1"} <= set(listed["objects"][case]["labels"])
    with foreign_client(peer_python, REVIEWER_LIST, listed) as parser:
        parser.call("init")
        assert set(parser.call("getMapIdToImageData")) == set(listed["objects"])


def test_the_client_of_the_ohif_plugin_connects_drafts_points_and_trains(
    site: Site, peer_python: Path, tmp_path: Path
) -> None:
    source = peer_python.parents[1] / OHIF_CLIENT
    if not NODE.exists() and not os.environ.get("CI"):
        pytest.skip("there is no node (make viewer)")
    info = site.listed()[site.cases["Small chest"]]["image"]
    series = info["info"]["SeriesInstanceUID"]  # type: ignore[index]
    with recording(site.url) as line, ohif_client(NODE, source, line.url) as client:
        told = client.call("info")["data"]
        assert isinstance(told["labels"], list)
        assert client.call("is_train_running") is False
        sample = client.call("next_sample", "random", {})["data"]
        found = httpx.get(f"{line.url}/proxy/dicom/qido/studies?StudyInstanceUID={sample['StudyInstanceUID']}&limit=25")
        assert len(found.json()) == 1
        drafted = client.call("infer", "demo_ct", series, {})
        labels = shown(drafted, tmp_path)
        assert set(np.unique(labels)) <= set(told["models"]["demo_ct"]["labels"].values()) | {0}
        i, j, k = 22, 20, 15
        grown = shown(
            client.call("infer", "any_structure", series, {"foreground": [[i, j, k]], "background": []}), tmp_path
        )
        assert (grown.shape, grown[k, j, i]) == (labels.shape, 1)
        clicked = {"background": [], "Organ": [[i, j, k]], "Tumour": [[1, 1, 1]]}
        both = shown(client.call("infer", "organ_clicks", series, clicked), tmp_path)
        assert (both[k, j, i], both[1, 1, 1]) == (1, 2)
        assert client.call("infer", "nothing", series, {})["status"] == 404
        refusal = client.call("run_train", {"demo_ct": {}})
        assert refusal["status"] == 409
        assert client.call("stop_train")["data"] is None
    keep("ohif_plugin", line, site)


def shown(answer: Mapping[str, Any], folder: Path) -> np.ndarray:
    """Return the voxels of an answer as OHIF reads it: raw, uint8."""
    assert answer["status"] == 200, answer
    path = folder / "answer.nrrd"
    path.write_bytes(base64.b64decode(answer["data"]))
    voxels, header = voxels_of(path)
    assert (header["encoding"], voxels.dtype) == ("raw", np.uint8)
    return voxels
