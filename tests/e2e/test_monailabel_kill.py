"""kill -9 while the stock clients save labels: what was answered is there, whole, and the store is healthy."""

import json
import random
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from server_process import running
from small_studies import small_chest, write_chest

from annotate_server.imaging.labelmap_files import read_labelmap
from annotate_server.testing.phantom_files import write_nifti

pytestmark = pytest.mark.slow
KILLS, LONGEST_S, WITHIN_S = 2, 0.6, 60.0


def test_labels_that_were_answered_are_there_after_kill_9_while_saving(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    write_chest(studies / "chest.nii")
    moments, answered = random.Random(3), dict[str, int]()  # noqa: S311
    with running(tmp_path / "workspace", studies) as server:
        server.wait_until_ready().wait_for_cases(1)
        (image,) = httpx.get(f"{server.url}/datastore/?output=all").json()["objects"]
        httpx.get(f"{server.url}/datastore/image?image={image}").raise_for_status()

        def save(author: str, first: int, stop: threading.Event) -> None:
            number = first
            while not stop.is_set():
                number += 1
                try:
                    kept = saved(server.url, image, author, number, tmp_path)
                except httpx.TransportError:
                    return  # the server died: nobody was told that the label is there
                answered[kept] = number

        for kill in range(KILLS):
            stop = threading.Event()
            threads = [
                threading.Thread(target=save, args=(author, kill * 1000 + lot, stop))
                for author, lot in (("anne", 0), ("bob", 500))
            ]
            for thread in threads:
                thread.start()
            before, deadline = len(answered), time.monotonic() + WITHIN_S
            while len(answered) == before:
                assert time.monotonic() < deadline, server.log()
                time.sleep(0.01)
            time.sleep(moments.uniform(0.0, LONGEST_S))
            server.kill()
            stop.set()
            for thread in threads:
                thread.join(60)
            server.start()
            told = httpx.get(f"{server.url}/datastore/?output=all").json()["objects"][image]["labels"]
            versions = [tag for tag in told if tag.startswith("version_")]
            assert len(versions) >= len(answered)
            assert {told[tag]["info"]["client_id"] for tag in versions} <= {"anne", "bob"}
            found = {number_in(server.url, image, tag, tmp_path) for tag in versions}
            assert set(answered.values()) <= found


def saved(url: str, image: str, author: str, number: int, folder: Path) -> str:
    """Save a label that holds its number, and return the version's id."""
    voxels = np.zeros(small_chest().shape, np.uint8)
    voxels.reshape(-1)[:number] = 1
    file = write_nifti(folder / f"{author}.nii", voxels, small_chest())
    params = {"client_id": author, "label_info": [{"name": "Counted", "idx": 1}], "project": "any_structure"}
    files = {"params": (None, json.dumps(params)), "label": ("label.nii", file.read_bytes())}
    answer = httpx.put(f"{url}/datastore/label?image={image}", files=files, timeout=60)
    if answer.status_code == 503:
        raise httpx.TransportError("the server ends")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["version"])


def number_in(url: str, image: str, tag: str, folder: Path) -> int:
    """Return the number that a label holds."""
    path = folder / "read.seg.nrrd"
    path.write_bytes(httpx.get(f"{url}/datastore/label?label={image}&tag={tag}").content)
    (layer,) = read_labelmap(path, small_chest())
    return int(np.count_nonzero(layer.voxels))
