"""`annotate batch --server`: a running server drafts a folder, and keeps the drafts for its sessions."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from server_process import running

from annotate_server.testing.phantoms import make_sample_data


def test_a_server_drafts_a_folder_and_keeps_the_drafts(tmp_path: Path) -> None:
    make_sample_data(tmp_path / "samples")
    with running(tmp_path / "workspace") as server:
        server.wait_until_ready()
        command = [sys.executable, "-m", "annotate_server.cli.main", "batch", str(tmp_path / "samples/images")]
        options = ["--model", "demo_ct", "--out", str(tmp_path / "out"), "--server", server.url, "--json"]
        done = subprocess.run(
            [*command, *options, "--workspace", str(tmp_path / "own")],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert {key: json.loads(done.stdout)[key] for key in ("ok", "skipped", "failed")} == {
            "ok": 2,
            "skipped": 1,
            "failed": 0,
        }
        lines = [json.loads(text) for text in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
        with server.client() as client:
            assert {line["version"] for line in lines} == {client.model("demo_ct").version}
            drafted = [line for line in lines if line["status"] == "ok"]
            assert all((tmp_path / "out" / output["path"]).is_file() for line in drafted for output in line["outputs"])
            for line in drafted:
                with client.open("demo_ct", line["case"]) as session:
                    volume_ml = sum(values["volume_ml"] for values in line["segments"].values())
                    voxel_ml = np.prod(line["geometry"]["spacing_mm"]) / 1000
                    assert abs((session.draft != 0).sum() * voxel_ml - volume_ml) < 0.01 * volume_ml


def test_a_batch_over_night_is_what_the_morning_opens_with(tmp_path: Path) -> None:
    make_sample_data(tmp_path / "samples")
    studies, workspace = tmp_path / "samples/images", tmp_path / "workspace"
    command = [sys.executable, "-m", "annotate_server.cli.main", "batch", str(studies / "mr_head")]
    options = ["--model", "demo_mr", "--out", str(tmp_path / "out"), "--workspace", str(workspace)]
    subprocess.run([*command, *options], capture_output=True, timeout=300, check=True)
    (line,) = (json.loads(text) for text in (tmp_path / "out/manifest.jsonl").read_text().splitlines())
    with running(workspace, studies) as server, server.wait_until_ready().wait_for_cases(3).client() as client:
        (item,) = (item for item in client.worklist("demo_mr") if item.case == line["case"])
        assert item.predicted_by == "demo_mr"
        opened = client.next_case("demo_mr")
        assert opened is not None
        with opened as session:
            assert session.case_id == line["case"]
            assert (session.draft != 0).any()
