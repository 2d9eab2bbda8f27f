"""The viewer in a real browser against a real server with real workers: from the list to the stored label."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from viewer_stand import Stand, digest, index_of

from annotate_server.api.viewer_build import BUILT, viewer_build

pytestmark = [pytest.mark.viewer, pytest.mark.slow]
MOST_FIRST_LOAD_BYTES = 12_000_000
MOST_PLUGIN_BYTES = 60_000


@pytest.mark.parametrize(
    ("name", "project", "more"),
    [
        ("Chest", "demo_ct", {"lists": True}),
        ("T1", "demo_mr", {"cancels": True}),
        ("ct_torso", "demo_ct", {"modality": "CT"}),
    ],
)
def test_a_case_goes_from_the_list_to_the_stored_label(
    stand: Stand, samples: Path, name: str, project: str, more: dict[str, Any]
) -> None:
    case = stand.case(name)
    seen = stand.play("journey", name=name, project=project, app=project, address=stand.address(case, project), **more)
    if "lists" in more:
        assert "Sample, CT" in seen["studies"]
    if "cancels" in more:
        assert seen["cancelled"]["revision"] == 0
        assert seen["cancelled"]["stored"] == seen["opened"]["stored"]
    grid = case["geometry"] or stand.get(f"/cases/{case['id']}")["geometry"]
    check_journey(stand, seen, case["id"], project)
    files = intensities(samples / "images", name, stand.get(f"/cases/{case['id']}")["instances"])
    assert seen["intensity"] == pytest.approx(float(files[tuple(seen["middle"])]))
    assert [index_of(grid, asked["points_mm"][0]) for asked in seen["asked"]] == [seen["middle"]] * 3


def check_journey(stand: Stand, seen: Any, case_id: str, project: str) -> None:
    """What holds of every journey, whatever the case."""
    assert seen["start_page"] == "/viewer/worklist"
    assert seen["first_load_bytes"] <= MOST_FIRST_LOAD_BYTES
    assert len(seen["panes"]) == 3
    steps = (seen["opened"], seen["drafted"], *seen["prompts"], seen["brushed"], seen["unbrushed"], seen["erased"])
    for step in (*steps, seen["submitted"]):
        assert step["shown"] == step["stored"]
    assert len(seen["drafted"]["counts"]) >= 3

    prompted = seen["prompted_index"]
    assert [prompt["kind"] for prompt in seen["prompts"]] == [*["point"] * 3, "scribble", "lasso", "box"]
    assert [prompt["there"] for prompt in seen["prompts"]] == [prompted] * 6
    assert [prompt["undone"] for prompt in seen["prompts"][:-1]] == [0] * 5
    assert [kind["kind"] for kind in seen["kinds"]] == ["scribble", "lasso", "box"]
    assert seen["kinds"][1]["points"] >= 4
    assert seen["kinds"][2]["points"] == 2

    history = seen["history"]
    assert history["undone"] != history["after"] == history["redone"]
    assert history["undone"]["shown"] == history["undone"]["stored"]
    assert seen["brushed"]["there"] == prompted
    assert seen["unbrushed"]["stored"] == seen["brushed"]["before"] != seen["brushed"]["stored"]
    locked = seen["locked"]
    assert locked["CircularEraser"] == locked["CircularBrush"] == prompted
    assert locked["before"] == locked["after"]
    assert seen["erased"]["there"] == 0
    reloaded = seen["reloaded"]
    for what in ("shown", "stored", "revision", "counts", "segments"):
        assert reloaded["after"][what] == reloaded["before"][what]
    assert reloaded["can_undo"]

    label = stand.get(f"/projects/{project}/cases/{case_id}/labels")[-1]
    assert label["state"] == "approved"
    assert digest(stand.label_voxels(label["id"])) == seen["submitted"]["shown"]


def test_two_windows_a_killed_server_and_a_plugin_that_does_not_load(stand: Stand) -> None:
    seen = stand.play("trouble", address=stand.address(stand.case("T1"), "any_structure"))
    windows = seen["two_windows"]
    assert seen["same_session"]
    assert seen["refused_edits"] >= 1
    assert windows["first"] == windows["second"] == windows["shown_in_second"] == windows["index"]
    assert seen["wrong_before_kill"] == []
    away, back = seen["away"], seen["back"]
    assert "cannot be reached" in away["problem"]
    assert away["shown"] == back["stored"] == back["first"] == back["second"] == windows["index"]
    assert back["digests"]["shown"] == back["digests"]["stored"]
    assert back["status"] == "Saved"
    assert back["undone"] == 0
    assert seen["layout"] == windows["index"]
    assert seen["surfaces"] == {"voxel": windows["index"], "eval_errors": []}
    assert seen["planes"] == {"panes": 3, "voxel": windows["index"]}
    assert seen["wrong_after"] == []
    assert seen["axe"] == []
    for plugin in (seen["without_plugin"], seen["broken_plugin"]):
        assert plugin["said"]
        assert "Sample, CT" in plugin["studies"]


def test_the_plugin_is_small() -> None:
    build = viewer_build(BUILT)
    if build is None:
        pytest.skip("the viewer is not built (make viewer)")
    sizes = {name: file.path.stat().st_size for name, file in build.files.items() if name.startswith("plugin/")}
    assert 0 < sum(sizes.values()) <= MOST_PLUGIN_BYTES, sizes


def intensities(images: Path, name: str, instances: Any) -> NDArray[np.float64]:
    """Return a case's voxels (k, j, i) as its files say, read without the server's code."""
    if name == "ct_torso":
        (file,) = images.glob("ct_torso.nii*")
        return np.asarray(nib.load(file).dataobj, np.float64).transpose(2, 1, 0)  # type: ignore[attr-defined]
    slices = {}
    for file in images.glob("**/*.dcm"):
        dataset = pydicom.dcmread(file)
        slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
        slices[str(dataset.SOPInstanceUID)] = dataset.pixel_array * slope + intercept
    return np.stack([slices[each["sop_instance_uid"]] for each in instances])
