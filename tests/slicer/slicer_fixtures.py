"""Fixtures for tests on Slicer's own classes: the scene, a server, and a workplace between them."""

import gzip
import json
import os
import pathlib
import subprocess
import time

import numpy as np
import pytest

from server import ROOT, program, running, server_environment
from stand_in import application

app = application.install()
MODULE, MADE, _WIDGET, _PANEL = application.load_module(application.extension_folder() / "AnnotateServer.py")

import slicer  # noqa: E402  after the stand-in
from AnnotateServerLib import frame  # noqa: E402
from AnnotateServerLib.workplace import Workplace  # noqa: E402
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

WAIT_S = 120.0


def wait(is_so, why="", seconds=WAIT_S):
    """Let the window work until something is so."""
    until = time.monotonic() + seconds
    while not is_so():
        app.processEvents()
        time.sleep(0.001)
        assert time.monotonic() < until, f"it took too long: {why() if callable(why) else why}"


class Work:
    """A workplace with what tests wait for."""

    def __init__(self, address, name="ann", token=""):
        self.consents = []
        self.place = Workplace(lambda address: self.consents.append(address) or True)
        self.place.connect(address, token, name)

    def settle(self, expects_problem=False):
        """Wait until nothing is under way; what went wrong fails the test unless it is expected."""
        place = self.place

        def is_settled():
            desk = place.desk
            turns = [place._turns, *([desk.turns, desk._watch] if desk is not None else [])]
            return all(each is None or each.is_idle for each in turns) and not (desk and desk._is_waiting)

        wait(is_settled, lambda: f"{place.doing!r}, {place.problem}")
        if not expects_problem:
            assert place.problem is None, place.problem.text
        return self

    @property
    def desk(self):
        return self.place.desk

    @property
    def sheet(self):
        return self.place.desk.sheet

    def open(self, project, name):
        self.settle()
        self.place.choose(project)
        self.settle()
        case = next(each for each in self.place.cases.values() if name in (each.name, each.id))
        self.place.open_case(case.id)
        self.settle()
        wait(lambda: self.place.desk is not None and self.sheet is not None)
        return self.settle()

    def ras(self, index):
        """Return the place in the views of a voxel (k, j, i) of the draft."""
        return tuple((self.sheet.grid.world([index])[0] * (-1, -1, 1)).tolist())

    def host_id(self, index):
        return self.sheet.ids[index]

    def shown(self):
        """Return the draft as the node shows it (k, j, i), by the server's indices, read by Slicer's own way."""
        found = np.zeros(self.sheet.grid.shape, np.uint16)
        reference = self.place.volume
        for index, name in self.sheet.ids.items():
            voxels = slicer.util.arrayFromSegmentBinaryLabelmap(self.sheet.node, name, reference)
            found[voxels != 0] = index
        return found

    def paint(self, index, box, value=1):
        """Draw a block with one of the host's effects, or erase it (value 0), in one stroke."""
        paint(self.sheet.node, self.host_id(index), self.sheet.grid, box, value)


def paint(node, name, grid, box, value=1, editor=None):
    """Do what Slicer's own effects end in: its logic changes a segment, under masking and overwriting."""
    logic = host_logic(node, name, editor)
    brush = logic.GetModifierLabelmap()
    i0, _, j0, _, k0, _ = brush.GetExtent()
    k, j, i = brush.GetDimensions()[::-1]
    voxels = vtk_to_numpy(brush.GetPointData().GetScalars()).reshape(k, j, i)
    voxels[tuple(slice(a - s, b - s) for a, b, s in zip(*box, (k0, j0, i0), strict=True))] = 1
    brush.Modified()
    mode = logic.ModificationModeAdd if value else logic.ModificationModeRemove
    logic.ModifySegmentByLabelmap(node, name, brush, mode, True, False)


def host_logic(node, name, editor=None):
    """Return a Segment Editor's logic with an empty brush, at work on a segment."""
    if editor is None:
        editor = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentEditorNode")
    if editor is None:
        editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    logic = slicer.vtkSlicerSegmentEditorLogic()
    logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.SetSegmentEditorNode(editor)
    logic.SetSegmentationNode(node)
    if editor.GetSourceVolumeNode() is None:
        logic.SetSourceVolumeNode(slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode"))
    logic.SetCurrentSegmentID(name)
    logic.UpdateReferenceGeometryImage()
    logic.ResetModifierLabelmapToDefault()
    logic.UpdateAlignedSourceVolume()
    return logic


def draft_on(server, session, name="ann"):
    """Return the draft of a session as another window gets it."""
    body = server.ask("GET", f"/api/v1/sessions/{session}/labelmap", name=name)
    return frame.decoded(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).voxels


def submitted(work, server):
    """Submit, and return the segmentation node that Slicer reads from the stored label's file."""
    label = []
    work.desk.submit(label.append)
    wait(lambda: label)
    path = server.workspace.parent / "label.seg.nrrd"
    path.write_bytes(server.ask("GET", f"/api/v1/labels/{label[0].id}/file?format=nrrd"))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "label")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return node


def write_samples(folder):
    """Write the volumes of the tests, in the server's environment: chests, and oblique MRs."""
    code = "import sys, pathlib; sys.path[1:1] = sys.argv[2:]; import samples; samples.write(pathlib.Path(sys.argv[1]))"
    command = [program(), "-c", code, str(folder), str(ROOT / "tests"), str(ROOT / "tests/slicer")]
    subprocess.run(command, check=True, env=server_environment())
    return json.loads((folder / "samples.json").read_text())


@pytest.fixture(autouse=True)
def scene():
    """Give an empty scene, and end what a test left under way."""
    slicer.mrmlScene.Clear(0)
    yield slicer.mrmlScene
    for work in _works:
        work.place.close()
    _works.clear()
    app.processEvents()
    slicer.mrmlScene.Clear(0)


_works: list = []


@pytest.fixture(scope="session")
def test_data():
    """Return the folder of real volumes; skip with the reason where it is not there."""
    folder = pathlib.Path(os.environ.get("ANNOTATE_TEST_DATA", ROOT / ".." / "shared" / "data"))
    if not (folder / "INDEX.md").is_file():
        pytest.skip(f"{os.environ.get('ANNOTATE_TEST_DATA', '../shared/data')} is not here")
    return folder.resolve()


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slicer")
    told = write_samples(folder)
    return folder, told


@pytest.fixture(scope="module")
def server(samples, tmp_path_factory):
    folder, told = samples
    with running(tmp_path_factory.mktemp("site") / "workspace", folder / "studies", cases=told["cases"]) as made:
        made.ask("POST", "/api/v1/projects", told["project"])
        yield made


@pytest.fixture
def work(server):
    return begin(server)


def begin(server, name="ann"):
    made = Work(server.url, name)
    _works.append(made)
    return made.settle()
