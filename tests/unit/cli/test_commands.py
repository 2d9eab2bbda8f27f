import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from annotate_server.cli.main import command_line
from annotate_server.settings import Settings


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(), list(arguments))


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANNOTATE_WORKSPACE", str(tmp_path / "workspace"))
    return tmp_path / "workspace"


def test_the_list_of_models_says_what_is_ready_and_what_to_run() -> None:
    rows = {row["name"]: row for row in json.loads(run("models", "list", "--json").stdout)["models"]}
    assert rows["lungs_ct"]["state"] == "ready"
    assert rows["brain_t1"]["state"] == "weights missing: annotate models pull brain_t1"
    assert set(rows["any_structure"]["prompts"].split(", ")) == {"box", "lasso", "point", "scribble"}


def test_a_card_says_what_a_model_must_not_be_used_for_and_its_licence() -> None:
    text = run("models", "card", "abdomen_ct").stdout
    assert "Not for" in text
    assert "MIT" in text
    assert "Liver" in text


def test_an_unknown_model_is_wrong_usage_and_lists_those_that_there_are() -> None:
    result = run("models", "card", "nothing_like_it")
    assert result.exit_code == 2
    assert "lungs_ct" in result.stderr


def test_weights_that_are_not_there_are_named_with_the_defect(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "model.bin").write_bytes(b"not weights")
    result = run("models", "import", "brain_t1", "--from", str(tmp_path / "w"), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problem"]["type"] == "weights-invalid"


def test_a_batch_without_weights_says_which_command_installs_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    result = run("batch", str(tmp_path / "in"), "--model", "brain_t1", "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "annotate models pull brain_t1" in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run("batch", str(tmp_path / "gone"), "--model", "lungs_ct", "--out", str(tmp_path / "out"), "--json")
    assert result.exit_code == 1
    assert "gone: there is no such file or folder" in json.loads(result.stdout)["problem"]["detail"]


def test_an_empty_folder_says_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    result = run("batch", str(tmp_path / "in"), "--model", "lungs_ct", "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "DICOM, NIfTI, MetaImage and NRRD" in " ".join(result.stderr.split())


def test_a_wrong_plan_for_the_robot_shows_a_right_one(tmp_path: Path) -> None:
    result = run("evaluate", "any_structure", "--on", str(tmp_path), "--robot", "shouts:3")
    assert result.exit_code == 2
    assert "clicks:10" in result.stderr


def test_evaluating_without_labels_says_how_to_lay_them_out(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    result = run("evaluate", "lungs_ct", "--on", str(tmp_path))
    assert result.exit_code == 1
    assert "labels/" in result.stderr


def test_all_wrong_settings_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNOTATE_WORKSPASE", "x")
    monkeypatch.setenv("ANNOTATE_THREADS", "many")
    monkeypatch.setenv("ANNOTATE_DEVICE", "tpu")
    result = run("models", "list")
    assert result.exit_code == 2
    for name in ("ANNOTATE_WORKSPASE", "threads", "device"):
        assert name in result.stderr


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "annotate.toml").write_text('workspace = "/from/file"\nthreads = 3\n')
    monkeypatch.setenv("ANNOTATE_CONFIG", str(tmp_path / "annotate.toml"))
    result = run("doctor", "--json", "--workspace", str(tmp_path / "given"))
    states = {finding["subject"]: finding["state"] for finding in json.loads(result.stdout)["findings"]}
    assert states["setting workspace"].startswith(str(tmp_path / "given"))
    assert states["setting threads"].startswith("3 ")


def test_the_doctor_is_content_with_a_fresh_workspace_and_lists_every_setting() -> None:
    result = run("doctor", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert report["ok"] is True
    subjects = {finding["subject"] for finding in report["findings"]}
    assert {f"setting {name}" for name in Settings.model_fields} <= subjects
    assert {"backend growcut", "model hippocampus_mr"} <= subjects


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_wrong_usage_exits_with_2() -> None:
    assert run("batch").exit_code == 2
    assert run("batch", "x", "--model", "lungs_ct", "--out", "y", "--format", "jpeg").exit_code == 2
