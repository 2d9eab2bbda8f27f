"""The journey on a real CT of the abdomen, and a picture of it that was looked at."""

import os
import types
from pathlib import Path

import numpy as np
import pytest
import slicer
from AnnotateServerLib import nrrd, volumes
from AnnotateServerLib.labelmaps import at_once
from AnnotateServerLib.strokes import LASSO, POINT, Stroke

from server import running
from slicer_fixtures import app, begin, draft_on, submitted, wait
from stand_in import application
from stand_in.picture import beside, drawn_slice

LIVER, SPLEEN = 8, 9
PROJECT = {
    "id": "abdomen",
    "title": "Liver and spleen",
    "segments": [
        {"index": LIVER, "name": "Liver", "colour": [221, 130, 101], "kind": ["10200004", "SCT", "Liver"]},
        {"index": SPLEEN, "name": "Spleen", "colour": [157, 108, 162], "kind": ["78961009", "SCT", "Spleen"]},
    ],
    "apps": ["lungs_ct", "any_structure"],
    "modalities": ["CT"],
}
SHAPE = (51, 512, 512)


@pytest.fixture(scope="module")
def site(test_data, tmp_path_factory):
    """Give a server on the real series, and a labelmap of a model that says where its organs are."""
    folder = test_data / "04_liver_ct_dicom_crlm"
    if not folder.is_dir():
        pytest.skip("04_liver_ct_dicom_crlm is not among the test data")
    with running(tmp_path_factory.mktemp("real") / "workspace", folder / "CRLM-CT-1006/dicom", cases=1) as made:
        made.ask("POST", "/api/v1/projects", PROJECT)
        yield made, folder / "CRLM-CT-1006/pseudo_label_obelisk.nii.gz"


def organ_of(path, value, volume):
    """Return where a NIfTI labelmap has a value, on a volume's grid, read and placed by Slicer itself."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "organs")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    mine, theirs = volumes.grid_of(volume), volumes.grid_of(node)
    assert mine.is_same_as(theirs)
    voxels = slicer.util.arrayFromVolume(node)
    first, last = theirs.world([(0, 0, 0)])[0], theirs.world([tuple(n - 1 for n in theirs.shape)])[0]
    begin_at, end_at = np.rint(mine.index([first, last])).astype(int)
    flips = tuple(slice(None, None, -1 if a > b else 1) for a, b in zip(begin_at, end_at, strict=True))
    slicer.mrmlScene.RemoveNode(node)
    return voxels[flips] == value


def around(organ, axis, at, count=40, margin=1.5):
    """Return a lasso around what is there of an organ in a plane across an axis, a little wider."""
    rows, columns = np.nonzero(organ.take(at, axis))
    centre = rows.mean(), columns.mean()
    angles = np.arctan2(rows - centre[0], columns - centre[1])
    away = np.hypot(rows - centre[0], columns - centre[1])
    places = []
    for turn in np.linspace(-np.pi, np.pi, count, endpoint=False):
        near = np.abs((angles - turn + np.pi) % (2 * np.pi) - np.pi) < np.pi / count
        reach = (away[near].max() if near.any() else away.max() / 2) + margin
        place = [centre[0] + reach * np.sin(turn), centre[1] + reach * np.cos(turn)]
        place.insert(axis, at)
        places.append(tuple(float(n) for n in place))
    return places


def middle_of(error):
    """Return the voxel in the middle of the thickest error of the slice that has most of it: where a person clicks."""
    k = int(error.sum(axis=(1, 2)).argmax())
    inside = error[k].copy()
    while True:
        thinner = (
            inside & np.roll(inside, 1, 0) & np.roll(inside, -1, 0) & np.roll(inside, 1, 1) & np.roll(inside, -1, 1)
        )
        if not thinner.any():
            j, i = np.argwhere(inside)[0]
            return k, int(j), int(i)
        inside = thinner


def prompted(work, kind, index, at, is_positive=True):
    work.place.prompt(
        Stroke(kind, tuple(work.ras(each) for each in at), is_positive), work.host_id(index), "any_structure"
    )
    work.settle()


def test_the_journey_on_a_real_ct(site, monkeypatch, tmp_path):
    server, label_path = site
    work = begin(server)
    work.open("abdomen", next(iter(work.place.cases)))
    assert work.sheet.grid.shape == SHAPE
    work.desk.draft("lungs_ct")
    wait(lambda: work.desk.job is not None and work.desk.job.has_ended, seconds=240)
    work.settle()
    assert work.desk.job.state == "succeeded", work.desk.job.problem
    names = {segment.name for segment in work.desk.session.segments}
    assert {"Liver", "Spleen"} < names
    drafted = draft_on(server, work.desk.id)
    assert drafted.any()
    assert "lungs_ct" in "".join(each.name for each in work.place.drafting_models)
    # whatever the model drew as something else is cleared where the person wants the spleen
    spleen = organ_of(label_path, 1, work.place.volume)
    body = [segment.index for segment in work.desk.session.segments if segment.index not in (LIVER, SPLEEN)]
    while work.desk.can_undo:
        work.desk.undo()
        work.settle()
    assert body
    for axis in range(3):  # an axial, a coronal and a sagittal one, where there is most of it
        others = tuple(each for each in range(3) if each != axis)
        prompted(work, LASSO, SPLEEN, around(spleen, axis, int(spleen.sum(axis=others).argmax())))
    for _ in range(5):
        now = work.sheet.copy == SPLEEN
        missing, wrong = spleen & ~now, now & ~spleen
        is_positive = bool(missing.sum() >= wrong.sum())
        prompted(work, POINT, SPLEEN, [middle_of(missing if is_positive else wrong)], is_positive)
    found = work.sheet.copy == SPLEEN
    overlap = 2 * (found & spleen).sum() / (found.sum() + spleen.sum())
    assert overlap > 0.75  # three lassos and five clicks, against another model's spleen
    work.place.lock(work.host_id(SPLEEN), True)
    work.settle()
    k, j, i = (int(n) for n in np.argwhere(found).mean(axis=0))
    work.paint(LIVER, ((k, j - 3, 60), (k + 1, j + 4, 68)))
    work.settle()
    work.paint(LIVER, ((k + 1, j - 3, 60), (k + 2, j + 4, 68)))
    work.settle()
    work.desk.undo()
    work.settle()
    picture(work, server, (k, j, i), tmp_path)
    shown = work.shown()
    np.testing.assert_array_equal(shown, draft_on(server, work.desk.id))  # what the browser shows
    assert (shown == LIVER).sum() == 7 * 8
    np.testing.assert_array_equal(shown == SPLEEN, found)
    submitted_in_world_space(work, server, shown, monkeypatch)


def submitted_in_world_space(work, server, shown, monkeypatch):
    """Submit, and hold the stored label to the node's voxels; on a volume whose slices run backwards, too."""
    volume, case = work.place.volume, work.place.case
    told = server.get(f"/api/v1/cases/{case.id}")
    node = submitted(work, server)
    grid = volumes.grid_of(volume)
    steps = np.array(grid.steps_mm) * [[-1], [1], [1]]
    last = grid.world([(SHAPE[0] - 1, 0, 0)])[0]
    turned = grid._replace(steps_mm=tuple(map(tuple, steps.tolist())), origin_mm=tuple(last.tolist()))
    voxels = slicer.util.arrayFromVolume(volume)[::-1].copy()
    backwards = at_once(volumes.shown_in_steps(nrrd.Plain(voxels, turned), "as Slicer's DICOM reader may have it"))
    for index, name in ((LIVER, "Liver"), (SPLEEN, "Spleen")):
        host = node.GetSegmentation().GetSegmentIdBySegmentName(name)
        for reference, expected in ((volume, shown == index), (backwards, (shown == index)[::-1])):
            there = slicer.util.arrayFromSegmentBinaryLabelmap(node, host, reference)
            np.testing.assert_array_equal(there != 0, expected, err_msg=name)
    # that volume is recognised by its series, and the draft lies on it
    slicer.mrmlScene.RemoveNode(volume)
    backwards.SetAttribute("DICOM.instanceUIDs", told["instances"][0]["sop_instance_uid"])
    database = types.SimpleNamespace(instanceValue=lambda uid, tag: told["series_uid"])
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    again = begin(server)
    again.place.choose("abdomen")
    again.settle()
    again.place.open_volume(backwards, "CT")
    again.settle()
    wait(lambda: again.desk is not None and again.desk.sheet is not None)
    again.settle()
    assert again.consents == [server.url]  # the digest was another one, and the identifier of the series needs consent
    assert again.place.case.id == case.id
    np.testing.assert_array_equal(again.shown(), shown[::-1])
    again.place.leave()
    again.settle()


def picture(work, server, at, folder):
    """Draw the panel beside the slice: the spleen, on the patient's left, has to be on the right of the screen."""
    _, _, widget, panel = application.load_module(application.extension_folder() / "AnnotateServer.py")
    own, widget.logic.workplace.listeners[:] = widget.logic.workplace, []
    widget.panel.place = work.place
    work.place.listeners.append(widget.panel.show)
    widget.ui.addressEdit.text = "http://127.0.0.1:8000"
    widget.panel.show()
    panel.setFixedWidth(430)
    panel.resize(430, 860)
    panel.show()
    app.processEvents()
    ras = work.ras(at)
    pixels, node = drawn_slice(work.place.volume, ras)
    assert node.GetSliceToRAS().GetElement(0, 0) == -1.0
    red, green, blue = (pixels[..., channel].astype(int) for channel in range(3))
    purple = (np.minimum(red, blue) - green) > 14
    assert ras[0] < 0  # the patient's left
    assert np.median(np.nonzero(purple)[1]) > pixels.shape[1] / 2
    beside(panel, pixels, Path(os.environ.get("SLICER_PICTURE", folder / "panel.png")))
    work.place.listeners.remove(widget.panel.show)
    widget.panel.place = own
    widget.cleanup()
