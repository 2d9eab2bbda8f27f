"""The loaded volume: recognised by its voxels, uploaded once and with consent, and told apart from its neighbours."""

import types

import numpy as np
import pytest
import slicer
from AnnotateServerLib import nrrd, volumes
from AnnotateServerLib.labelmaps import at_once

from slicer_fixtures import begin, draft_on, wait
from slicer_parts import GRID, SHAPE


def shown(plain, name):
    return at_once(volumes.shown_in_steps(plain, name))


def loaded(seed=0, name="loaded"):
    voxels = np.random.default_rng(seed).integers(-500, 900, SHAPE).astype(np.int16)
    return shown(nrrd.Plain(voxels, GRID), name)


def opened(work, volume):
    work.place.choose("desktop")
    work.settle()
    work.place.open_volume(volume, "CT")
    work.settle()
    wait(lambda: work.desk is not None and work.desk.sheet is not None, lambda: work.place.problem)
    return work.settle()


def test_a_volume_that_the_server_lacks_is_uploaded_once_and_recognised_from_then_on(server):
    work, volume = begin(server), loaded(1)
    cases = server.get("/api/v1/cases?limit=1")["total"]
    opened(work, volume)
    assert work.consents == [server.url]
    assert work.place.volume is volume
    assert work.place.case.modality == "CT"
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1
    work.paint(1, ((1, 2, 3), (4, 6, 8)))
    work.settle()
    kept = draft_on(server, work.desk.id)
    assert kept.shape == SHAPE
    assert (kept == 1).sum() == 3 * 4 * 5
    work.place.leave()
    work.settle()
    # the same voxels, loaded another time from somewhere else, without a note on the node
    again = begin(server)
    opened(again, loaded(1, "the same by another name"))
    assert again.consents == []
    assert server.get("/api/v1/cases?limit=1")["total"] == cases + 1
    np.testing.assert_array_equal(again.shown(), kept)
    again.place.leave()
    again.settle()


def test_nothing_is_sent_without_consent(server):
    work = begin(server)
    cases = server.get("/api/v1/cases?limit=1")["total"]
    work.place._shelf._consents = lambda address: False
    work.place.open_volume(loaded(2), "CT")
    work.settle(expects_problem=True)
    assert "consent" in work.place.problem.text
    assert server.get("/api/v1/cases?limit=1")["total"] == cases
    assert work.desk is None


def test_of_two_volumes_in_the_scene_the_chosen_one_is_opened(server):
    work, first, second = begin(server), loaded(3, "first"), loaded(4, "second")
    opened(work, second)
    assert work.place.volume is second
    assert volumes.remembered(first, server.url) is None
    assert volumes.remembered(second, server.url) == work.place.case.id
    work.place.leave()
    work.settle()


def test_an_edited_geometry_is_another_volume_and_is_not_taken_for_the_case(server):
    work, volume = begin(server), loaded(5)
    opened(work, volume)
    volume.SetOrigin(1.0, 2.0, 3.0)
    assert volumes.remembered(volume, server.url) is None
    work.place.leave()
    work.settle()


def test_a_volume_of_a_dicom_series_is_found_by_the_series(server, monkeypatch):
    case = next(each for each in server.get("/api/v1/cases")["cases"] if each["name"] == "oblique0.nii")
    work, volume = begin(server), loaded(6)
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3.4.5 1.2.3.4.6")
    database = types.SimpleNamespace(instanceValue=lambda uid, tag: "1.2.3.4" if tag == "0020,000e" else "")
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    assert volumes.series_of(volume) == "1.2.3.4"
    opened(work, volume)  # the server knows no such series: the voxels decide
    assert work.place.case.id != case["id"]
    work.place.leave()
    work.settle()


def test_colours_are_no_intensities(work):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colours")
    slicer.util.updateVolumeFromArray(node, np.zeros((*SHAPE, 3), np.uint8))
    work.place.open_volume(node, "CT")
    work.settle(expects_problem=True)
    assert "several numbers" in work.place.problem.text


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_other_types_of_numbers_are_recognised_too(server, dtype):
    voxels = np.random.default_rng(7).integers(0, 250, SHAPE).astype(dtype)
    work = begin(server)
    opened(work, shown(nrrd.Plain(voxels, GRID), f"loaded {dtype}"))
    work.place.leave()
    work.settle()
    again = begin(server)
    opened(again, shown(nrrd.Plain(voxels, GRID), f"again {dtype}"))
    assert again.consents == []
    again.place.leave()
    again.settle()
