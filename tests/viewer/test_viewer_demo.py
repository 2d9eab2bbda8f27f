"""`annotate demo` as the README tells it: it prints an address, where a draft is corrected and submitted."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from server_process import ServerProcess
from viewer_stand import Browser, Stand, digest

pytestmark = [pytest.mark.viewer, pytest.mark.slow]


def test_the_demonstration_ends_with_an_address_where_a_draft_is_corrected_and_submitted(
    browser: Browser, shots: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "annotate_server.cli.main", "demo", "--port", "0"]
    log = tmp_path / "demo.log"
    with log.open("wb") as err:
        process = subprocess.Popen(
            [*command, "--workspace", str(tmp_path / "workspace")],
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                break
        else:
            raise AssertionError(f"no address in:\n{said}\n{log.read_text()}")
        server = ServerProcess(tmp_path / "workspace", url=found[0], process=process)
        stand = Stand(server.wait_until_ready().wait_for_cases(3), browser, shots)
        seen = stand.play("demo")
        assert len(seen["drafted"]) >= 3
        assert seen["erased"] == 0
        assert seen["brushed"] == seen["lung"]
        (label,) = stand.get(f"/projects/demo_ct/cases/{seen['case']}/labels")
        assert label["state"] == "approved"
        assert digest(stand.label_voxels(label["id"])) == seen["shown"] == seen["stored"]
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()
