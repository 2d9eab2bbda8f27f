"""Series that are no plain volume, a project of 117 segments, and a series of 800 slices."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from dicom_phantom import Change, decimals, same, write_series
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from server_process import running
from small_studies import small_chest
from viewer_stand import Browser, Stand, digest

from annotate_server.domain.geometry import Box, Geometry
from annotate_server.testing.chest import ChestOptions, chest_phantom

pytestmark = [pytest.mark.viewer, pytest.mark.slow]
TILT_DEGREES = 15.0
TURNED_FROM = 20
MANY_SEGMENTS = 117
LARGE = (800, 512, 512)


def tilted(k: int, dataset: Dataset) -> None:
    """Move each slice along its columns, as a tilted gantry does."""
    place = [float(x) for x in dataset.ImagePositionPatient]
    place[1] += k * 10.0 * np.tan(np.deg2rad(TILT_DEGREES))
    dataset.ImagePositionPatient = decimals(place)
    dataset.GantryDetectorTilt = str(TILT_DEGREES)


def turned(k: int, dataset: Dataset) -> None:
    """Turn the last slices: no grid has them all."""
    if k >= TURNED_FROM:
        dataset.ImageOrientationPatient = ["0", "1", "0", "0", "0", "-1"]


def write_odd(
    studies: Path, name: str, change: Change = same, geometry: Geometry | None = None, voxels: Any = None
) -> list[Path]:
    """Write a series in a study of its own."""
    number = int.from_bytes(name.encode()[:6], "big")

    def own(k: int, dataset: Dataset) -> None:
        dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = f"1.2.3.{number}", f"1.2.3.{number}.9"
        dataset.PatientID = dataset.PatientName = dataset.SeriesDescription = name
        change(k, dataset)

    chest = chest_phantom(small_chest(), ChestOptions()).volume
    grid, values = geometry or chest.geometry, chest.voxels if voxels is None else voxels
    return write_series(studies / name, grid, values, change=own, uid=f"1.2.3.{number}.4")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, browser: Browser, shots: Path) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("odd")
    studies = folder / "studies"
    write_odd(studies, "tilted", tilted)
    for file in write_odd(studies, "single")[1:]:
        file.unlink()
    for file in write_odd(studies, "pair")[2:]:
        file.unlink()
    write_odd(studies, "turned", turned)
    write_odd(studies, "whole")
    write_odd(studies, "begun")
    for file in write_odd(studies, "gap")[10:13]:
        file.unlink()
    with running(folder / "workspace", studies) as server:
        server.wait_until_ready().wait_for_cases(6)
        yield Stand(server, browser, shots)


@pytest.mark.parametrize("name", ["single", "pair", "turned"])
def test_what_is_drawn_in_a_series_of_few_or_turned_slices_is_stored(odd: Stand, name: str) -> None:
    (found,) = odd.play("series", cases=[{"name": name, "address": odd.address(odd.case(name), "any_structure")}])[
        "cases"
    ]
    check_drawn(odd, found)


def test_a_series_is_annotated_in_a_stack_pane(odd: Stand) -> None:
    asked = {"name": "stack", "address": odd.address(odd.case("whole"), "any_structure")}
    (found,) = odd.play("series", cases=[asked], protocol="default")["cases"]
    assert found["kinds"] == ["stack"]
    check_drawn(odd, {**found, "name": "whole"})


def test_what_another_client_began_goes_on_in_the_browser_with_its_history(odd: Stand) -> None:
    case, box = odd.case("begun"), Box((9, 12, 14), (10, 20, 25))
    with odd.server.client("me") as client, client.open("demo_ct", case["id"]) as session:
        session.draft_by("demo_ct")
        drafted = digest(session.draft)
        session.edit(box, np.full(box.shape, session.segments[0].index, np.uint8))
        edited = digest(session.draft)
    assert drafted != edited
    seen = odd.play("continued", address=odd.address(case, "demo_ct"), changed=box.start[0])
    assert seen["opened"] == {"shown": edited, "stored": edited}
    assert seen["undone"] == {"shown": drafted, "stored": drafted}
    assert seen["redone"] == seen["outlined"] == seen["opened"], "the model's outlines are only looked at"
    assert seen["slice_before"] != box.start[0]
    version = next(model for model in odd.get("/models") if model["name"] == "demo_ct")["version"]
    assert version in seen["drafted_by"]
    assert seen["theme"] == "light"
    series = f"1.2.3.{int.from_bytes(b'gap', 'big')}.4"
    (refused,) = (each for each in odd.get("/refused") if each["series_uid"] == series)
    assert refused["reason"] in seen["refused"]


def check_drawn(odd: Stand, found: Any) -> None:
    """What was drawn is stored, in the slice where it was drawn; the panel says what the server remarked."""
    known = odd.get(f"/cases/{odd.case(found['name'])['id']}")
    drawn = odd.session_labelmap(found["session"], known["geometry"]["shape"])
    assert digest(drawn) == found["stored"] == found["shown"]
    assert found["first"] > 0
    assert 0 < np.count_nonzero(drawn) == found["count"]
    assert set(np.argwhere(drawn)[:, 0]) == {found["middle"][0]}
    assert all(warning in found["panel"] for warning in known["warnings"])


def test_what_the_server_did_to_a_tilted_series_is_said_in_the_panel(odd: Stand) -> None:
    case = odd.case("tilted")
    with odd.server.client() as client:  # which reads it
        client.open("any_structure", case["id"]).leave()
    (warning,) = odd.get(f"/cases/{case['id']}")["warnings"]
    assert f"sheared by {TILT_DEGREES:.1f} degrees" in warning
    odd.play("series", cases=[{"name": "tilted", "address": odd.address(case, "any_structure"), "says": warning}])


def test_117_segments_have_the_names_and_colours_of_the_project(odd: Stand) -> None:
    rng = np.random.default_rng(3)
    indices = rng.permutation(np.arange(1, 256))[:MANY_SEGMENTS]  # in no order, with gaps
    segments = [
        {"index": int(index), "name": f"Structure {n}", "colour": rng.integers(0, 256, 3).tolist()}
        for n, index in enumerate(indices)
    ]
    project = {"id": "many", "title": "Many", "segments": segments}
    assert httpx.post(f"{odd.server.url}/api/v1/projects", json=project).status_code == 201
    case = odd.case("whole")
    asked = {"name": "many", "address": odd.address(case, "many")}
    (found,) = odd.play("series", cases=[asked], segments=True)["cases"]
    by_index = {each["index"]: each for each in found["segments"]}
    assert len(by_index) == MANY_SEGMENTS
    for segment in segments:
        shown = by_index[segment["index"]]
        assert shown["name"] == shown["row"].strip() == segment["name"]
        assert shown["colours"] == [segment["colour"]] * 3
        assert shown["swatch"] == "#{:02x}{:02x}{:02x}".format(*segment["colour"])
    drawn = odd.session_labelmap(found["session"], odd.get(f"/cases/{case['id']}")["geometry"]["shape"])
    assert digest(drawn) == found["stored"] == found["shown"]
    assert set(np.unique(drawn)) == {0, *map(int, indices)}


def test_a_series_of_800_slices_opens(browser: Browser, shots: Path, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    axes = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    geometry = Geometry(LARGE, (0.8, 0.7, 0.7), axes, (-180.0, -180.0, -320.0))
    write_odd(studies, "large", geometry=geometry, voxels=large_voxels())
    with running(tmp_path / "workspace", studies) as server:
        server.wait_until_ready().wait_for_cases(1)
        stand = Stand(server, browser, shots)
        case = stand.case("large")
        asked = {"name": "large", "address": stand.address(case, "any_structure"), "is_large": True}
        (found,) = stand.play("series", cases=[asked])["cases"]
        assert len(found["panes"]) == 3
        assert found["first"] > 0
        drawn = stand.session_labelmap(found["session"], list(LARGE))
        assert 0 < np.count_nonzero(drawn) == found["count"]
        (k,) = np.unique(np.argwhere(drawn)[:, 0])
        assert abs(int(k) - LARGE[0] // 2) <= 1


def large_voxels() -> NDArray[np.int16]:
    """Return a tube that grows thinner, in air."""
    nk, nj, ni = LARGE
    j, i = np.ogrid[:nj, :ni]
    radius = np.hypot(j - nj / 2, i - ni / 2)
    voxels = np.full(LARGE, -1000, np.int16)
    for k in range(nk):
        voxels[k][radius < 220 - k / 8] = 40
    return voxels
