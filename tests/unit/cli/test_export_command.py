"""`annotate export` over a real workspace: a data set on disk, one JSON object, an exit code."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from annotation_bench import ANN, BOB, LIVER, PROJECT, SPLEEN, Bench
from conftest import oblique_geometry
from typer.testing import CliRunner

from annotate_server.cli.main import command_line
from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.labelmap import Labelmap
from annotate_server.imaging.nifti_writing import write_nifti
from annotate_server.workflows.layers import keep_layer

GRID = oblique_geometry((5, 8, 6))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    bench = Bench(folder, GRID)
    bench.records.projects.add(PROJECT, BOB)
    for name in ("a", "b"):
        bench.add_case(name)
        voxels = np.zeros(GRID.shape, np.uint8)
        voxels[1:3, 2:4, 2:5] = 1
        layer = keep_layer(bench.records.blobs, Labelmap(voxels, GRID, (LIVER, SPLEEN)))
        label = Label(f"l-{name}", "organs", name, "ann", (layer,), made_at=bench.clock(), state=LabelState.APPROVED)
        bench.records.labels.accept(label, None, ANN)
        path = bench.records.cases.get(name).case.reference.files[0]
        write_nifti(np.full(GRID.shape, -7, np.int16), GRID, path.with_name(f"{name}.nii"))
        path.with_name(f"{name}.nii").rename(path)
    bench.close()
    return folder


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(command_line(("export",)), ["export", *map(str, words)])
    return result.exit_code, result.stdout


def test_a_project_is_exported_and_exported_again_for_nothing(workspace: Path, tmp_path: Path) -> None:
    words = ("organs", "--format", "nnunet", "--out", tmp_path / "raw", "--workspace", workspace, "--json")
    code, text = run(*words)
    found = json.loads(text)
    assert (code, found["cases"], found["written"], found["failed"]) == (0, 2, 2, [])
    (first, _) = sorted((Path(found["folder"]) / "imagesTr").iterdir())
    assert (np.asarray(nib.nifti1.load(first).dataobj) == -7).all()
    code, text = run(*words)
    assert (code, json.loads(text)["written"]) == (0, 0)


def test_a_case_whose_file_is_gone_is_told_and_the_exit_code_says_so(workspace: Path, tmp_path: Path) -> None:
    (workspace / "b").unlink()
    code, text = run("organs", "--format", "msd", "--out", tmp_path / "msd", "--workspace", workspace, "--json")
    found = json.loads(text)
    assert (code, found["cases"]) == (1, 1)
    assert found["failed"][0]["label"] == "l-b"


def test_an_unknown_project_and_an_empty_workspace_say_so(workspace: Path, tmp_path: Path) -> None:
    code, text = run("lungs", "--format", "bids", "--out", tmp_path / "b", "--workspace", workspace, "--json")
    assert (code, json.loads(text)["problem"]["type"]) == (1, "not-found")
    code, text = run("organs", "--format", "bids", "--out", tmp_path / "b", "--workspace", tmp_path / "new", "--json")
    assert (code, json.loads(text)["problem"]["type"]) == (1, "not-found")
    assert "nothing was annotated" in json.loads(text)["problem"]["detail"]
