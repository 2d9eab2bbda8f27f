"""The learning loop on real hippocampus volumes, as small as it can be and still learn something."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from annotate_server.cli.main import command_line

BENCHMARK_APPS = Path(__file__).parents[2] / "benchmarks" / "apps"


@pytest.mark.slow
@pytest.mark.real_data
def test_two_rounds_on_real_volumes_learn_and_cost_less_than_retraining(
    test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANNOTATE_APPS", json.dumps([str(BENCHMARK_APPS)]))
    monkeypatch.setenv("ANNOTATE_WORKSPACE", str(tmp_path))
    numbers = ("--start", "8", "--rounds", "2", "--per-round", "8", "--gate", "20", "--test", "10")
    steps = ("--steps", "60", "--full-steps", "400", "--baselines", "scratch", "--scratch-every", "2")
    folder = str(test_data / "01_hippocampus_msd")
    result = CliRunner().invoke(
        command_line(["simulate"]), ["simulate", "hippocampus_small", "--on", folder, *numbers, *steps, "--json"]
    )
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["start_mean_dice"] > 0.5
    assert report["promotions"] >= 1
    assert report["final_mean_dice"] > report["start_mean_dice"]
    assert report["final_relative_apl"] < report["start_relative_apl"]
    assert report["compute_ratio"] < 0.7
