"""What labels took and what their drafts were worth, over HTTP with real workers; and their export meanwhile."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest
from server_process import ServerProcess, running
from typer.testing import CliRunner

from annotate_server.cli.main import command_line
from annotate_server.domain.geometry import Box
from annotate_server.domain.project import Project
from annotate_server.testing.phantoms import make_sample_data

WAIT_S = 120.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    make_sample_data(tmp_path / "samples")
    with running(tmp_path / "workspace", tmp_path / "samples/images") as made:
        yield made.wait_until_ready().wait_for_cases(3)


def scores(server: ServerProcess, count: int) -> list[dict[str, object]]:
    """Return the jobs of the kind `score` once so many have ended."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        jobs = [job for job in httpx.get(f"{server.url}/api/v1/jobs").json() if job["kind"] == "score"]
        if sum(job["has_ended"] for job in jobs) >= count:
            return jobs
        time.sleep(0.2)
    raise AssertionError(f"{count} scores did not end in time:\n{server.log()}")


def test_each_approved_label_is_measured_against_the_draft_that_was_corrected(
    server: ServerProcess, tmp_path: Path
) -> None:
    with server.client("ann") as client:
        app = client.model("demo_ct")
        client.add_project(Project("chests", "Chests", app.segments, ("demo_ct",)))
        first, second = (case for case in client.cases() if case.modality == "CT" or case.name.endswith("torso.nii"))
        for case in (first, second):
            if case.modality is None:
                client.declare_modality(case.id, "CT")
            assert client.wait(client.draft_case(case.id, "demo_ct").id).state == "succeeded"
        untouched = client.open("chests", first.id)
        untouched.submit()
        corrected = client.open("chests", second.id)
        corrected.heartbeat(0.5)
        (index, *_) = (int(value) for value in np.unique(corrected.draft) if value)
        box, below = Box((14, 10, 10), (22, 40, 40)), Box((0, 0, 0), (10, *corrected.draft.shape[1:]))
        corrected.edit(box, np.full(box.shape, index, corrected.draft.dtype))
        corrected.edit(below, np.zeros(below.shape, corrected.draft.dtype))
        label = corrected.submit(is_partial=True)
        assert label.is_partial
    assert {job["state"] for job in scores(server, 2)} == {"succeeded"}
    found = httpx.get(f"{server.url}/api/v1/models/demo_ct/learning").json()
    same, changed = found["curve"]
    assert (same["relative_apl"], same["dice"], same["is_shown"]) == (0.0, 1.0, True)
    assert 0.0 < changed["relative_apl"] < 1.0
    assert changed["dice"] < 1.0
    (version,) = found["versions"]
    assert (version["version"], version["labels"], version["shown"], version["untouched"]) == (app.version, 2, 2, 1)
    assert version["edits"] == 1.0
    assert "no labels from the 30 days before" in found["sentence"]
    page = httpx.get(f"{server.url}/loop/jobs").text
    assert "score" in page
    exported = CliRunner().invoke(
        command_line(("export",)),
        [
            *("export", "chests", "--format", "nnunet", "--out", str(tmp_path / "out")),
            *("--workspace", str(server.workspace), "--json"),
        ],
    )
    told = json.loads(exported.stdout)
    assert (exported.exit_code, told["cases"], told["failed"]) == (0, 2, [])
    labels = sorted((Path(told["folder"]) / "labelsTr").iterdir())
    ignored = len(app.segments) + 1
    shares = sorted(float((np.asarray(nib.nifti1.load(path).dataobj) == ignored).mean()) for path in labels)
    assert shares[0] == 0.0
    assert shares[1] >= 10 / 72
