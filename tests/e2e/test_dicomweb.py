"""DICOMweb on the server's own studies: what a viewer fetches is what the files hold, NIfTI too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import oblique_geometry
from dicom_phantom import phantom_voxels, write_series
from server_process import running

from annotate_server.domain.geometry import Geometry
from annotate_server.testing.phantom_files import write_nifti

GRID = oblique_geometry((9, 14, 11))
MIRRORED = Geometry(
    GRID.shape,
    GRID.spacing_mm,
    (GRID.direction[0], GRID.direction[1], (-1 * np.array(GRID.direction[2])).tolist()),
    (4.0, 5.0, 6.0),
)
VOXELS = phantom_voxels(GRID.shape)
FRAMES = {"Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("dicomweb")
    write_series(folder / "studies/ct", GRID)
    write_nifti(folder / "studies/plain.nii", VOXELS, GRID)
    write_nifti(folder / "studies/mirrored.nii", VOXELS + 1, MIRRORED)
    with running(folder / "workspace", folder / "studies") as server:
        server.wait_until_ready().wait_for_cases(3)
        with httpx.Client(base_url=server.url, timeout=60) as client:
            yield client


def first(dataset: dict[str, Any], tag: str) -> Any:
    return dataset[tag]["Value"][0]


def series_of(web: httpx.Client, case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels and the LPS positions of the first voxel of every slice, as a viewer gets them, in slice order."""
    path = f"/dicomweb/studies/{case['study_uid']}/series/{case['series_uid']}"
    places = {
        each["sop_instance_uid"]: each["k"] for each in web.get(f"/api/v1/cases/{case['id']}").json()["instances"]
    }
    planes, positions = {}, {}
    for dataset in web.get(f"{path}/metadata").json():
        uid = first(dataset, "00080018")
        answer = web.get(f"{path}/instances/{uid}/frames/1", headers=FRAMES)
        assert answer.status_code == 200, answer.text
        rows, columns = first(dataset, "00280010"), first(dataset, "00280011")
        kind = "<i2" if first(dataset, "00280103") else "<u2"
        body = answer.content.split(b"\r\n\r\n", 1)[1][: rows * columns * 2]
        values = np.frombuffer(body, kind).reshape(rows, columns)
        planes[places[uid]] = values * first(dataset, "00281053") + first(dataset, "00281052")
        positions[places[uid]] = dataset["00200032"]["Value"]
    order = sorted(planes)
    return np.stack([planes[k] for k in order]), np.array([positions[k] for k in order])


def test_every_voxel_and_position_is_that_of_the_file(web: httpx.Client) -> None:
    cases = {case["name"]: case for case in web.get("/api/v1/cases").json()["cases"]}
    assert len(cases) == 3
    for case in cases.values():
        voxels, positions = series_of(web, case)
        if "mirrored" in case["name"]:
            corners = {tuple(np.round(point, 3)) for point in MIRRORED.world([[k, 0, 0] for k in range(9)])}
            ends = {tuple(np.round(point, 3)) for point in MIRRORED.world([[k, 0, 10] for k in range(9)])}
            there = {tuple(np.round(point, 3)) for point in positions}
            assert there in (corners, ends)
            assert sorted(voxels.ravel()) == sorted((VOXELS + 1).ravel())
        else:
            np.testing.assert_array_equal(voxels, VOXELS)
            np.testing.assert_allclose(positions, GRID.world([[k, 0, 0] for k in range(9)]), atol=1e-3)


def test_a_search_finds_by_what_a_viewer_asks(web: httpx.Client) -> None:
    found = web.get("/dicomweb/studies", params={"limit": 101, "offset": 0, "includefield": "00081030"}).json()
    assert len(found) == 3
    study = next(
        first(each, "0020000D")
        for each in found
        if each["00100020"].get("Value") and not first(each, "0020000D").startswith("2.25")
    )
    one = web.get("/dicomweb/studies", params={"StudyInstanceUID": study}).json()
    assert [first(each, "0020000D") for each in one] == [study]
    assert len(web.get(f"/dicomweb/studies/{study}/series").json()) == 1
    assert len(web.get(f"/dicomweb/studies/{study}/instances").json()) == 9
    none = web.get("/dicomweb/studies", params={"PatientName": "nobody*"})
    assert none.status_code in (200, 204)
    assert none.status_code == 204 or none.json() == []
    assert web.get("/dicomweb/studies/1.2.3.999/metadata").status_code == 404
    assert web.get(f"/dicomweb/studies/{study}/thumbnail").headers["content-type"].startswith("image/")


def test_instances_that_are_sent_become_a_case(web: httpx.Client, tmp_path: Path) -> None:
    files = write_series(tmp_path / "sent", oblique_geometry((4, 14, 11)), change=renamed)
    parts = b"".join(
        b"--part\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes() + b"\r\n" for path in files
    )
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=part'}
    answer = web.post("/dicomweb/studies", content=parts + b"--part--\r\n", headers=kind)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["00081199"]["Value"]) == 4
    assert any(case["series_uid"] == "1.2.3.777" for case in web.get("/api/v1/cases").json()["cases"])
    cut = web.post("/dicomweb/studies", content=parts, headers=kind)
    assert cut.status_code == 400
    junk = b"--part\r\nContent-Type: application/dicom\r\n\r\nno dicom\r\n--part--\r\n"
    assert web.post("/dicomweb/studies", content=junk, headers=kind).status_code == 409
    assert web.post("/dicomweb/studies", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415


def renamed(k: int, dataset: Any) -> None:
    dataset.SeriesInstanceUID = "1.2.3.777"
    dataset.SOPInstanceUID = f"1.2.3.777.{k + 1}"
