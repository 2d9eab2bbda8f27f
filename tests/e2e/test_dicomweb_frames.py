"""DICOMweb of compressed, multi-frame, tilted and undeclared series: the voxels are those that the reader gives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from conftest import oblique_geometry
from dicom_phantom import phantom_voxels, write_enhanced, write_series
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless
from server_process import ServerProcess, running

from annotate_server.imaging.dicom_composing import decoded_frames
from annotate_server.imaging.dicom_instances import FramesOrder
from annotate_server.testing.phantom_files import write_nifti

GRID = oblique_geometry((5, 48, 40))
VOXELS = phantom_voxels(GRID.shape)
SYNTAXES = {"1.2.10": RLELossless, "1.2.11": JPEGLSLossless, "1.2.12": JPEG2000Lossless}
ENHANCED, TILTED, STUDY = "1.2.3.4.5", "1.2.14", "1.2.3"
PLAIN = {"Accept": 'multipart/related; type="application/octet-stream"'}
AS_STORED = {"Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}
TILT_MM = 2.0


def tilted(k: int, dataset: pydicom.Dataset) -> None:
    """Move each slice along its columns, as a tilted gantry does."""
    axis = np.array([float(x) for x in dataset.ImageOrientationPatient[3:]])
    place = np.array([float(x) for x in dataset.ImagePositionPatient]) + k * TILT_MM * axis
    dataset.ImagePositionPatient = [f"{x:.8f}"[:16] for x in place]
    dataset.GantryDetectorTilt = "10"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("frames")
    studies = folder / "studies"
    for uid, syntax in SYNTAXES.items():
        write_series(studies / uid, GRID, uid=uid, syntax=syntax)
    write_series(studies / "tilted", GRID, uid=TILTED, change=tilted)
    write_enhanced(studies / "enhanced.dcm", GRID, [VOXELS], modality="CT")
    write_nifti(studies / "plain.nii", VOXELS, GRID)
    with running(folder / "workspace", studies) as made:
        yield made.wait_until_ready().wait_for_cases(6)


@pytest.fixture(scope="module")
def web(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def parts(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Return the transfer syntax and the bytes of each part."""
    assert answer.status_code == 200, answer.text
    boundary = answer.headers["content-type"].split("boundary=")[1].encode()
    found = []
    for part in answer.content.split(b"--" + boundary)[1:-1]:
        head, body = part.split(b"\r\n\r\n", 1)
        found.append((head.decode().split("transfer-syntax=")[1].split("\r\n")[0], body[:-2]))
    return found


def values_of(part: tuple[str, bytes], dataset: dict[str, Any], folder: Path) -> NDArray[np.generic]:
    """Return the stored values of a frame, decoded as a viewer would by its transfer syntax."""
    syntax, content = UID(part[0]), part[1]
    rows, columns = (dataset[tag]["Value"][0] for tag in ("00280010", "00280011"))
    if not syntax.is_encapsulated:
        kind = "<i2" if dataset["00280103"]["Value"][0] else "<u2"
        return np.frombuffer(content, kind)[: rows * columns].reshape(rows, columns)
    whole = pydicom.Dataset.from_json({tag: value for tag, value in dataset.items() if tag.startswith("0028")})
    whole.file_meta = pydicom.dataset.FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = syntax
    whole.PixelData = encapsulate([content])
    path = folder / "frame.dcm"
    whole.save_as(path)
    (plane,) = decoded_frames(FramesOrder(path, (0,)))
    return plane


@pytest.mark.parametrize("uid", SYNTAXES)
def test_compressed_frames_come_as_they_are_stored_or_decoded_with_equal_voxels(
    web: httpx.Client, tmp_path: Path, uid: str
) -> None:
    for dataset in web.get(f"/dicomweb/studies/{STUDY}/series/{uid}/metadata").json():
        instance = dataset["00080018"]["Value"][0]
        path = f"/dicomweb/studies/{STUDY}/series/{uid}/instances/{instance}/frames/1"
        (stored,), (decoded,) = (parts(web.get(path, headers=accepted)) for accepted in (AS_STORED, PLAIN))
        assert (stored[0], decoded[0]) == (SYNTAXES[uid], "1.2.840.10008.1.2.1")
        wanted = VOXELS[int(instance.rsplit(".", 1)[1]) - 1]
        np.testing.assert_array_equal(values_of(stored, dataset, tmp_path), wanted)
        np.testing.assert_array_equal(values_of(decoded, dataset, tmp_path), wanted)
    whole = web.get(f"/dicomweb/studies/{STUDY}/series/{uid}", headers={"Accept": "multipart/related"})
    assert {syntax for syntax, _ in parts(whole)} == {"1.2.840.10008.1.2.1"}


def test_frames_of_a_multi_frame_file_come_one_by_one_and_several_at_once(web: httpx.Client, tmp_path: Path) -> None:
    (case,) = (each for each in web.get("/api/v1/cases").json()["cases"] if each["series_uid"] == ENHANCED)
    (dataset,) = web.get(f"/dicomweb/studies/{STUDY}/series/{ENHANCED}/metadata").json()
    assert dataset["00280008"]["Value"] == [GRID.shape[0]]
    assert len(dataset["52009230"]["Value"]) == GRID.shape[0]
    places = web.get(f"/api/v1/cases/{case['id']}").json()["instances"]
    assert [each["k"] for each in places] == list(range(GRID.shape[0]))
    path = f"/dicomweb/studies/{STUDY}/series/{ENHANCED}/instances/{places[0]['sop_instance_uid']}/frames"
    for each in places:
        (part,) = parts(web.get(f"{path}/{each['frame']}", headers=AS_STORED))
        np.testing.assert_array_equal(values_of(part, dataset, tmp_path), VOXELS[each["k"]])
    several = parts(web.get(f"{path}/4,2", headers=PLAIN))
    np.testing.assert_array_equal([values_of(part, dataset, tmp_path) for part in several], VOXELS[[3, 1]])
    assert web.get(f"{path}/{GRID.shape[0] + 1}", headers=PLAIN).status_code == 404
    assert web.get(f"{path}/{GRID.shape[0]}/rendered").headers["content-type"] == "image/jpeg"
    (found,) = web.get(f"/dicomweb/studies/{STUDY}/series/{ENHANCED}/instances").json()
    assert found["00280008"]["Value"] == [GRID.shape[0]]


def test_the_slices_of_a_tilted_series_are_listed_with_how_far_they_lie_from_the_grid(
    web: httpx.Client, server: ServerProcess
) -> None:
    (case,) = (each for each in web.get("/api/v1/cases").json()["cases"] if each["series_uid"] == TILTED)
    with server.client() as client:
        client.open("demo_ct", case["id"]).leave()
        geometry = client.case(case["id"]).geometry
    assert geometry is not None
    assert geometry.shape[1] > GRID.shape[1]
    shown = web.get(f"/api/v1/cases/{case['id']}").json()
    assert any("tilt" in warning for warning in shown["warnings"])
    metadata = web.get(f"/dicomweb/studies/{STUDY}/series/{TILTED}/metadata").json()
    positions = {each["00080018"]["Value"][0]: each["00200032"]["Value"] for each in metadata}
    assert len(shown["instances"]) == GRID.shape[0]
    for each in shown["instances"]:
        j, i = each["shift_ji"]
        place = geometry.world([[each["k"], j, i]])[0]
        np.testing.assert_allclose(place, positions[each["sop_instance_uid"]], atol=1e-3)
    assert len({tuple(each["shift_ji"]) for each in shown["instances"]}) == GRID.shape[0]


def test_a_declared_modality_is_what_a_volume_without_one_is_served_as(web: httpx.Client) -> None:
    (case,) = (each for each in web.get("/api/v1/cases").json()["cases"] if each["format"] == "nifti")
    path = f"/dicomweb/studies/{case['study_uid']}/series/{case['series_uid']}"

    def served() -> set[tuple[str, str]]:
        every = web.get(f"{path}/metadata").json()
        return {(each["00080060"]["Value"][0], each["00080016"]["Value"][0]) for each in every}

    def found(modality: str) -> int:
        query = {"StudyInstanceUID": case["study_uid"], "Modality": modality}
        answer = web.get("/dicomweb/series", params=query)
        return len(answer.json()) if answer.status_code == 200 else 0

    assert served() == {("OT", "1.2.840.10008.5.1.4.1.1.7")}
    tag = web.get(f"{path}/metadata").headers["etag"]
    assert (found("OT"), found("MR")) == (1, 0)
    assert web.put(f"/api/v1/cases/{case['id']}/modality", json={"modality": "MR"}).status_code == 200
    assert served() == {("MR", "1.2.840.10008.5.1.4.1.1.4")}
    assert web.get(f"{path}/metadata", headers={"If-None-Match": tag}).status_code == 200
    assert (found("OT"), found("MR")) == (0, 1)
    studies = web.get("/dicomweb/studies", params={"StudyInstanceUID": case["study_uid"]}).json()
    assert studies[0]["00080061"]["Value"] == ["MR"]


@pytest.mark.real_data
def test_real_twins_in_every_compression_are_equal_through_the_doors(test_data: Path, tmp_path: Path) -> None:
    folder, studies = test_data / "10_transfer_syntax_dicom", tmp_path / "studies"
    twins = [each for each in sorted(folder.iterdir()) if each.name.startswith("d2n_compressed")]
    for number, source in enumerate(twins):
        (studies / source.name).mkdir(parents=True)
        for file in source.iterdir():
            dataset = pydicom.dcmread(file)
            dataset.SeriesInstanceUID = f"1.2.20.{number}"
            dataset.SOPInstanceUID = f"1.2.20.{number}.{int(dataset.InstanceNumber)}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(studies / source.name / file.name)
    with running(tmp_path / "workspace", studies) as server, httpx.Client(base_url=server.url, timeout=60) as web:
        server.wait_for_cases(len(twins))
        study = {each["series_uid"]: each["study_uid"] for each in web.get("/api/v1/cases").json()["cases"]}
        planes: dict[int, dict[int, list[NDArray[np.generic]]]] = {}
        syntaxes = set()
        for number in range(len(twins)):
            series = f"1.2.20.{number}"
            path = f"/dicomweb/studies/{study[series]}/series/{series}"
            for dataset in web.get(f"{path}/metadata").json():
                instance = dataset["00080018"]["Value"][0]
                for accepted in (AS_STORED, PLAIN):
                    (part,) = parts(web.get(f"{path}/instances/{instance}/frames/1", headers=accepted))
                    syntaxes.add(part[0])
                    plane = values_of(part, dataset, tmp_path)
                    planes.setdefault(int(instance.rsplit(".", 1)[1]), {}).setdefault(number, []).append(plane)
    assert len(syntaxes) == 5  # JPEG, JPEG-LS, JPEG 2000, RLE, and none
    for of_instance in planes.values():
        for number, found in of_instance.items():
            for plane in found:
                np.testing.assert_array_equal(plane, of_instance[0][0], err_msg=str(number))
