"""The widgets of Slicer and CTK that the panel uses, as far as it uses them."""

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from stand_in.pythonqt import spoken

Signal = QtCore.Signal
Widget, Combo = spoken(QtWidgets.QWidget), spoken(QtWidgets.QComboBox)


def _own(name, kind, begin):
    """Return a property that is kept on the Python side."""

    def read(self):
        return self.__dict__.get(f"_{name}", begin)

    def write(self, value):
        self.__dict__[f"_{name}"] = value

    return QtCore.Property(kind, read, write)


class ctkCollapsibleButton(Widget):
    contentsCollapsed = Signal(bool)
    text = _own("text", str, "")
    checked = _own("checked", bool, True)

    def __init__(self, *_):
        super().__init__()

    def _collapse(self, collapsed):
        self.__dict__["_collapsed"] = bool(collapsed)
        for child in self.findChildren(QtWidgets.QWidget):
            child.setVisible(not collapsed)
        QtWidgets.QWidget.setMaximumHeight(self, 24 if collapsed else 16777215)
        self.contentsCollapsed.emit(bool(collapsed))

    collapsed = QtCore.Property(bool, lambda self: self.__dict__.get("_collapsed", False), _collapse)

    def paintEvent(self, event):
        painter = QtGui.QPainter(self)
        width, height = QtWidgets.QWidget.width(self), QtWidgets.QWidget.height(self)
        painter.fillRect(0, 0, width, 22, QtGui.QColor(225, 225, 225))
        painter.setPen(QtGui.QColor(150, 150, 150))
        painter.drawRect(0, 0, width - 1, height - 1)
        painter.setPen(QtGui.QColor(20, 20, 20))
        painter.drawText(20, 16, self.__dict__.get("_text", ""))
        painter.drawText(6, 16, "+" if self.__dict__.get("_collapsed", False) else "-")
        painter.end()


class qMRMLWidget(Widget):
    mrmlSceneChanged = Signal(object)

    def __init__(self, *_):
        super().__init__()

    def setMRMLScene(self, scene):
        for child in self.findChildren(QtWidgets.QWidget):
            if hasattr(child, "setMRMLScene"):
                child.setMRMLScene(scene)
        self.mrmlSceneChanged.emit(scene)


class qMRMLNodeComboBox(Combo):
    currentNodeChanged = Signal(object)
    nodeTypes = _own("types", "QStringList", [])
    noneEnabled = _own("none", bool, False)
    addEnabled = _own("add", bool, True)
    removeEnabled = _own("remove", bool, True)
    renameEnabled = _own("rename", bool, False)
    showChildNodeTypes = _own("children", bool, True)

    def __init__(self, *_):
        super().__init__()
        self._scene, self._ids = None, []
        self.currentIndexChanged.connect(lambda _: self.currentNodeChanged.emit(self.currentNode()))

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        self._scene = scene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent):
            scene.AddObserver(event, lambda *_: self._list())
        self._list()

    def currentNode(self):
        at = QtWidgets.QComboBox.currentIndex(self)
        return self._scene.GetNodeByID(self._ids[at]) if 0 <= at < len(self._ids) and self._ids[at] else None

    def setCurrentNode(self, node):
        self._list()
        name = node.GetID() if node is not None else ""
        if name in self._ids:
            QtWidgets.QComboBox.setCurrentIndex(self, self._ids.index(name))

    def _list(self):
        was = self.currentNode()
        types = self.__dict__.get("_types", [])
        nodes = [
            n for each in types for n in slicer.util.getNodesByClass(each, self._scene) if n.GetClassName() == each
        ]
        blocked = QtWidgets.QComboBox.blockSignals(self, True)
        QtWidgets.QComboBox.clear(self)
        self._ids = [node.GetID() for node in nodes] or [""]
        for node in nodes:
            QtWidgets.QComboBox.addItem(self, node.GetName())
        if was is not None and was.GetID() in self._ids:
            QtWidgets.QComboBox.setCurrentIndex(self, self._ids.index(was.GetID()))
        QtWidgets.QComboBox.blockSignals(self, blocked)
        if self.currentNode() is not was:
            self.currentNodeChanged.emit(self.currentNode())


class qMRMLSegmentEditorWidget(Widget):
    """Lists the segments of the observed segmentation, and selects one; effects are those that were registered."""

    def __init__(self, *_):
        super().__init__()
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._list, self._editor, self._effect, self._watched = QtWidgets.QListWidget(), None, None, None
        self._list.setMaximumHeight(120)
        layout.addWidget(self._list)
        self._options = QtWidgets.QVBoxLayout()
        layout.addLayout(self._options)
        self._list.currentItemChanged.connect(lambda item, _: self._choose(item))
        self.calls = []

    def setMRMLScene(self, scene):
        pass

    def setMRMLSegmentEditorNode(self, editor):
        self._editor = editor

    def mrmlSegmentEditorNode(self):
        return self._editor

    def setSegmentationNode(self, node):
        if node is self.segmentationNode():
            return
        self._editor.SetAndObserveSegmentationNode(node)
        if self._watched is not None:
            self._watched[0].RemoveObserver(self._watched[1])
            self._watched = None
        if node is not None:
            self._watched = (node, node.AddObserver(vtk.vtkCommand.AnyEvent, lambda *_: self._show()))
        self._show()

    def setSourceVolumeNode(self, volume):
        self._editor.SetAndObserveSourceVolumeNode(volume)

    def segmentationNode(self):
        return self._editor.GetSegmentationNode() if self._editor is not None else None

    def sourceVolumeNode(self):
        return self._editor.GetSourceVolumeNode()

    def setCurrentSegmentID(self, name):
        self._editor.SetSelectedSegmentID(name)

    def currentSegmentID(self):
        return self._editor.GetSelectedSegmentID() or ""

    undoEnabled = _own("undo", bool, True)

    def removeViewObservations(self):
        self.calls.append("removeViewObservations")

    def setActiveEffect(self, effect):
        assert effect is None
        self.setActiveEffectByName("")

    def setActiveEffectByName(self, name):
        kind = slicer.qSlicerSegmentEditorEffectFactory.instance().registered.get(name)
        if self._effect is not None:
            self._effect.self().deactivate()
        self._effect = None
        if kind is not None:
            self._effect = kind.self().clone()
            self._effect.begin(self._editor, self._options)

    def activeEffect(self):
        return self._effect

    def _choose(self, item):
        if item is not None and self._editor is not None:
            self._editor.SetSelectedSegmentID(item.data(256))

    def _show(self):
        node = self.segmentationNode()
        chosen = self.currentSegmentID() if self._editor is not None else ""
        blocked = self._list.blockSignals(True)
        self._list.clear()
        segmentation = node.GetSegmentation() if node is not None else None
        for at in range(segmentation.GetNumberOfSegments() if segmentation is not None else 0):
            segment = segmentation.GetNthSegment(at)
            square = QtGui.QPixmap(14, 14)
            square.fill(QtGui.QColor.fromRgbF(*segment.GetColor()))
            item = QtWidgets.QListWidgetItem(QtGui.QIcon(square), segment.GetName())
            item.setData(256, segmentation.GetNthSegmentID(at))
            self._list.addItem(item)
            if segmentation.GetNthSegmentID(at) == chosen:
                self._list.setCurrentItem(item)
        self._list.blockSignals(blocked)


CUSTOM = {
    each.__name__: each for each in (ctkCollapsibleButton, qMRMLWidget, qMRMLNodeComboBox, qMRMLSegmentEditorWidget)
}
