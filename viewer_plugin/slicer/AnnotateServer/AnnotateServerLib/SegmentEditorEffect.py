"""The Segment Editor effect: points, scribbles, lassos and boxes for the server's models, drawn in the slice views."""

import pathlib

import qt
import slicer
import vtk
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _

from AnnotateServerLib import current
from AnnotateServerLib.outline import Outline
from AnnotateServerLib.strokes import BOX, KINDS, LASSO, POINT, SCRIBBLE, Hand

_HERE = pathlib.Path(__file__).parent
_KEYS = {"P": POINT, "S": SCRIBBLE, "L": LASSO, "B": BOX}


class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect):
    """Turns strokes into prompts about the selected segment; Slicer makes one for each Segment Editor."""

    def __init__(self, scriptedEffect):
        scriptedEffect.name = "AnnotateServer"
        scriptedEffect.title = _("AI prompt")
        scriptedEffect.perSegment = True
        scriptedEffect.requireSegments = True
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.hand, self.waiting = Hand(), []
        self._outlines, self._shortcuts, self._workplace = {}, [], None

    def clone(self):
        """Return another one for another Segment Editor."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects  # noqa: PLC0415

        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(__file__.replace("\\", "/"))
        return cloned

    def icon(self):
        """Return the icon of the button."""
        return qt.QIcon(str(_HERE / "SegmentEditorEffect.png"))

    def helpText(self):
        """Return what the Segment Editor says of the effect."""
        return _(
            "Draw a hint in a slice view, and the model on the annotate server answers it: a point, a scribble, "
            "a lasso or a box about the selected segment. Hold Shift for the opposite hint. Other segments and what "
            "Masking excludes are never changed. Keys: P, S, L and B choose the tool, T what it says."
        )

    # Options

    def setupOptionsFrame(self):
        """Make the options of the effect."""
        self.modelBox = qt.QComboBox()
        self.modelBox.setToolTip(_("The model that answers."))
        self.scriptedEffect.addLabeledOptionsWidget(_("Model:"), self.modelBox)
        self.kindBox = qt.QComboBox()
        for kind in KINDS:
            self.kindBox.addItem(_(kind.capitalize()), kind)
        self.scriptedEffect.addLabeledOptionsWidget(_("Hint:"), self.kindBox)
        self.positiveBox = qt.QCheckBox(_("Belongs to the segment"))
        self.positiveBox.setToolTip(
            _("Off: the hint says what does not belong to it. Shift says the opposite for one hint.")
        )
        self.scriptedEffect.addOptionsWidget(self.positiveBox)
        self.liveBox = qt.QCheckBox(_("Live: ask at once"))
        self.liveBox.setToolTip(_("Off: hints are collected, and sent together by Send."))
        self.scriptedEffect.addOptionsWidget(self.liveBox)
        row = qt.QHBoxLayout()
        self.sendButton = self._button(row, _("Send"), self.send)
        self.undoButton = self._button(row, _("Undo"), self.undo)
        self.redoButton = self._button(row, _("Redo"), self.redo)
        self.scriptedEffect.addOptionsWidget(row)
        self.statusLabel = qt.QLabel("")
        self.statusLabel.wordWrap = True
        self.scriptedEffect.addOptionsWidget(self.statusLabel)
        for box in (self.modelBox, self.kindBox):
            box.connect("currentIndexChanged(int)", self.updateMRMLFromGUI)
        for box in (self.positiveBox, self.liveBox):
            box.connect("toggled(bool)", self.updateMRMLFromGUI)

    def setMRMLDefaults(self):
        """Say what the options are at first."""
        for name, value in (("Kind", POINT), ("Positive", 1), ("Live", 1), ("Model", "")):
            self.scriptedEffect.setParameterDefault(name, value)

    def updateGUIFromMRML(self):
        """Show the options as the scene keeps them."""
        if not hasattr(self, "kindBox"):
            return
        for box, at in ((self.kindBox, KINDS.index(self.kind)), (self.modelBox, self._model_at())):
            was = box.blockSignals(True)
            box.setCurrentIndex(at)
            box.blockSignals(was)
        for box, name in ((self.positiveBox, "Positive"), (self.liveBox, "Live")):
            was = box.blockSignals(True)
            box.setChecked(self.scriptedEffect.integerParameter(name) != 0)
            box.blockSignals(was)
        self._show()

    def updateMRMLFromGUI(self, *_args):
        """Keep the options in the scene."""
        values = {
            "Kind": KINDS[max(0, self.kindBox.currentIndex)],
            "Positive": int(self.positiveBox.checked),
            "Live": int(self.liveBox.checked),
            "Model": self.modelBox.currentText,
        }
        for name, value in values.items():
            if self.scriptedEffect.parameter(name) != str(value):
                self.scriptedEffect.setParameter(name, value)

    @property
    def kind(self):
        """Return the tool."""
        found = self.scriptedEffect.parameter("Kind")
        return found if found in KINDS else POINT

    # Life

    def activate(self):
        """Begin: listen to the workplace and to keys."""
        self._workplace = current.current()
        if self._workplace is not None:
            self._workplace.listeners.append(self._show)
        self._list_models()
        window = slicer.util.mainWindow()
        if window is not None:
            for key, act in self._acts():
                shortcut = qt.QShortcut(qt.QKeySequence(key), window)
                shortcut.connect("activated()", act)
                self._shortcuts.append(shortcut)
        self._show()

    def deactivate(self):
        """End."""
        self.hand.drop()
        for outline in self._outlines.values():
            outline.remove()
        self._outlines.clear()
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
        self._shortcuts = []
        if self._workplace is not None and self._show in self._workplace.listeners:
            self._workplace.listeners.remove(self._show)
        self._workplace = None

    def cleanup(self):
        """End for good."""
        self.deactivate()

    def createCursor(self, _view):
        """Return the pointer: a cross, as it is exact."""
        return qt.QCursor(qt.Qt.CrossCursor)

    # The hand

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
        """Follow the left button in a slice view; return whether nobody else shall hear of the event."""
        command = vtk.vtkCommand
        if viewWidget.className() != "qMRMLSliceWidget":
            return False
        if eventId not in (command.LeftButtonPressEvent, command.MouseMoveEvent, command.LeftButtonReleaseEvent):
            return False
        place = _ras(viewWidget.mrmlSliceNode(), callerInteractor.GetEventPosition())
        if eventId == command.LeftButtonPressEvent:
            if callerInteractor.GetControlKey():
                return False
            is_positive = self.positiveBox.checked != bool(callerInteractor.GetShiftKey())
            self.hand.press(self.kind, place, is_positive)
            return True
        if not self.hand.is_drawing:
            return False
        if eventId == command.MouseMoveEvent:
            self.hand.move(place)
            self._outline(viewWidget).show(self.hand.outline, viewWidget.mrmlSliceNode(), self.kind == BOX)
        else:
            self._outline(viewWidget).show((), viewWidget.mrmlSliceNode(), False)
            self._drawn(self.hand.release(place))
        return True

    def _drawn(self, stroke):
        if stroke is None or self._workplace is None:
            self._show()
            return
        told = (stroke, self.scriptedEffect.parameterSetNode().GetSelectedSegmentID() or "")
        self.waiting.append(told)
        if self.scriptedEffect.integerParameter("Live"):
            self.send()
        self._show()

    def send(self):
        """Ask the model about what was drawn: one after the other, each when the last is answered."""
        desk = self._workplace.desk if self._workplace is not None else None
        if not self.waiting or (desk is not None and desk.is_busy):
            return
        stroke, segment = self.waiting.pop(0)
        self._workplace.prompt(stroke, segment, self.modelBox.currentText)
        if self._workplace.problem is not None:
            self.waiting.clear()  # what follows was drawn on the answer to this one

    def undo(self):
        """Take the newest change back, or the newest hint that was not sent."""
        if self.waiting:
            self.waiting.pop()
            self._show()
        elif self._workplace is not None and self._workplace.desk is not None:
            self._workplace.desk.undo()

    def redo(self):
        """Make the change again that was taken back last."""
        if self._workplace is not None and self._workplace.desk is not None:
            self._workplace.desk.redo()

    # What they have in common

    def _show(self):
        """Show what can be done, and why the rest cannot."""
        if not hasattr(self, "statusLabel"):
            return
        place = self._workplace
        desk = place.desk if place is not None else None
        if desk is not None and not desk.is_busy and self.waiting and self.scriptedEffect.integerParameter("Live"):
            self.send()
        self._list_models()
        is_free = desk is not None and not desk.is_busy
        self.sendButton.setEnabled(is_free and bool(self.waiting))
        self.undoButton.setEnabled(is_free and (desk.can_undo or bool(self.waiting)))
        self.redoButton.setEnabled(is_free and desk.can_redo)
        self.statusLabel.text = self._status(place, desk)

    def _status(self, place, desk):
        if place is None or not place.is_connected:
            return _("Connect to a server in the AnnotateServer module first.")
        if place.problem is not None:
            return place.problem.text
        if desk is None:
            return _("Open a case in the AnnotateServer module first.")
        if not self.modelBox.count:
            return _("No model of this server answers prompts.")
        if desk.is_busy:
            return f"{desk.turns.doing} …"
        waiting = len(self.waiting)
        return _("{count} hints wait for Send.").format(count=waiting) if waiting else " ".join(desk.notes)

    def _list_models(self):
        names = [model.name for model in self._workplace.prompted_models] if self._workplace is not None else []
        if [self.modelBox.itemText(at) for at in range(self.modelBox.count)] == names:
            return
        was = self.modelBox.blockSignals(True)
        self.modelBox.clear()
        for name in names:
            self.modelBox.addItem(name)
        self.modelBox.setCurrentIndex(self._model_at())
        self.modelBox.blockSignals(was)

    def _model_at(self):
        names = [self.modelBox.itemText(at) for at in range(self.modelBox.count)]
        chosen = self.scriptedEffect.parameter("Model")
        return names.index(chosen) if chosen in names else (0 if names else -1)

    def _button(self, row, text, act):
        button = qt.QPushButton(text)
        button.connect("clicked()", act)
        row.addWidget(button)
        return button

    def _acts(self):
        for key, kind in _KEYS.items():
            yield key, lambda kind=kind: self.scriptedEffect.setParameter("Kind", kind)
        yield "T", lambda: self.positiveBox.setChecked(not self.positiveBox.checked)

    def _outline(self, view):
        if view not in self._outlines:
            self._outlines[view] = Outline(self.scriptedEffect, view)
        return self._outlines[view]


def _ras(slice_node, xy):
    """Return the place (RAS, mm) of a point of a slice view."""
    x, y, z, _ = slice_node.GetXYToRAS().MultiplyPoint((xy[0], xy[1], 0.0, 1.0))
    return x, y, z
