"""A project in the browser, from the administrator who makes it to the reviewer who approves: people who sign in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from server_process import running
from viewer_stand import Browser, Stand, digest

pytestmark = [pytest.mark.viewer, pytest.mark.slow]
PEOPLE = {"ada": "admin", "ann": "annotator", "bob": "reviewer"}


def test_a_project_made_in_the_browser_goes_through_two_pairs_of_eyes(
    browser: Browser, samples: Path, shots: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    tokens = {name: added_person(workspace, name, role) for name, role in PEOPLE.items()}
    with running(workspace, samples / "images") as server:
        server.wait_until_ready().wait_for_cases(3, tokens["ada"])
        stand = Stand(server, browser, shots, {"Authorization": f"Bearer {tokens['ada']}"})
        seen = stand.play("team", tokens=tokens)
        assert seen["refused"] == "This token is not valid."
        assert seen["refused_status"] == 1
        assert len(seen["listed"]) == 3
        assert any(item.startswith("ct_torso.nii") and "put aside" in item for item in seen["aside"])
        assert seen["signed_out"] == "/sign-in"
        assert seen["segments"] == ["Bladder", "Prostate"]
        assert 0 < seen["lasso"] < seen["margin"]
        assert "second person" in seen["submitted"]

        assert seen["reviewed_case"] == seen["case"]
        assert seen["reviewed"]["shown"] == seen["reviewed"]["stored"]
        assert seen["return_needs_comment"]
        assert any("returned" in item for item in seen["returned"])
        assert seen["taken_up"] == seen["margin"] < seen["corrected"]
        assert seen["approving"]["shown"] == seen["approving"]["stored"] == seen["corrected_digest"]
        assert any("approved" in item for item in seen["after"])

        labels = stand.get(f"/projects/two-pairs-of-eyes/cases/{seen['case']}/labels")
        assert [(label["author"], label["state"]) for label in labels] == [("ann", "returned"), ("ann", "approved")]
        assert digest(stand.label_voxels(labels[-1]["id"])) == seen["corrected_digest"]


def added_person(workspace: Path, name: str, role: str) -> str:
    """Add a person as an administrator would, and return the token."""
    command = [sys.executable, "-m", "annotate_server.cli.main", "users", "add", name, "--role", role]
    made = subprocess.run(
        [*command, "--workspace", str(workspace), "--json"], capture_output=True, text=True, timeout=60, check=True
    )
    return str(json.loads(made.stdout)["token"])
