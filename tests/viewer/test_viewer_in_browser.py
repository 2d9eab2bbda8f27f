"""The viewer in a real browser against a real server with real workers: from the list to the stored label."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import nrrd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from server_process import ServerProcess, running

from annotate_server.api.viewer_build import BUILT, viewer_build
from annotate_server.testing.phantoms import make_sample_data

pytestmark = [pytest.mark.viewer, pytest.mark.slow]
HERE = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
NODE = shutil.which("node", path=f"{HERE.parents[1] / '.venv' / 'bin'}:{os.environ.get('PATH', '')}")
MOST_FIRST_LOAD_BYTES = 12_000_000
MOST_PLUGIN_BYTES = 60_000


@dataclass(frozen=True)
class Stand:
    """A server over the sample volumes."""

    server: ServerProcess
    samples: Path
    shots: Path

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.server.url}/api/v1{path}", timeout=60)
        assert answer.is_success, answer.text
        return answer.json()

    def case(self, name: str) -> Any:
        return next(case for case in self.get("/cases")["cases"] if case["name"].startswith(name))

    def drive(self, script: str, case: Any, project: str, **more: str) -> Any:
        """Run a script in the browser on a case, and return what it saw."""
        asked = {
            "url": self.server.url,
            "name": project,
            "project": project,
            "shots": str(self.shots),
            "executable": CHROMIUM,
            "address": f"/viewer/annotate?StudyInstanceUIDs={case['study_uid']}"
            f"&SeriesInstanceUIDs={case['series_uid']}&project={project}&case={case['id']}",
            **more,
        }
        assert NODE is not None
        command = [NODE, str(HERE / script), json.dumps(asked)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert ended.returncode == 0, ended.stderr[-2000:]
        return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    missing = [
        what
        for what, is_there in {
            "chromium (apt-get install chromium)": CHROMIUM is not None,
            "node (make viewer)": NODE is not None,
            "the built viewer (make viewer)": viewer_build(BUILT) is not None,
            "playwright-core (make test-plugin)": (
                HERE.parents[1] / "viewer_plugin/ohif/node_modules/playwright-core"
            ).is_dir(),
        }.items()
        if not is_there
    ]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"there is no {' and no '.join(missing)}")
    assert not missing
    folder = tmp_path_factory.mktemp("viewer")
    samples, shots = folder / "samples", Path(os.environ.get("VIEWER_SCREENSHOTS", folder / "shots"))
    shots.mkdir(parents=True, exist_ok=True)
    make_sample_data(samples)
    with running(folder / "workspace", samples / "images") as server:
        server.wait_until_ready().wait_for_cases(3)
        yield Stand(server, samples, shots)


@pytest.mark.parametrize(
    ("name", "project", "modality"), [("Chest", "demo_ct", ""), ("T1", "demo_mr", ""), ("ct_torso", "demo_ct", "CT")]
)
def test_a_case_goes_from_the_list_to_the_stored_label(stand: Stand, name: str, project: str, modality: str) -> None:
    case = stand.case(name)
    found = stand.drive("journey.mjs", case, project, name=name, app=project, modality=modality)
    seen = found["seen"]
    assert "failed" not in seen, f"{seen['failed']}\n{seen.get('panel', '')}\n{found['wrong']}"
    assert found["wrong"] == []
    assert found["foreign"] == []
    assert seen["start_page"] == "/viewer/worklist"
    assert seen["first_load_bytes"] <= MOST_FIRST_LOAD_BYTES
    assert len(seen["panes"]) == 3

    for step in (seen["opened"], seen["drafted"], seen["brushed"], seen["unbrushed"], seen["submitted"]):
        assert step["shown"] == step["stored"]
    assert len(seen["drafted"]["counts"]) >= 3

    shape, grid = case["geometry"] or stand.get(f"/cases/{case['id']}")["geometry"], seen["middle"]
    for prompt, asked in zip(seen["prompts"], seen["asked"], strict=True):
        assert prompt["shown"] == prompt["stored"]
        assert prompt["there"] == seen["prompted_index"]
        assert index_of(shape, asked["points_mm"][0]) == grid
    assert [prompt["undone"] for prompt in seen["prompts"][:-1]] == [0, 0]
    assert seen["intensity"] == pytest.approx(float(intensities(stand, name, case["id"])[tuple(grid)]))

    history = seen["history"]
    assert history["undone"] != history["after"] == history["redone"]
    assert history["undone"]["shown"] == history["undone"]["stored"]
    assert seen["brushed"]["there"] == seen["prompted_index"]
    assert seen["unbrushed"]["stored"] == seen["brushed"]["before"] != seen["brushed"]["stored"]
    assert seen["locked"]["after"] == seen["locked"]["before"]
    assert seen["reloaded"]["after"]["shown"] == seen["reloaded"]["before"]["shown"] == seen["brushed"]["shown"]
    assert seen["reloaded"]["can_undo"]

    label = stand.get(f"/projects/{project}/cases/{case['id']}/labels")[-1]
    assert label["state"] == "approved"
    assert digest(label_voxels(stand, label["id"])) == seen["submitted"]["shown"]


def test_two_windows_a_server_away_and_a_plugin_that_does_not_load(stand: Stand) -> None:
    found = stand.drive("trouble.mjs", stand.case("T1"), "any_structure")
    seen = found["seen"]
    assert "failed" not in seen, f"{seen['failed']}\n{found['wrong']}"
    windows = seen["two_windows"]
    assert seen["same_session"]
    assert seen["refused_edits"] >= 1
    assert windows["first"] == windows["second"] == windows["shown_in_second"] == windows["index"]
    assert "Not connected" in seen["away"]["status"]
    assert "cannot be reached" in seen["away"]["problem"]
    assert seen["away"]["shown"] == seen["back"]["stored"] == seen["back"]["first"] == windows["index"]
    assert seen["back"]["status"] == "Saved"
    assert seen["layout"] == {"shown": True, "voxel": windows["index"], "panes": 1}
    assert seen["surfaces"] == {"voxel": windows["index"], "eval_errors": []}
    assert seen["planes"] == {"panes": 3, "voxel": windows["index"]}
    assert seen["axe"] == []
    assert seen["without_plugin"]
    assert found["foreign"] == []


def test_a_project_made_in_the_browser_goes_through_two_pairs_of_eyes(stand: Stand, tmp_path: Path) -> None:
    with running(tmp_path / "workspace", stand.samples / "images") as server:  # without drafts of other tests
        server.wait_until_ready().wait_for_cases(3)
        fresh = Stand(server, stand.samples, stand.shots)
        found = fresh.drive("team.mjs", fresh.case("Chest"), "two-pairs-of-eyes")
    seen = found["seen"]
    assert "failed" not in seen, f"{seen['failed']}\n{seen.get('panel', '')}\n{found['wrong']}"
    assert found["wrong"] == []
    assert found["foreign"] == []
    assert len(seen["listed"]) == 3
    assert any(item.startswith("ct_torso.nii") and "put aside" in item for item in seen["aside"])
    assert seen["segments"] == ["Bladder", "Prostate"]
    assert 0 < seen["lasso"]["count"] < seen["margin"] == seen["reviewed_count"]
    assert "second person" in seen["submitted"]
    assert seen["same_case"]
    assert seen["return_needs_comment"]
    assert any("Chest phantom CT returned" in item for item in seen["after"])


def test_the_plugin_is_small() -> None:
    build = viewer_build(BUILT)
    if build is None:
        pytest.skip("the viewer is not built (make viewer)")
    sizes = {name: file.path.stat().st_size for name, file in build.files.items() if name.startswith("plugin/")}
    assert 0 < sum(sizes.values()) <= MOST_PLUGIN_BYTES, sizes


def index_of(grid: Any, place_mm: list[float]) -> list[int]:
    """Return the voxel (k, j, i) that a place lies in."""
    axes = np.array(grid["direction"]) * np.array(grid["spacing_mm"])[:, None]
    index = np.linalg.solve(axes.T, np.array(place_mm) - np.array(grid["origin_mm"]))
    return [round(float(each)) for each in index]


def intensities(stand: Stand, name: str, case_id: str) -> NDArray[np.float64]:
    """Return a case's voxels (k, j, i) as its files say, read without the server's code."""
    images = stand.samples / "images"
    if name == "ct_torso":
        (file,) = images.glob("ct_torso.nii*")
        return np.asarray(nib.load(file).dataobj, np.float64).transpose(2, 1, 0)  # type: ignore[attr-defined]
    slices = {}
    for file in images.glob("*/*.dcm"):
        dataset = pydicom.dcmread(file)
        slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
        slices[str(dataset.SOPInstanceUID)] = dataset.pixel_array * slope + intercept
    return np.stack([slices[each["sop_instance_uid"]] for each in stand.get(f"/cases/{case_id}")["instances"]])


def label_voxels(stand: Stand, label_id: str) -> NDArray[np.uint8]:
    """Return a label's voxels (k, j, i), from the file that is downloaded."""
    answer = httpx.get(f"{stand.server.url}/api/v1/labels/{label_id}/file?format=nrrd", timeout=60)
    assert answer.is_success, answer.text
    file = stand.shots / f"{label_id}.seg.nrrd"
    file.write_bytes(answer.content)
    voxels, _ = nrrd.read(str(file), index_order="C")
    return np.ascontiguousarray(voxels, np.uint8)


def digest(voxels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(voxels.tobytes()).hexdigest()
