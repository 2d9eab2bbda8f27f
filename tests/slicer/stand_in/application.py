"""Slicer without its application: the scene, the logics and the modules that the extension finds there."""

import importlib.util
import os
import pathlib
import sys
import tempfile
import types

from PySide6 import QtCore, QtWidgets

from stand_in import effects, scripted
from stand_in.pythonqt import UiLoader, qt, spoken
from stand_in.widgets import CUSTOM, ctkCollapsibleButton, qMRMLWidget


class Modules:
    """`slicer.modules`."""


class Application:
    """`slicer.app`."""

    majorVersion, minorVersion = 5, 12

    def __init__(self, logic):
        self._logic, self.temporaryPath = logic, tempfile.gettempdir()
        self._settings = QtCore.QSettings(f"{tempfile.mkdtemp()}/settings.ini", QtCore.QSettings.Format.IniFormat)
        self._settings.allKeys()
        self.at_start = []

    def applicationLogic(self):
        return self._logic

    def processEvents(self):
        QtWidgets.QApplication.processEvents()

    def connect(self, signal, act):
        if signal.startswith("startupCompleted"):
            self.at_start.append(act)
        return True

    def userSettings(self):
        return Settings(self._settings)

    settings = userSettings

    def layoutManager(self):
        return None

    def translate(self, _context, text):
        return text

    def moduleManager(self):
        return self

    def disconnect(self, *_):
        return True


class Settings:
    """QSettings, which keeps text."""

    def __init__(self, kept):
        self._kept = kept

    def value(self, key, default=None):
        return self._kept.value(key, default)

    def setValue(self, key, value):
        self._kept.setValue(key, value)


def install():
    """Make `slicer`, `qt` and `ctk` what a module expects; return the Qt application."""
    app = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["stand-in"])
    app.setStyle("Fusion")
    QtCore.qInstallMessageHandler(_said)
    sys.modules["qt"] = qt
    import slicer  # noqa: PLC0415  after qt
    import slicer.util  # noqa: PLC0415
    import vtk  # noqa: PLC0415

    errors = vtk.vtkOutputWindow()
    errors.SetDisplayModeToAlwaysStdErr()
    vtk.vtkOutputWindow.SetInstance(errors)
    ctk = types.ModuleType("ctk")
    ctk.ctkCollapsibleButton = ctkCollapsibleButton
    sys.modules.update({"ctk": ctk, **effects.modules()})
    for name, kind in CUSTOM.items():
        setattr(slicer, name, kind)
    slicer.qSlicerSegmentEditorEffectFactory = effects.EffectFactory
    _begin_scene(slicer, vtk)
    _begin_helpers(slicer)
    return app


def _said(_kind, _context, text):
    """Print what Qt says, except that signals of MRML's types are not those of this stand-in."""
    if "vtkMRMLScene*" not in text and "QObject::connect:  (" not in text:
        sys.stderr.write(f"Qt: {text}\n")


def _begin_scene(slicer, vtk):
    slicer.mrmlScene = scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logics = {
        "volumes": slicer.vtkSlicerVolumesLogic(),
        "terminologies": slicer.vtkSlicerTerminologiesModuleLogic(),
        "segmentations": slicer.vtkSlicerSegmentationsModuleLogic(),
        "subjecthierarchy": slicer.vtkSlicerSubjectHierarchyModuleLogic(),
    }
    slicer.modules = Modules()
    vtk.vtkObject.GlobalWarningDisplayOff()  # the files of terminologies are not part of the core
    for name, each in logics.items():
        each.SetMRMLApplicationLogic(logic)
        each.SetMRMLScene(scene)
        logic.SetModuleLogic(each.GetClassName(), each)
        setattr(slicer.modules, name, types.SimpleNamespace(logic=lambda each=each: each))
    vtk.vtkObject.GlobalWarningDisplayOn()
    slicer.app = Application(logic)


def _begin_helpers(slicer):
    real = os.environ.get("SLICER_PYTHON")
    if real:  # a check of the stand-ins: Slicer's own Python, from a checkout of it
        slicer.__path__.append(f"{real}/Base/Python/slicer")
        for module, begins in ((sys.modules["ctk"], "ctk"), (slicer, "qMRML")):
            module.__getattr__ = lambda name, module=module, begins=begins: _inert(module, name, begins)
    else:
        _begin_scripted(slicer)
    _begin_util(slicer)


def _inert(module, name, begins):
    """Return a class for a widget that nothing here uses."""
    if not name.startswith(begins):
        raise AttributeError(name)
    setattr(module, name, type(name, (spoken(QtWidgets.QWidget),), {}))
    return getattr(module, name)


def _begin_scripted(slicer):
    loadable = types.ModuleType("slicer.ScriptedLoadableModule")
    names = [name for name in vars(scripted) if name.startswith("Scripted")]
    for name in names:
        setattr(loadable, name, getattr(scripted, name))
    loadable.__all__ = names
    parameters = types.ModuleType("slicer.parameterNodeWrapper")
    parameters.parameterNodeWrapper = scripted.parameterNodeWrapper
    spoken_words = types.ModuleType("slicer.i18n")
    spoken_words.tr = lambda text: text
    spoken_words.translate = lambda _, text: text
    for module in (loadable, parameters, spoken_words):
        sys.modules[module.__name__] = module
        setattr(slicer, module.__name__.rpartition(".")[2], module)


def _begin_util(slicer):
    slicer.util.settingsValue = lambda key, default, converter=str: converter(default)
    slicer.util.modulePath = lambda name: scripted.paths[name]
    slicer.util.loadUI = lambda path: UiLoader(CUSTOM).read(path)
    slicer.util.childWidgetVariables = _children
    slicer.util.asked = []
    slicer.util.answers = {"confirmYesNoDisplay": True}
    for name in ("confirmYesNoDisplay", "confirmOkCancelDisplay"):
        setattr(slicer.util, name, lambda text, *_, name=name, **__: _answered(slicer, name, text))
    slicer.util.mainWindow = lambda *_: None
    slicer.util.setSliceViewerLayers = lambda **layers: slicer.util.asked.append(("layers", layers))
    slicer.util.resetSliceViews = lambda *_: None


def _answered(slicer, name, text):
    slicer.util.asked.append((name, text))
    return slicer.util.answers.get(name, True)


def _children(root):
    found = types.SimpleNamespace()
    for child in root.findChildren(QtCore.QObject):
        name = QtCore.QObject.objectName(child)
        if name and not name.startswith("qt_"):
            setattr(found, name, child)
    return found


def load_module(path):
    """Do what Slicer does with a scripted module: return its Python module, and its widget in a panel."""
    import slicer  # noqa: PLC0415

    name = path.stem
    scripted.paths[name] = str(path)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    words = {"title": "", "categories": [], "dependencies": [], "contributors": [], "helpText": ""}
    parent = types.SimpleNamespace(path=str(path), acknowledgementText="", hidden=False, icon=None, **words)
    setattr(slicer.modules, name.lower(), types.SimpleNamespace(name=name, path=str(path)))
    made = getattr(module, name)(parent)
    for act in slicer.app.at_start:
        act()
    panel = qMRMLWidget()
    QtWidgets.QWidget.setLayout(panel, QtWidgets.QVBoxLayout())
    panel.__dict__["isEntered"] = True
    widget = getattr(module, f"{name}Widget")(panel)
    widget.setup()
    widget.enter()
    return module, made, widget, panel


def extension_folder():
    """Return the folder of the module."""
    return pathlib.Path(__file__).parents[3] / "viewer_plugin/slicer/AnnotateServer"


__all__ = ["extension_folder", "install", "load_module", "qt", "spoken"]
