"""The learning loop in a real browser: submitted, approved, trained, judged, promoted, and the next case drafted."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_process import running
from toy_model import NAME, approve, write_app, write_phantoms
from viewer_stand import Browser, Stand

pytestmark = [pytest.mark.viewer, pytest.mark.slow]
RECIPE = "steps = 60\nlearning_rate = 5e-3\nbatch = 2\nsweep = [1.0]\ncheckpoint_every = 10\nwarmup_steps = 2"
CASES = 8


@pytest.fixture
def loop(browser: Browser, tmp_path: Path, shots: Path) -> Iterator[Stand]:
    settings = {"ANNOTATE_APPS": json.dumps([str(write_app(tmp_path / "apps", RECIPE))]), "ANNOTATE_DEVICE": "cpu"}
    studies = write_phantoms(tmp_path / "studies", CASES)
    with running(tmp_path / "workspace", studies, settings) as server:
        server.wait_until_ready().wait_for_cases(CASES)
        yield Stand(server, browser, shots)


def test_a_round_is_trained_judged_promoted_and_rolled_back_in_the_browser(loop: Stand, tmp_path: Path) -> None:
    with loop.server.client() as client:
        approve(client, NAME, tmp_path, range(1, 7))
    seen = loop.play("loop", app=NAME, empty="demo_mr")
    assert seen["barriers"] == []
    assert all(seen["fits"])
    assert seen["own"] != NAME
    assert "Cancel the training" in seen["running"]
    assert seen["versions"] == 2
    assert "Dice, champion" in seen["gate"]
    assert (seen["serves"], seen["back"] != seen["version"]) == (seen["version"], True)
    assert "5 approved labels are missing" in seen["begun"]
    assert seen["first"] == "To the content"
    assert "train" in seen["jobs"]
    assert "score" in seen["jobs"]
    with loop.server.client() as client:
        case = next(case for case in client.cases() if case.name == "08.nii.gz")
        client.wait(client.draft_case(case.id, seen["own"]).id, 120)
        assert client.prediction(case.id, seen["own"]).version == seen["version"]
