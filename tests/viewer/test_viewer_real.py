"""The viewer on real volumes: an abdominal CT from draft to label, and one head stored in 24 orientations."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from server_process import running
from test_viewer_in_browser import check_journey, intensities
from viewer_stand import Browser, Stand, index_of

pytestmark = [pytest.mark.viewer, pytest.mark.slow, pytest.mark.real_data]
LANDMARK_LPS = (0.0, 0.0, 0.0)
LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
"""What an edge is called that lies towards the negative and the positive end of each axis of the world, LPS."""
LEAST_LIKENESS = 0.9
BRUSH_MM = 8.0


@pytest.fixture(scope="module")
def real(test_data: Path, tmp_path_factory: pytest.TempPathFactory, browser: Browser, shots: Path) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("real")
    studies = folder / "studies"
    shutil.copytree(test_data / "04_liver_ct_dicom_crlm/CRLM-CT-1006/dicom", studies / "ct")
    for file in heads(test_data):
        shutil.copy(file, studies)
    with running(folder / "workspace", studies, {"ANNOTATE_LEASE_S": "3600"}) as server:  # looked at when all are drawn
        server.wait_until_ready().wait_for_cases(25)
        yield Stand(server, browser, shots)


def heads(test_data: Path) -> list[Path]:
    files = sorted((test_data / "16_nifti_48_orientations").glob("???.nii.gz"))
    assert len(files) == 24
    return files


def test_a_real_ct_goes_from_the_list_to_the_stored_label(real: Stand, test_data: Path) -> None:
    case = next(case for case in real.get("/cases?limit=1000")["cases"] if case["modality"] == "CT")
    address = real.address(case, "lungs_ct")
    seen = real.play("journey", name="CRLM", project="lungs_ct", app="lungs_ct", address=address)
    check_journey(real, seen, case["id"], "lungs_ct")
    known = real.get(f"/cases/{case['id']}")
    files = intensities(test_data / "04_liver_ct_dicom_crlm/CRLM-CT-1006/dicom", "CRLM", known["instances"])
    assert seen["intensity"] == pytest.approx(float(files[tuple(seen["middle"])]))
    asked = np.array(index_of(known["geometry"], seen["asked"][0]["points_mm"][0]))
    assert np.abs(asked - seen["middle"]).max() <= 1, "a pixel of the screen is a little larger than a voxel"


def test_a_head_stored_in_24_orientations_is_drawn_the_same_way_round(real: Stand, test_data: Path) -> None:
    files = {file.name[:3]: file for file in heads(test_data)}
    cases = {name: real.case(name) for name in files}
    asked = [
        {"name": name, "address": real.address(case, "any_structure"), "landmark": LANDMARK_LPS}
        for name, case in cases.items()
    ]
    seen = real.play("orientations", cases=asked)
    contact_sheet(seen["cases"], real.shots / "orientations.png")
    for found, (name, file) in zip(seen["cases"], files.items(), strict=True):
        volume = nib.load(file)  # type: ignore[attr-defined]
        to_index = np.linalg.inv(volume.affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])  # from LPS
        assert found["letters"] == letters(found["right"], found["up"]), name
        assert likeness(found, np.asarray(volume.dataobj, np.float64), to_index) >= LEAST_LIKENESS, name
        assert found["shown"] == found["stored"]
        # a brush marks the same place of the head, whatever way round its voxels are stored
        grid = real.get(f"/cases/{cases[name]['id']}")["geometry"]
        drawn = np.argwhere(real.session_labelmap(found["session"], grid["shape"]))
        middle_lps = np.array(grid["origin_mm"]) + drawn.mean(axis=0) * np.array(grid["spacing_mm"]) @ np.array(
            grid["direction"]
        )
        assert np.linalg.norm(middle_lps - LANDMARK_LPS) <= max(grid["spacing_mm"]), name
        voxel = np.round(to_index @ [*LANDMARK_LPS, 1.0])[:3].astype(int)
        assert real_index(volume.affine, grid, voxel) == index_of(grid, list(LANDMARK_LPS)), name


def real_index(affine: NDArray[np.float64], grid: Any, voxel: NDArray[np.int64]) -> list[int]:
    """Return the voxel (k, j, i) of the case that a voxel of the file lies in."""
    ras = affine @ [*voxel.astype(float), 1.0]
    return index_of(grid, [-ras[0], -ras[1], ras[2]])


def letters(right: list[float], up: list[float]) -> dict[str, str]:
    """Return the letters that belong at the top and at the left of a pane."""

    def letter(direction: NDArray[np.float64]) -> str:
        axis = int(np.argmax(np.abs(direction)))
        return LETTERS[axis][int(direction[axis] > 0)]

    return {"top": letter(np.array(up)), "left": letter(-np.array(right))}


def likeness(found: Any, voxels: NDArray[np.float64], to_index: NDArray[np.float64]) -> float:
    """Return how the brightness on the screen goes with the file's voxels at the same places; 1 is the same picture."""
    picture = np.asarray(Image.open(found["picture"]).convert("L"), np.float64)
    grid = np.array(found["grid"])
    there = to_index @ np.c_[grid[:, :3], np.ones(len(grid))].T
    expected = ndimage.map_coordinates(voxels, there[:3], order=1, cval=np.nan)
    columns, rows = np.round(grid[:, 3:]).astype(int).T
    height, width = picture.shape
    # away from the edges, where the viewer writes
    inside = (columns > 40) & (columns < width - 40) & (rows > 40) & (rows < height - 40) & np.isfinite(expected)
    assert inside.sum() > 300
    return float(np.corrcoef(picture[rows[inside], columns[inside]], expected[inside])[0, 1])


def contact_sheet(cases: Any, target: Path) -> None:
    """Put all pictures on one sheet, to look at."""
    sheet = Image.new("RGB", (6 * 240, 4 * 260))
    draw = ImageDraw.Draw(sheet)
    for n, found in enumerate(cases):
        x, y = n % 6 * 240, n // 6 * 260
        sheet.paste(Image.open(found["picture"]).convert("RGB").resize((190, 234)), (x, y + 20))
        draw.text(
            (x + 4, y + 4), f"{found['name']}: {found['letters']['left']} left, {found['letters']['top']} top", "white"
        )
    sheet.save(target)
