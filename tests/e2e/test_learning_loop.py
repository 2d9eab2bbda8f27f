"""The learning loop on a real server: trained from approved labels, promoted, drafted with, and rolled back."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from server_process import ServerProcess, running
from toy_model import NAME, approve, write_app, write_phantoms

from annotate_server.client import AnnotateClient

pytestmark = pytest.mark.slow
RECIPE = "steps = 40\nfull_steps = 40\nlearning_rate = 5e-3\nsweep = [1.0]\ncheckpoint_every = 10\nwarmup_steps = 2"
CASES = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("loop")
    apps = write_app(folder / "apps", RECIPE)
    studies = write_phantoms(folder / "studies", CASES)
    settings = {"ANNOTATE_APPS": json.dumps([str(apps)]), "ANNOTATE_DEVICE": "cpu", "ANNOTATE_RESCAN_S": "2"}
    with running(folder / "workspace", studies, settings) as started:
        started.wait_until_ready().wait_for_cases(CASES)
        with started.client() as client:
            approve(client, NAME, folder, range(1, 7))
        yield started


def drafter(client: AnnotateClient, case_id: str, model: str) -> str:
    client.wait(client.draft_case(case_id, model).id, 120)
    return client.prediction(case_id, model).version


def test_a_round_is_trained_promoted_drafted_with_and_rolled_back(server: ServerProcess) -> None:
    with server.client() as client:
        job = client.train(NAME)
        own = job.order["model"]
        result = client.wait(job.id, 300).result
        curve = client.curve(job.id)
        assert [point.step for point in curve] == sorted({point.step for point in curve})
        assert curve[-1].step == 40
        learned = client.model(own).learned
        assert learned is not None
        first, second = learned.versions
        assert second == result["version"]
        if learned.champion != second:
            client.promote(own, second, "the figures are good enough for a toy")
        cases = [case.id for case in client.cases()]
        assert drafter(client, cases[6], own) == second
        before = [worker.pid for worker in server.workers()]
        client.roll_back(own)
        assert drafter(client, cases[6], own) == first
        client.promote(own, second)
        assert drafter(client, cases[6], own) == second
        assert set(before) <= {worker.pid for worker in server.workers()}
        assert own in next(project for project in client.projects() if project.id == NAME).apps
        assert client.evidence(own, second)["challenger"] == second


def test_the_command_line_trains_where_no_server_runs(server: ServerProcess) -> None:
    command = (sys.executable, "-m", "annotate_server.cli.main")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **server.settings}
    where = ("--workspace", str(server.workspace), "--json")

    def told(*arguments: str) -> dict[str, object]:
        done = subprocess.run(
            [*command, *arguments, *where], capture_output=True, text=True, env=environment, check=False
        )
        found: dict[str, object] = json.loads(done.stdout)
        return found

    refused = told("train", NAME, "--project", NAME, "--full")
    assert "--server URL" in str(refused["problem"])
    server.terminate()
    result = told("train", NAME, "--project", NAME, "--full")
    shown = told("models", "show", str(result["model"]))
    assert result["version"] in [version["id"] for version in shown["versions"]]  # type: ignore[attr-defined]
    assert told("workspace", "check")["faults"] == []
