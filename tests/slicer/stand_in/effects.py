"""The Segment Editor's side of a scripted effect, and a slice view that a hand can draw in."""

import importlib.util
import types

import slicer


class AbstractScriptedSegmentEditorEffect:
    """Slicer's base class of scripted effects, as far as ours uses it."""

    def __init__(self, scriptedEffect):
        self.scriptedEffect = scriptedEffect

    def register(self):
        slicer.qSlicerSegmentEditorEffectFactory.instance().registered[self.scriptedEffect.name] = self.scriptedEffect


class EffectFactory:
    _one = None

    def __init__(self):
        self.registered = {}

    @classmethod
    def instance(cls):
        cls._one = cls._one or cls()
        return cls._one


class qSlicerSegmentEditorScriptedEffect:
    """The C++ object that an effect in Python stands behind."""

    def __init__(self, _parent=None):
        self.name, self.title, self.perSegment, self.requireSegments = "", "", True, True
        self.showEffectCursorInSliceView = True
        self._python, self._editor, self._layout, self.actors = None, None, None, []

    def setPythonSource(self, path):
        spec = importlib.util.spec_from_file_location(f"effect_{id(self)}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._python = module.SegmentEditorEffect(self)

    def self(self):
        return self._python

    def begin(self, editor, layout):
        self._editor, self._layout = editor, layout
        self._python.setMRMLDefaults()
        self._python.setupOptionsFrame()
        self._python.activate()
        self._python.updateGUIFromMRML()

    def parameterSetNode(self):
        return self._editor

    def _key(self, name):
        return f"{self.name}.{name}"

    def setParameterDefault(self, name, value):
        if self._editor.GetAttribute(self._key(name)) is None:
            self._editor.SetAttribute(self._key(name), str(value))

    def parameter(self, name):
        return self._editor.GetAttribute(self._key(name)) or ""

    def integerParameter(self, name):
        return int(self.parameter(name))

    def setParameter(self, name, value):
        self._editor.SetAttribute(self._key(name), str(value))
        self._python.updateGUIFromMRML()

    def addOptionsWidget(self, widget):
        if hasattr(widget, "addWidget"):
            self._layout.addLayout(widget)
        else:
            self._layout.addWidget(widget)

    def addLabeledOptionsWidget(self, _label, widget):
        self.addOptionsWidget(widget)

    def renderer(self, view):
        return view.renderer

    def addActor2D(self, view, actor):
        self.actors.append((view, actor))
        view.renderer.AddViewProp(actor)

    def removeActor2D(self, view, actor):
        self.actors.remove((view, actor))
        view.renderer.RemoveViewProp(actor)


def modules():
    """Return the modules that Slicer's Python finds effects in."""
    abstract = types.ModuleType("SegmentEditorEffects")
    abstract.AbstractScriptedSegmentEditorEffect = AbstractScriptedSegmentEditorEffect
    abstract.__all__ = ["AbstractScriptedSegmentEditorEffect"]
    wrapped = types.ModuleType("qSlicerSegmentationsEditorEffectsPythonQt")
    wrapped.qSlicerSegmentEditorScriptedEffect = qSlicerSegmentEditorScriptedEffect
    return {each.__name__: each for each in (abstract, wrapped)}


class Interactor:
    """What tells an effect where the pointer is."""

    def __init__(self):
        self.at, self.shift, self.control = (0, 0), 0, 0

    def GetEventPosition(self):
        return self.at

    def GetShiftKey(self):
        return self.shift

    def GetControlKey(self):
        return self.control


class SliceView:
    """A qMRMLSliceWidget with a real slice node."""

    def __init__(self, name, orientation, size=(400, 400)):
        import vtk  # noqa: PLC0415

        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene, True)
        self.node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        self.node.SetLayoutName(name)
        self.node.SetOrientation(orientation)
        self.node.SetDimensions(*size, 1)
        self.renderer, self.renders, self.interactor = vtk.vtkRenderer(), 0, Interactor()

    def className(self):
        return "qMRMLSliceWidget"

    def mrmlSliceNode(self):
        return self.node

    def sliceView(self):
        return self

    def scheduleRender(self):
        self.renders += 1

    def look_at(self, ras, field_mm=300.0):
        width, height, _ = self.node.GetDimensions()
        self.node.SetFieldOfView(field_mm, field_mm * height / width, 1.0)
        self.node.JumpSliceByCentering(*ras)
        self.node.UpdateMatrices()

    def xy(self, ras):
        import vtk  # noqa: PLC0415

        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), inverse)
        x, y, _, _ = inverse.MultiplyPoint((*ras, 1.0))
        return round(x), round(y)

    def stroke(self, effect, places, *, button="Left", shift=0):
        """Draw with the pressed button through places (RAS)."""
        import vtk  # noqa: PLC0415

        command, self.interactor.shift = vtk.vtkCommand, shift
        events = [getattr(command, f"{button}ButtonPressEvent")]
        events += [command.MouseMoveEvent] * (len(places) - 1)
        for event, place in zip(events, places, strict=True):
            self.interactor.at = self.xy(place)
            effect.self().processInteractionEvents(self.interactor, event, self)
        release = getattr(command, f"{button}ButtonReleaseEvent")
        return effect.self().processInteractionEvents(self.interactor, release, self)
