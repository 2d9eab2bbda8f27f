"""Slicer's own Python helpers that its core on PyPI does not hold: scripted modules and their parameter nodes."""

import pathlib
import typing
import unittest

import slicer
import vtk
from PySide6 import QtWidgets

paths: dict = {}


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent, self.moduleName = parent, type(self).__name__

    def resourcePath(self, name):
        return str(pathlib.Path(self.parent.path).parent / "Resources" / name)

    def getDefaultModuleDocumentationLink(self):
        return ""


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent, self.layout = parent, parent.layout()

    def resourcePath(self, name):
        return str(pathlib.Path(paths[self.moduleName]).parent / "Resources" / name)

    def setup(self):
        pass

    def cleanup(self):
        pass


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, *_):
        slicer.app.processEvents()

    def runTest(self):
        pass


def parameterNodeWrapper(kind):
    """Give a class properties that are kept in a parameter node: text and booleans, two-way to widgets."""
    members = typing.get_type_hints(kind)

    def begin(self, node):
        self.parameterNode = node

    kind.__init__ = begin
    for name, of in members.items():
        default = getattr(kind, name, of())
        setattr(kind, name, property(_reading(name, of, default), _writing(name)))
    kind.connectGui = lambda self, panel: _connected(self, panel, members)
    kind.disconnectGui = lambda self, tag: tag.clear()
    return kind


def _reading(name, of, default):
    def read(self):
        text = self.parameterNode.GetParameter(name)
        if not self.parameterNode.HasParameter(name) if hasattr(self.parameterNode, "HasParameter") else not text:
            return default
        return text == "True" if of is bool else of(text)

    return read


def _writing(name):
    return lambda self, value: self.parameterNode.SetParameter(name, str(value))


def _connected(wrapper, panel, members):
    bound = []
    for widget in vars(panel).values():
        name = widget.property("SlicerParameterName")
        if name:
            if name not in members:
                raise ValueError(f"the panel names the parameter {name}, which is not there")
            bound.append((name, widget))
    for name, widget in bound:
        _show(widget, getattr(wrapper, name))
        changed = widget.toggled if hasattr(widget, "toggled") else widget.textChanged
        changed.connect(lambda value, name=name: bound and setattr(wrapper, name, value))

    def shown(*_):
        for name, widget in bound:
            _show(widget, getattr(wrapper, name))

    wrapper.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, shown)
    return bound


def _show(widget, value):
    if isinstance(widget, QtWidgets.QLineEdit):
        if QtWidgets.QLineEdit.text(widget) != value:
            QtWidgets.QLineEdit.setText(widget, value)
    else:
        widget.setChecked(bool(value))
