"""The module `qt`: PySide6 as PythonQt speaks it. Properties are attributes, signals are connected by their text."""

import inspect
import os
import types

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets

_AS_THEY_ARE = {"QObject", "QCoreApplication", "QGuiApplication", "QApplication", "QNetworkReply", "Qt"}
_properties: dict = {}
_spoken: dict = {}


def _properties_of(kind):
    if kind not in _properties:
        meta = kind.staticMetaObject
        _properties[kind] = {meta.property(at).name() for at in range(meta.propertyCount())} - {"layout"}
    return _properties[kind]


class Dialect:
    """Mixed into every QObject: what PythonQt does otherwise than PySide6."""

    def __getattribute__(self, name):
        if name in ("connect", "disconnect"):  # the wrapper puts its own before those of a class in Python
            return getattr(Dialect, f"_{name}").__get__(self)
        if not name.startswith("_"):
            name = "objectName" if name == "name" else name
            if name in _properties_of(type(self)):
                return QtCore.QObject.property(self, name)
        return super().__getattribute__(name)

    def __setattr__(self, name, value):
        name = "objectName" if name == "name" else name
        if not name.startswith("_") and name in _properties_of(type(self)):
            if not QtCore.QObject.setProperty(self, name, value):
                raise TypeError(f"{type(self).__name__}.{name} does not take {value!r}")
            return
        if type(self).__module__ == "qt" and not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no {name!r}, and PythonQt adds nothing to C++ objects")
        super().__setattr__(name, value)

    def _connect(self, signal, slot, *rest):
        if not isinstance(signal, str) or signal[:1] in "12":  # PySide6 asks itself
            return QtCore.QObject.connect(signal, slot, *rest)
        name, _, parameters = signal.partition("(")
        count = len([each for each in parameters.rstrip(")").split(",") if each.strip()])
        call = _called(slot, min(count, _arity(slot)))
        self.__dict__.setdefault("_connections", {}).setdefault((name, slot), []).append(call)
        _signal(self, name).connect(call)
        return True

    def _disconnect(self, signal=None, slot=None, *rest):
        if not isinstance(signal, str) or signal[:1] in "12":
            return QtCore.QObject.disconnect(signal, slot, *rest)
        name = signal.partition("(")[0]
        for call in self.__dict__.get("_connections", {}).pop((name, slot), []):
            _signal(self, name).disconnect(call)
        return True

    def className(self):
        return self.metaObject().className()


def _signal(sender, name):
    return object.__getattribute__(sender, name)


def _arity(slot):
    try:
        parameters = inspect.signature(slot).parameters.values()
    except (TypeError, ValueError):
        return 9
    if any(each.kind == each.VAR_POSITIONAL for each in parameters):
        return 9
    return sum(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters)


def _called(slot, count):
    return (lambda *told: slot()) if not count else (lambda *told: slot(*told[:count]))


def spoken(kind):
    """Return a class of Qt as PythonQt speaks it."""
    if not (isinstance(kind, type) and issubclass(kind, QtCore.QObject)):
        return kind
    if kind not in _spoken:
        _spoken[kind] = type(kind.__name__, (Dialect, kind), {"__module__": "qt"})
    return _spoken[kind]


class _Qt(types.ModuleType):
    def __getattr__(self, name):
        if name == "QNetworkAccessManager":
            value = Network
        else:
            found = [module for module in (QtCore, QtGui, QtWidgets, QtNetwork) if hasattr(module, name)]
            if not found:
                raise AttributeError(f"qt.{name}")
            value = getattr(found[0], name)
            value = value if name in _AS_THEY_ARE else spoken(value)
        setattr(self, name, value)
        return value


class WrappedReply:
    """A QNetworkReply in PythonQt's dialect."""

    def __init__(self, reply):
        self._reply = reply

    def connect(self, signal, slot):
        name = signal.partition("(")[0]
        getattr(self._reply, name).connect(_called(slot, _arity(slot) if "()" not in signal else 0))

    def __getattr__(self, name):
        return getattr(self._reply, name)


class Network:
    """QNetworkAccessManager, whose replies speak the dialect."""

    def __init__(self):
        self._manager = QtNetwork.QNetworkAccessManager()

    def setProxy(self, proxy):
        self._manager.setProxy(proxy)

    def get(self, asked):
        return WrappedReply(self._manager.get(asked))

    def deleteResource(self, asked):
        return WrappedReply(self._manager.deleteResource(asked))

    def post(self, asked, body):
        return WrappedReply(self._manager.post(asked, body))

    def put(self, asked, body):
        return WrappedReply(self._manager.put(asked, body))

    def sendCustomRequest(self, asked, verb, body):
        return WrappedReply(self._manager.sendCustomRequest(asked, verb, body))


qt = _Qt("qt")


class UiLoader(QtUiTools.QUiLoader):
    """Reads a .ui file with the widgets that were registered; raises for a class that nobody stands in for."""

    def __init__(self, custom):
        super().__init__()
        self._custom, self._made = custom, []

    def createWidget(self, class_name, parent=None, name=""):
        kind = self._custom.get(class_name) or spoken(getattr(QtWidgets, class_name, None))
        if kind is None:
            raise LookupError(f"the panel uses {class_name}, for which nothing stands in")
        made = kind()
        if parent is not None:
            QtWidgets.QWidget.setParent(made, parent)
        QtCore.QObject.setObjectName(made, name)
        self._made.append(made)
        return made

    def read(self, path):
        root = self.load(path)
        if root is None:
            raise ValueError(f"{path} cannot be read: {self.errorString()}")
        for made in self._made:
            layout = QtWidgets.QWidget.layout(made)
            if made.__class__.__name__ == "ctkCollapsibleButton" and layout is not None:
                layout.setContentsMargins(9, 28, 9, 6)  # below its title
        root.__dict__["_kept"] = self._made  # what Python does not refer to, it forgets the class of
        return root
