"""`annotate models adopt` and `annotate models env`: what they make, say and refuse."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from annotate_server.backends.discovery import EntryPointBackends
from annotate_server.backends.environments.environment import READY_MARK
from annotate_server.backends.environments.recipes import recipe_of
from annotate_server.cli.main import command_line
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.ports import Backend, Control
from annotate_server.stores.database import FILE_NAME, open_database
from annotate_server.stores.folder_apps import FolderApps
from annotate_server.stores.sqlite_projects import SqliteProjects


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(["models", "doctor", "workspace"]), list(arguments))


class Notes:
    """A backend that takes over a folder with a file of notes."""

    name = "notes"
    environment = "nninteractive"

    def recognises(self, source: Path) -> bool:
        return (source / "notes.txt").is_file()

    def adopted(self, order: AdoptionOrder, scratch: Path, control: Control) -> tuple[AdoptedApp, ...]:
        control.report(0.5, "Reading the notes")
        table = {
            "title": "Notes",
            "purpose": "Drafts notes.",
            "not_for": order.trusted or "Anything else.",
            "backend": self.name,
            "modalities": list(order.modalities) or ["MR"],
            "licence": "CC BY 4.0",
            "attribution": "Somebody",
            "segments": [{"index": 1, "name": "Note", "colour": [1, 2, 3]}],
        }
        return (AdoptedApp(order.name or "notes", table, {"notes.txt": order.source / "notes.txt"}),)

    def load(self, version: object, device: str) -> object:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANNOTATE_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("ANNOTATE_ENVIRONMENTS", str(tmp_path / "environments"))
    original = EntryPointBackends.get

    def get(self: EntryPointBackends, name: str) -> Backend:
        return Notes() if name == "notes" else original(self, name)  # type: ignore[return-value]

    monkeypatch.setattr(EntryPointBackends, "names", lambda _: ("growcut", "notes"))
    monkeypatch.setattr(EntryPointBackends, "get", get)
    return tmp_path / "workspace"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "notes.txt").write_text("weights")
    return folder


def environment(folder: Path) -> None:
    """Make what counts as an environment of nnInteractive."""
    made = folder / "nninteractive"
    (made / "bin").mkdir(parents=True)
    (made / "bin" / "python").write_text("")
    mark = {"recipe": recipe_of("nninteractive").digest, "python": "3.12.1", "packages": {"torch": "2.13.0"}}
    (made / READY_MARK).write_text(json.dumps(mark))


def test_an_adopted_model_is_listed_and_ready(source: Path, workspace: Path) -> None:
    result = run("models", "adopt", str(source), "--modality", "CT", "--modality", "PT")
    assert result.exit_code == 0, result.stderr
    assert "CC BY 4.0" in result.stdout
    assert "annotate batch SOURCE --model notes --out DIR" in result.stdout
    assert (workspace / "apps" / "notes" / "notes.txt").read_text() == "weights"
    rows = {row["name"]: row for row in json.loads(run("models", "list", "--json").stdout)["models"]}
    assert "Run: annotate models env nninteractive" in rows["notes"]["state"]
    assert rows["notes"]["version"], "it is there, but for its environment"
    environment(workspace.parent / "environments")
    rows = {row["name"]: row for row in json.loads(run("models", "list", "--json").stdout)["models"]}
    assert rows["notes"]["state"] == "ready"
    assert rows["notes"]["modalities"] == "CT, PT"
    assert "lungs_ct" in rows


def test_a_workspace_that_a_server_uses_has_a_project_for_it_at_once(source: Path, workspace: Path) -> None:
    workspace.mkdir()
    database = open_database(workspace / FILE_NAME)
    try:
        assert run("models", "adopt", str(source)).exit_code == 0
        project = SqliteProjects(database).get("notes")
        assert (project.apps, project.title) == (("notes",), "Notes")
        backup = workspace.parent / "backup"
        assert run("workspace", "backup", str(backup)).exit_code == 0
        assert FolderApps([backup / "apps"]).get("notes").card.title == "Notes"
        assert (backup / "apps" / "notes" / "notes.txt").read_text() == "weights"
    finally:
        database.close()


def test_an_adoption_for_machines_is_one_object(source: Path, workspace: Path) -> None:
    answer = json.loads(run("models", "adopt", str(source), "--name", "mine", "--json").stdout)
    assert answer["models"] == [
        {
            "name": "mine",
            "title": "Notes",
            "backend": "notes",
            "folder": str(workspace / "apps" / "mine"),
            "licence": "CC BY 4.0",
            "segments": ["Note"],
            "size_bytes": 7,
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (("--name", "lungs_ct"), "state-error", "--name"),
        (("--trust", "123"), "invalid-request", "SHA-256"),
        (("--backend", "growcut"), "invalid-request", "takes nothing over"),
    ],
)
def test_an_adoption_that_is_refused_changes_nothing(
    source: Path, workspace: Path, arguments: tuple[str, ...], kind: str, said: str
) -> None:
    result = run("models", "adopt", str(source), *arguments, "--json")
    problem = json.loads(result.stdout)["problem"]
    assert result.exit_code == 1
    assert problem["type"] == kind
    assert said in problem["detail"]
    assert not (workspace / "apps" / "lungs_ct").exists()


def test_a_folder_of_nothing_lists_what_takes_models_over(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("models", "adopt", str(tmp_path / "empty"), "--json")
    assert "notes" in json.loads(result.stdout)["problem"]["detail"]


def test_the_environments_are_listed_with_what_to_run(tmp_path: Path) -> None:
    environment(tmp_path / "environments")
    rows = {row["kind"]: row for row in json.loads(run("models", "env", "--json").stdout)["environments"]}
    assert (rows["nninteractive"]["ready"], rows["nninteractive"]["python"]) == (True, "3.12.1")
    assert rows["monailabel"]["remedy"] == "annotate models env monailabel"
    assert "not made" in run("models", "env").stdout
    findings = {each["subject"]: each for each in json.loads(run("doctor", "--json").stdout)["findings"]}
    assert findings["environment nninteractive"]["state"].startswith("ready")
    assert findings["environment monailabel"]["remedy"] == "annotate models env monailabel"
    assert findings["environment monailabel"]["ok"]


def test_an_environment_that_there_is_not_lists_those_that_there_are() -> None:
    detail = json.loads(run("models", "env", "matlab", "--json").stdout)["problem"]["detail"]
    assert "monailabel, nninteractive" in detail
    result = run("models", "env", "--again", "--json")
    assert result.exit_code == 1
    assert "which environment" in json.loads(result.stdout)["problem"]["detail"]
