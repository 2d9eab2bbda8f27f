"""AnnotateServer: drafts of an annotate server, corrected in 3D Slicer."""

import os
import pathlib

import qt
import slicer
from AnnotateServerLib import current
from AnnotateServerLib.panel import Panel
from AnnotateServerLib.workplace import Workplace
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

_SETTINGS = "AnnotateServer"
EDITOR_TAG = "AnnotateServer"


class AnnotateServer(ScriptedLoadableModule):
    """The module, as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Annotate Server")
        self.parent.categories = ["Segmentation"]
        self.parent.dependencies = ["Segmentations", "SegmentEditor"]
        self.parent.contributors = ["annotate-server contributors"]
        self.parent.helpText = _(
            "Models on an annotate server draft the segmentation of a volume; you correct it here by prompts and with "
            "the Segment Editor, and submit it. What you begin here can be continued in the browser, and back."
        )
        self.parent.acknowledgementText = _("Part of annotate-server (Apache License 2.0). Not a medical device.")
        slicer.app.connect("startupCompleted()", self.registerEffect)

    def registerEffect(self):
        """Make the effect known to the Segment Editor."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects  # noqa: PLC0415

        effect = effects.qSlicerSegmentEditorScriptedEffect(None)
        path = pathlib.Path(__file__).parent / "AnnotateServerLib" / "SegmentEditorEffect.py"
        effect.setPythonSource(path.as_posix())
        effect.self().register()


@parameterNodeWrapper
class AnnotateServerParameterNode:
    """What the scene keeps of the panel. The token is not among it: a scene is given to others."""

    address: str = "http://127.0.0.1:8000"
    person: str = ""
    comment: str = ""


class AnnotateServerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = None
        self._parameterNode = self._parameterNodeGuiTag = None

    def setup(self):
        """Make the panel; called when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/AnnotateServer.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = AnnotateServerLogic()
        self.panel = Panel(self.ui, self.logic.workplace, self._editorNode, slicer.app.userSettings())
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.initializeParameterNode()
        self.panel.begin()

    def cleanup(self):
        """End: the module is unloaded, or Slicer is."""
        self.removeObservers()
        self.setParameterNode(None)
        if self.panel is not None:
            self.panel.end()
        if self.logic is not None:
            self.logic.close()

    def enter(self):
        """Be shown."""
        self.initializeParameterNode()
        self.panel.enter()

    def exit(self):
        """Be hidden: the draft stays open, and drawing in the Segment Editor is still sent."""
        self.setParameterNode(None)
        self.panel.leave()

    def onSceneStartClose(self, _caller, _event):
        """Let go of nodes that are about to go."""
        self.setParameterNode(None)
        self.panel.let_go()

    def onSceneEndClose(self, _caller, _event):
        """Begin anew in the empty scene."""
        self.initializeParameterNode()
        self.panel.show()

    def initializeParameterNode(self):
        """Have a parameter node, and show it."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        """Bind the panel to a parameter node, or to none."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
        self._parameterNode = parameterNode
        if self._parameterNode is not None:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)

    def _editorNode(self):
        """Return the Segment Editor's node of this module; made where it is not there."""
        node = slicer.mrmlScene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(EDITOR_TAG)
            node = slicer.mrmlScene.AddNode(node)
        return node


class AnnotateServerLogic(ScriptedLoadableModuleLogic):
    """Everything without widgets: `workplace` does the work, and can be used from scripts."""

    def __init__(self, consents=None):
        ScriptedLoadableModuleLogic.__init__(self)
        self.workplace = Workplace(consents or asked_consent)
        current.make_current(self.workplace)

    def getParameterNode(self):
        """Return what the scene keeps of the panel."""
        return AnnotateServerParameterNode(ScriptedLoadableModuleLogic.getParameterNode(self))

    def close(self):
        """End what is under way; the session stays on the server."""
        self.workplace.close()
        if current.current() is self.workplace:
            current.make_current(None)


def asked_consent(address):
    """Ask whether volumes may be sent to a server, once for each server."""
    settings, key = slicer.app.userSettings(), f"{_SETTINGS}/consent/{address.replace('/', '_')}"
    if str(settings.value(key, "")) == "yes":
        return True
    text = _(
        "The server at {address} does not know the voxels of this volume. The identifier of its DICOM series will be "
        "sent there, and where that is not known either, its voxels and geometry; no names, no other attributes. "
        "Send this of volumes to this server?"
    ).format(address=address)
    if not slicer.util.confirmYesNoDisplay(text):
        return False
    settings.setValue(key, "yes")
    return True


class AnnotateServerTest(ScriptedLoadableModuleTest):
    """A self-test for the real application: Reload and Test, or the Self Tests module.

    It works against the server at ANNOTATE_SERVER (http://127.0.0.1:8000 where that is not set), which `annotate demo`
    starts, and says what a person should see.
    """

    def setUp(self):
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run every test."""
        self.setUp()
        self.test_journey()

    def test_journey(self):
        """Open a case, draft it, prompt, edit as the host does, undo all of it, and leave."""
        import numpy as np  # noqa: PLC0415
        from AnnotateServerLib.strokes import POINT, Stroke  # noqa: PLC0415

        logic = AnnotateServerLogic(consents=lambda _: True)
        place = logic.workplace
        try:
            place.connect(os.environ.get("ANNOTATE_SERVER", "http://127.0.0.1:8000"), name="self-test")
            self._wait(lambda: place.is_connected, place)
            self.delayDisplay(f"Connected to version {place.server.version}")
            place.choose(next(each.id for each in place.projects if each.apps and each.segments))
            self._wait(lambda: place.items, place)
            place.open_case(next(item.case for item in place.items if item.status != "put-aside"))
            self._wait(lambda: place.desk is not None and place.desk.sheet is not None, place)
            self._wait(lambda: place.desk.turns.is_idle, place)
            desk, begun = place.desk, place.desk.sheet.copy.copy()
            self.delayDisplay("The case and its draft are shown; left is left")
            index, name = next(iter(desk.sheet.ids.items()))
            middle = [length // 2 for length in desk.sheet.grid.shape]
            ras = desk.sheet.grid.world([middle])[0] * (-1, -1, 1)
            place.prompt(Stroke(POINT, (tuple(ras),), True), name, place.prompted_models[0].name)
            self._wait(lambda: desk.turns.is_idle, place)
            self.delayDisplay("A point was answered")
            reference, node = place.volume, desk.sheet.node
            array = slicer.util.arrayFromSegmentBinaryLabelmap(node, name, reference)
            array[middle[0], middle[1] : middle[1] + 3, middle[2]] = 1
            slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, name, reference)
            self._wait(lambda: desk.turns.is_idle and not desk.has_unsent, place)
            self.assertTrue((desk.sheet.copy[middle[0], middle[1], middle[2]] == index) or desk.problem is not None)
            while desk.can_undo:
                desk.undo()
                self._wait(lambda: desk.turns.is_idle, place)
            np.testing.assert_array_equal(desk.sheet.copy, begun)
            self.delayDisplay("Everything was undone")
            place.leave()
            self._wait(lambda: place.desk is None, place)
        finally:
            logic.close()
        self.delayDisplay("Test passed")

    def _wait(self, is_so, place, seconds=120):
        """Let the window work until something is so."""
        clock = qt.QElapsedTimer()
        clock.start()
        while not is_so():
            slicer.app.processEvents()
            if place.problem is not None:
                raise AssertionError(place.problem.text)
            if clock.elapsed() > 1000 * seconds:
                raise AssertionError(f"it took longer than {seconds} s; the panel says: {place.doing}")
