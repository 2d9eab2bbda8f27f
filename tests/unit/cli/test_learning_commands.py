"""The commands about models that learn, on a workspace and on a server; what is trained is stood in for."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from api_server import Running, make_site, serving
from typer.testing import CliRunner, Result

from annotate_server.bootstrap.local_learning import COMMAND_LINE, opened_learning
from annotate_server.bootstrap.ports import wire
from annotate_server.cli.main import command_line
from annotate_server.domain.learning import Promotion, PromotionKind
from annotate_server.domain.project import Project
from annotate_server.settings import Settings
from annotate_server.stores.workspace_lock import workspace_lock

SECOND = "f" * 12


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(), list(arguments))


def told(*arguments: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(*arguments, "--json").stdout)
    return found


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a workspace with a project of the hippocampus and a model of its own in two versions."""
    folder = tmp_path / "workspace"
    monkeypatch.setenv("ANNOTATE_WORKSPACE", str(folder))
    ports = wire(Settings(workspace=folder))
    with opened_learning(ports) as loop:
        projects = loop.services.own.projects
        projects.add(Project("brains", "Brains", apps=("hippocampus_mr",)), COMMAND_LINE)
        model = loop.services.own.wanted("hippocampus_mr", "brains")
        loop.services.own.forked(model, COMMAND_LINE)
        first = loop.services.models.versions(model.name)[0]
        second = Promotion(model.name, SECOND, PromotionKind.GATE, "(gate)", "better", first.id, is_provisional=True)
        loop.services.models.decide(replace(first, id=SECOND, parent=first.id), second, COMMAND_LINE)
    return folder


def test_a_model_that_learns_is_listed_and_shown_with_its_versions_and_decisions() -> None:
    rows = {row["name"]: row for row in told("models", "list")["models"]}  # type: ignore[attr-defined]
    assert rows["hippocampus_mr_brains"]["versions"] == 2
    assert "versions" not in rows["hippocampus_mr"]
    shown = told("models", "show", "hippocampus_mr_brains")
    assert shown["project"] == "brains"
    assert [each["kind"] for each in shown["decisions"]] == ["first", "gate"]  # type: ignore[attr-defined]
    text = run("models", "show", "hippocampus_mr_brains").stdout
    assert "gate, provisional" in " ".join(text.split())


def test_a_version_is_rolled_back_and_promoted_in_the_workspace() -> None:
    back = told("models", "rollback", "hippocampus_mr_brains", "--reason", "worse")
    assert back["previous"] == SECOND
    again = run("models", "rollback", "hippocampus_mr_brains", "--json")
    assert (again.exit_code, json.loads(again.stdout)["problem"]["type"]) == (1, "state-error")
    assert told("models", "promote", "hippocampus_mr_brains", "--version", SECOND)["version"] == SECOND
    assert run("models", "promote", "nothing", "--version", SECOND).exit_code == 2


def test_a_model_is_begun_from_nothing_and_says_how_many_labels_are_missing() -> None:
    made = told("models", "new", "mine", "--project", "brains")
    assert made == {"name": "mine", "project": "brains", "missing_labels": 5}
    assert "not been trained yet" in str(
        {row["name"]: row for row in told("models", "list")["models"]}["mine"]["state"]  # type: ignore[attr-defined]
    )
    assert run("models", "new", "mine", "--project", "brains").exit_code == 1
    assert run("models", "new", "other", "--project", "none").exit_code == 1


def test_a_training_without_labels_says_so_and_one_beside_a_server_names_it(workspace: Path) -> None:
    refused = run("train", "hippocampus_mr", "--project", "brains", "--json")
    assert refused.exit_code == 1
    assert "nothing to learn from" in json.loads(refused.stdout)["problem"]["detail"]
    with workspace_lock(workspace):
        beside = run("train", "hippocampus_mr", "--project", "brains")
    assert beside.exit_code == 1
    assert "--server URL" in " ".join(beside.stderr.split())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with serving(make_site(tmp_path / "site")) as running:
        yield running


def test_a_server_is_asked_in_its_stead(server: Running) -> None:
    refused = run("train", "bright", "--project", "bright", "--server", server.url, "--json")
    assert refused.exit_code == 1
    assert "cannot be trained" in json.loads(refused.stdout)["problem"]["detail"]
    for arguments in (("promote", "bright", "--version", SECOND), ("rollback", "bright")):
        answer = run("models", *arguments, "--server", server.url, "--json")
        assert answer.exit_code == 2
        assert json.loads(answer.stdout)["problem"]["type"] == "unknown-model"
