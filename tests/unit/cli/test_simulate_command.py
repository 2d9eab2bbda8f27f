import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from annotate_server.cli.main import command_line

APP = """
title = "A toy network"
purpose = "Tests."
not_for = "Patients."
backend = "torch_module"
modalities = ["MR"]
licence = "Apache-2.0"
attribution = "None."
trainable = true

[[segments]]
index = 1
name = "Cube"
colour = [230, 120, 60]

[parameters]
architecture = "unet"
network = { widths = [4, 8], classes = 2 }
spacing_mm = [1.0, 1.0, 1.0]
smallest_grid = [16, 16, 16]

[recipe]
steps = 4
full_steps = 6
patch = [16, 16, 16]
sweep = [0.5, 1.0]
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(["simulate"]), ["simulate", *arguments])


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apps" / "toy").mkdir(parents=True)
    (tmp_path / "apps" / "toy" / "app.toml").write_text(APP)
    monkeypatch.setenv("ANNOTATE_APPS", json.dumps([str(tmp_path / "apps")]))
    monkeypatch.setenv("ANNOTATE_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("ANNOTATE_THREADS", "1")


@pytest.fixture
def cubes(tmp_path: Path) -> Path:
    """Return a folder, one below, with twelve labelled cubes."""
    folder = tmp_path / "study" / "pool"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(12):
        random = np.random.default_rng(number)
        label = np.zeros((18, 17, 16), np.uint8)
        label[4:12, 5:13, 3 : 9 + number % 3] = 1
        volume = (label * 100 + random.normal(0, 10, label.shape)).astype(np.float32)
        for part, voxels in (("images", volume), ("labels", label)):
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / part / f"{number}.nii.gz")
    return folder.parent


def test_the_loop_runs_on_a_folder_and_prints_one_object(cubes: Path) -> None:
    result = run(
        *("toy", "--on", str(cubes), "--json", "--start", "2", "--rounds", "2", "--per-round", "2"),
        *("--gate", "4", "--test", "2", "--modality", "MR"),
    )
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert len(report["rounds"]) == 2
    assert {
        *("final_mean_dice", "scratch_mean_dice", "naive_mean_dice", "final_relative_apl", "scratch_relative_apl"),
        *("compute_ratio", "promotions", "refusals"),
    } <= report.keys()
    assert report["settings"]["full_steps"] == 6


def test_too_few_cases_are_refused_before_anything_is_trained(cubes: Path) -> None:
    result = run("toy", "--on", str(cubes), "--json")
    assert result.exit_code == 1
    assert "needs 180 labelled cases" in json.loads(result.stdout)["problem"]["detail"]


def test_an_unknown_baseline_is_wrong_usage(cubes: Path) -> None:
    result = run("toy", "--on", str(cubes), "--baselines", "best")
    assert result.exit_code == 2
    assert "scratch" in result.stderr


def test_a_scanner_that_there_is_not_is_refused_with_those_that_there_are(cubes: Path) -> None:
    result = run("toy", "--on", str(cubes), "--site-shift", "--scanner", "harder")
    assert result.exit_code == 2
    assert "'mild'" in result.stderr
    assert "'hard'" in result.stderr
