"""The batch command as a process of its own: what a person, a script and a power cut do to it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from annotate_server.domain.geometry import Geometry
from annotate_server.testing.chest import ChestOptions, chest_phantom

CASES = 6


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with six small chest phantoms, a damaged file and a text."""
    folder = tmp_path_factory.mktemp("scans")
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 6.0], [0, 6.0, 0], [8.0, 0, 0]])
    affine[:3, 3] = (-190.0, -150.0, -180.0)
    geometry = Geometry.from_affine(affine, (42, 50, 64))
    for number in range(CASES):
        phantom = chest_phantom(geometry, ChestOptions(seed=number, blood_hu=45.0 + 20 * number))
        path = folder / f"sub-{number:02d}" / "ct.nii.gz"
        path.parent.mkdir()
        voxels = np.asarray(phantom.volume.voxels).transpose(2, 1, 0)
        ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]]
        nib.save(nib.Nifti1Image(voxels, ras), path)
    (folder / "notes.txt").write_text("no volume")
    return folder


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "annotate_server.cli.main", *map(str, arguments)]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNOTATE_WORKSPACE", str(tmp_path / "workspace"))


def manifest(out: Path) -> list[dict]:
    path = out / "manifest.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def assert_sound(out: Path) -> None:
    """Assert that every output that the manifest names is whole, and that every labelmap there can be read."""
    for line in manifest(out):
        for output in line["outputs"]:
            assert (out / output["path"]).is_file()
    for path in out.rglob("*.nii.gz"):
        if not path.name.startswith(".part-"):
            assert np.asarray(nib.load(path).dataobj).shape == (64, 50, 42)


def wait_for_lines(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(manifest(out)) < count:
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_folder_is_drafted_and_reported_for_machines(scans: Path, tmp_path: Path) -> None:
    result = run("batch", scans, "--model", "lungs_ct", "--out", tmp_path / "out", "--format", "nrrd", "--json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["ok"], summary["failed"]) == (CASES, 0)
    assert summary["cases_per_hour"] > 0
    assert (tmp_path / "out" / "sub-03" / "ct.seg.nrrd").is_file()
    lines = manifest(tmp_path / "out")
    assert [Path(line["source"]).name for line in lines] == ["ct.nii.gz"] * CASES
    assert all(line["segments"]["Left lung"]["volume_ml"] > 500 for line in lines)
    assert "sub-03/ct.nii.gz" in (tmp_path / "out" / "index.html").read_text()


def test_one_bad_file_fails_alone_and_makes_the_exit_code_1(scans: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = scans / "sub-00" / "ct.nii.gz"
    (folder / "good.nii.gz").write_bytes(good.read_bytes())
    (folder / "cut.nii.gz").write_bytes(good.read_bytes()[:5000])
    (folder / "empty.nii").write_bytes(b"")
    result = run("batch", folder, "--model", "lungs_ct", "--out", tmp_path / "out")
    assert result.returncode == 1
    states = {line["key"]: line["status"] for line in manifest(tmp_path / "out")}
    assert states == {"good.nii.gz": "ok", "cut.nii.gz": "failed", "empty.nii": "failed"}
    assert "cut.nii.gz" in result.stdout
    assert "Look at them: file://" in result.stdout


def test_ctrl_c_leaves_everything_finished_valid_and_resume_goes_on(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = command("batch", scans, "--model", "lungs_ct", "--out", out)
    # a background job of a shell inherits SIGINT ignored, and then nothing can interrupt it
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,  # noqa: PLW1509
    ) as process:
        wait_for_lines(out, 2, process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 130
    finished = manifest(out)
    assert 2 <= len(finished) < CASES
    assert_sound(out)
    assert not list(out.rglob(".part-*"))
    assert f"{len(finished)} drafted" in (out / "index.html").read_text()
    before = {line["key"]: (out / line["outputs"][0]["path"]).stat().st_mtime_ns for line in finished}
    result = run("batch", scans, "--model", "lungs_ct", "--out", out, "--resume", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["kept"] == len(finished)
    after = {line["key"]: (out / line["outputs"][0]["path"]).stat().st_mtime_ns for line in manifest(out)}
    assert len(after) == CASES
    assert before.items() <= after.items()


@pytest.mark.slow
def test_kill_9_at_any_moment_costs_at_most_the_present_case(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    moments = random.Random(20)  # noqa: S311  moments, not secrets
    for _ in range(5):
        arguments = command("batch", scans, "--model", "lungs_ct", "--out", out, "--resume")
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(moments.uniform(2.0, 6.0))
            process.kill()
        assert_sound(out)
    result = run("batch", scans, "--model", "lungs_ct", "--out", out, "--resume", "--json")
    assert result.returncode == 0, result.stderr
    assert len(manifest(out)) == CASES
    assert_sound(out)
    assert not [path for path in out.rglob("*.nii.gz") if path.name.startswith(".part-") and path.stat().st_size == 0]


def test_a_full_disk_fails_the_case_with_a_sentence(scans: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a small disk can only be mounted by root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let a test mount a small disk")
    try:
        result = run("batch", scans / "sub-00", "--model", "lungs_ct", "--out", disk / "out", "--json")
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_seg_of_a_nifti_is_refused_with_the_reason(scans: Path, tmp_path: Path) -> None:
    source = scans / "sub-01" / "ct.nii.gz"
    result = run("batch", source, "--model", "lungs_ct", "--out", tmp_path / "out", "--format", "dicom-seg")
    assert result.returncode == 1
    line = manifest(tmp_path / "out")[0]
    assert line["status"] == "failed"
    assert "DICOM" in line["problem"]["detail"]


def test_evaluating_what_a_batch_drafted_against_itself_is_perfect(scans: Path, tmp_path: Path) -> None:
    assert run("batch", scans, "--model", "lungs_ct", "--out", tmp_path / "on" / "labels").returncode == 0
    (tmp_path / "on" / "images").symlink_to(scans)
    result = run("evaluate", "lungs_ct", "--on", tmp_path / "on", "--effort", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["cases"] == CASES
    assert report["mean_dice"] == 1.0
    left = report["segments"]["Left lung"]
    assert left["dice"]["mean"] == left["surface_dice_1mm"]["low"] == 1.0
    assert left["apl_mm"]["mean"] == left["relative_apl_0"]["high"] == left["hd95_mm"]["mean"] == 0.0
    assert report["effort"]["ratio"] < 0.5
