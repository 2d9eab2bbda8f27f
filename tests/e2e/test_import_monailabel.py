"""From a MONAI Label server's folder to this server: real volumes, then the old folder is deleted and work goes on."""

import json
import shutil
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest
from conftest import oblique_geometry
from foreign_store import ForeignStore, named
from server_process import running
from typer.testing import CliRunner

from annotate_server.cli.main import command_line
from annotate_server.imaging.labelmap_files import LabelmapFormat

NAMES = ("Anterior", "Posterior")


def command(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(command_line(("import", "workspace")), list(map(str, words)))
    return result.exit_code, result.stdout


@pytest.mark.real_data
@pytest.mark.slow
def test_work_goes_on_where_the_other_server_left_it(test_data: Path, tmp_path: Path) -> None:
    pool = test_data / "01_hippocampus_msd/dev_pool"
    sources = sorted((pool / "images").glob("*.nii.gz"))[:3]
    store = ForeignStore(tmp_path / "studies", oblique_geometry((3, 4, 5)))
    truths = {}
    for number, source in enumerate(sources):
        name = source.name.removesuffix(".nii.gz")
        shutil.copyfile(source, store.volume(name, number))
        truth = pool / "labels" / source.name
        truths[name] = np.asarray(nib.nifti1.load(truth).dataobj)
        info = {"client_id": "ann", "label_info": named(*NAMES, start=2)}
        if number:
            store.label(name, "final", truth.read_bytes(), info)
        store.label(name, "original", truth.read_bytes(), {"model": "unet", "params": {"label_names": list(NAMES)}})
    store.write_index()
    workspace = tmp_path / "workspace"
    code, text = command("import", "monailabel", store.folder, "--workspace", workspace, "--modality", "MR", "--json")
    assert code == 0
    cases = {item["name"]: item["case"] for item in json.loads(text)["items"] if item["kind"] == "volume"}
    shutil.rmtree(store.folder)
    with running(workspace) as server:
        server.wait_until_ready()
        with server.client("bo") as client:
            worklist = {item.case: item.status for item in client.worklist("monailabel")}
            assert sorted(worklist.values()) == ["approved", "approved", "open"]
            for name, case in list(cases.items())[1:]:
                (label,) = client.labels("monailabel", case)
                assert (label.author, [s.name for s in label.layers[0]]) == ("ann", list(NAMES))
                out = tmp_path / f"{name}.nii.gz"
                client.download_label(label.id, LabelmapFormat.NIFTI, out)
                np.testing.assert_array_equal(np.asarray(nib.nifti1.load(out).dataobj), truths[name])
            with client.open("monailabel", case) as session:
                assert np.count_nonzero(session.draft) == np.count_nonzero(truths[name])
                assert session.submit().parent == label.id
        listing = httpx.get(f"{server.url}/datastore/?output=all").json()["objects"]
        tags = {name: sorted(listing[case]["labels"]) for name, case in cases.items()}
        assert list(tags.values()) == [
            ["original"],
            ["final", "original", "version_1"],
            ["final", "original", "version_1", "version_2"],
        ]
    assert command("workspace", "check", "--workspace", workspace)[0] == 0
