"""The panel: what it shows of a workplace, and what its buttons do."""

from __future__ import annotations

from typing import Callable

import qt
import slicer
from slicer.i18n import tr as _

from AnnotateServerLib.workplace import Workplace

_TOKEN_KEY = "AnnotateServer/token"  # noqa: S105  where it is kept, not what it is
_WAITING = "open"
_ERROR_STYLE = "color: #b00020"
_MODALITIES = ("CT", "MR", "PT", "OT")


class Panel:
    """Binds the widgets of the .ui file to a workplace."""

    def __init__(self, ui: object, place: Workplace, editor: Callable[[], object], settings: object) -> None:
        self.ui, self.place = ui, place
        self._editor, self._settings = editor, settings
        self._shown_node: object | None = None
        self._is_showing = False
        self._shortcuts: list = []
        self._buttons: tuple = (
            (ui.connectButton, self._connect),
            (ui.nextButton, self._open_next),
            (ui.openButton, self._open_chosen),
            (ui.volumeButton, self._open_volume),
            (ui.lookButton, place.look),
            (ui.draftButton, self._draft),
            (ui.cancelButton, place.cancel),
            (ui.undoButton, self._undo),
            (ui.redoButton, self._redo),
            (ui.lockButton, self._lock),
            (ui.showAgainButton, place.show_again),
            (ui.submitButton, self._submit),
            (ui.leaveButton, self._leave),
            (ui.labelButton, self._look_at_label),
            (ui.approveButton, lambda: self._review("approved")),
            (ui.returnButton, lambda: self._review("returned")),
            (ui.dismissButton, place.dismiss),
        )

    def begin(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        for button, act in self._buttons:
            button.connect("clicked()", act)
        ui.projectBox.connect("currentIndexChanged(int)", self._choose)
        ui.worklist.connect("itemSelectionChanged()", self.show)
        ui.worklist.connect("itemDoubleClicked(QTableWidgetItem*)", lambda *_told: self._open_chosen())
        ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda *_told: self.show())
        for name in _MODALITIES:
            ui.modalityBox.addItem(name)
        ui.segmentEditor.undoEnabled = False  # the server owns undo
        ui.tokenEdit.text = str(self._settings.value(_TOKEN_KEY, "") or "")
        self.place.listeners.append(self.show)
        self.show()

    def enter(self) -> None:
        """Be shown: the keys of undo are the server's as long as that is so."""
        window = slicer.util.mainWindow()
        if window is not None and not self._shortcuts:
            for key, act in (("Ctrl+Z", self._undo), ("Ctrl+Y", self._redo)):
                shortcut = qt.QShortcut(qt.QKeySequence(key), window)
                shortcut.connect("activated()", act)
                self._shortcuts.append(shortcut)
        self.show()

    def leave(self) -> None:
        """Be hidden: effects and keys are those of the next module."""
        self.ui.segmentEditor.setActiveEffect(None)
        self.ui.segmentEditor.removeViewObservations()
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
        self._shortcuts = []

    def end(self) -> None:
        """Stop listening."""
        if self.show in self.place.listeners:
            self.place.listeners.remove(self.show)
        self.let_go()

    def let_go(self) -> None:
        """Forget the nodes of the scene."""
        if self._shown_node is not None:
            self.ui.segmentEditor.setActiveEffect(None)
            self.ui.segmentEditor.setSegmentationNode(None)
        self._shown_node = None

    # Buttons

    def _connect(self) -> None:
        if self.place.is_connected:
            self.place.disconnect()
            return
        self._settings.setValue(_TOKEN_KEY, self.ui.tokenEdit.text)
        self.place.connect(self.ui.addressEdit.text, self.ui.tokenEdit.text, self.ui.personEdit.text)

    def _choose(self, at: int) -> None:
        if not self._is_showing and 0 <= at < len(self.place.projects):
            self.place.choose(self.place.projects[at].id)

    def _open_next(self) -> None:
        self._unless_lost(self.place.open_next)

    def _open_chosen(self) -> None:
        item = self._chosen_item()
        if item is not None:
            self._unless_lost(lambda: self.place.open_case(item.case))

    def _open_volume(self) -> None:
        volume = self.ui.volumeSelector.currentNode()
        if volume is not None:
            modality = _MODALITIES[max(0, self.ui.modalityBox.currentIndex)]
            self._unless_lost(lambda: self.place.open_volume(volume, modality))

    def _draft(self) -> None:
        models = self.place.drafting_models
        at = self.ui.modelBox.currentIndex
        if self.place.desk is not None and 0 <= at < len(models):
            self.place.desk.draft(models[at].name)

    def _undo(self) -> None:
        if self.place.desk is not None and not self.place.doing:
            self.place.desk.undo()

    def _redo(self) -> None:
        if self.place.desk is not None and not self.place.doing:
            self.place.desk.redo()

    def _lock(self) -> None:
        name = self.ui.segmentEditor.currentSegmentID()
        self.place.lock(name, not self._is_locked(name))

    def _submit(self) -> None:
        if slicer.util.confirmYesNoDisplay(_("Submit the draft as a label? It is kept for ever.")):
            self.place.submit()

    def _leave(self) -> None:
        self.place.leave()

    def _look_at_label(self) -> None:
        label = self._chosen_label()
        if label is not None:
            self.place.look_at_label(label)

    def _review(self, verdict: str) -> None:
        label = self._chosen_label()
        if label is not None:
            self.place.review(label.id, verdict, self.ui.commentEdit.text)

    def _unless_lost(self, act: Callable[[], None]) -> None:
        """Go on unless a stroke that was not sent would be left behind and the person does not want that."""
        desk = self.place.desk
        lost = desk is not None and desk.has_unsent and not desk.is_reachable
        if not lost or slicer.util.confirmYesNoDisplay(_("The last stroke was not sent yet. Leave it behind?")):
            act()

    # What is shown

    def show(self, *_told: object) -> None:
        """Show how things are."""
        if self._is_showing:
            return
        self._is_showing = True
        try:
            self._show_server()
            self._show_work()
            self._show_draft()
            self._show_review()
            self._show_status()
        finally:
            self._is_showing = False

    def _show_server(self) -> None:
        place, ui = self.place, self.ui
        ui.connectButton.text = _("Disconnect") if place.is_connected else _("Connect")
        for edit in (ui.addressEdit, ui.tokenEdit, ui.personEdit):
            edit.setEnabled(not place.is_connected)
        told = _("Not connected")
        if place.is_connected:
            told = _("Version {version}, as {person}").format(version=place.server.version, person=place.person)
        ui.serverLabel.text = told

    def _show_work(self) -> None:
        place, ui = self.place, self.ui
        _fill(ui.projectBox, [project.title for project in place.projects])
        at = next((at for at, each in enumerate(place.projects) if each.id == place.project), -1)
        ui.projectBox.setCurrentIndex(at)
        self._list_items()
        is_free = place.is_connected and not place.doing
        waits = sum(item.status == _WAITING for item in place.items)
        _enable(ui.nextButton, is_free and waits > 0, _("No case waits.") if is_free else self._why())
        _enable(ui.openButton, is_free and self._chosen_item() is not None, _("Choose a case in the list."))
        _enable(ui.volumeButton, is_free and ui.volumeSelector.currentNode() is not None, _("There is no volume."))
        ui.lookButton.setEnabled(is_free)

    def _list_items(self) -> None:
        table, rows = self.ui.worklist, []
        for item in self.place.items:
            case = self.place.cases.get(item.case)
            rows.append((case.name if case is not None else item.case, item.status, item.person))
        table.setRowCount(len(rows))
        for at, row in enumerate(rows):
            for column, text in enumerate(row):
                cell = table.item(at, column)
                if cell is None:
                    table.setItem(at, column, qt.QTableWidgetItem(text))
                elif cell.text() != text:
                    cell.setText(text)

    def _show_draft(self) -> None:
        place, ui, desk = self.place, self.ui, self.place.desk
        self._show_sheet()
        models = place.drafting_models
        _fill(ui.modelBox, [model.title for model in models])
        is_open = desk is not None and desk.sheet is not None
        is_free = is_open and not place.doing
        chosen = models[max(0, ui.modelBox.currentIndex)] if models else None
        reason = chosen.reason if chosen is not None else _("No model of this project drafts.")
        job = desk.job if desk is not None else None
        is_drafting = job is not None and not job.has_ended
        can_draft = is_free and chosen is not None and chosen.state == "ready" and not is_drafting
        _enable(ui.draftButton, can_draft, reason if chosen is None or chosen.state != "ready" else self._why())
        ui.draftedLabel.text = place.drafted_by
        _enable(ui.undoButton, is_free and desk.can_undo, _("There is nothing to undo."))
        _enable(ui.redoButton, is_free and desk.can_redo, _("There is nothing to redo."))
        name = ui.segmentEditor.currentSegmentID() if is_open else ""
        ui.lockButton.text = _("Unlock segment") if self._is_locked(name) else _("Lock segment")
        _enable(ui.lockButton, is_free and bool(name), _("Select a segment."))
        ui.lockedLabel.text = self._locked_words()
        ui.showAgainButton.setVisible(
            desk is not None and (desk.sheet is None or place.volume is None or self._is_moved())
        )
        _enable(ui.submitButton, is_free, self._why())
        ui.leaveButton.setEnabled(desk is not None and not place.doing)

    def _show_sheet(self) -> None:
        """Let the Segment Editor edit the draft."""
        desk, editor = self.place.desk, self.ui.segmentEditor
        node = desk.sheet.node if desk is not None and desk.sheet is not None else None
        if node is self._shown_node:
            return
        if node is None:
            self.let_go()
            return
        self._shown_node = node
        editor.setMRMLSegmentEditorNode(self._editor())
        editor.setSegmentationNode(node)
        if self.place.volume is not None:
            editor.setSourceVolumeNode(self.place.volume)
            slicer.util.setSliceViewerLayers(background=self.place.volume, fit=True)
        if node.GetSegmentation().GetNumberOfSegments():
            editor.setCurrentSegmentID(node.GetSegmentation().GetNthSegmentID(0))

    def _show_review(self) -> None:
        place, ui = self.place, self.ui
        names = []
        for label in place.reviews:
            case = place.cases.get(label.case)
            names.append(f"{case.name if case is not None else label.case}, by {label.author}")
        _fill(ui.reviewBox, names)
        is_free = place.is_connected and not place.doing and bool(names)
        for button in (ui.labelButton, ui.approveButton, ui.returnButton):
            _enable(button, is_free, _("No label waits for a second person."))

    def _show_status(self) -> None:
        place, ui, desk = self.place, self.ui, self.place.desk
        job = desk.job if desk is not None else None
        is_drafting = job is not None and not job.has_ended
        ui.progressBar.setVisible(bool(place.doing) or is_drafting)
        fraction = job.progress if is_drafting else place.fraction
        ui.progressBar.setMaximum(100 if fraction else 0)
        ui.progressBar.setValue(int(100 * fraction))
        ui.cancelButton.setEnabled(bool(place.doing) or is_drafting)
        problem = place.problem
        ui.statusLabel.styleSheet = _ERROR_STYLE if problem is not None else ""
        ui.statusLabel.text = problem.text if problem is not None else self._words(job if is_drafting else None)
        ui.dismissButton.setVisible(problem is not None)

    def _words(self, job: object | None) -> str:
        place, desk = self.place, self.place.desk
        if place.doing:
            return f"{place.doing} …"
        if job is not None:
            return f"Drafting: {job.message or job.state}"
        if desk is None:
            return place.news or (_("Open a case.") if place.is_connected else _("Connect to a server."))
        told = list(desk.notes) or [place.news or _("Every change is on the server.")]
        return " ".join(["Sending your stroke …"] if desk.has_unsent else told)

    def _why(self) -> str:
        """Return why a button is grey."""
        if not self.place.is_connected:
            return _("Connect to a server first.")
        if self.place.doing:
            return _("Wait until this is done: {doing}.").format(doing=self.place.doing)
        return _("Open a case first.")

    def _is_locked(self, name: str) -> bool:
        desk = self.place.desk
        ids = desk.sheet.ids if desk is not None and desk.sheet is not None else {}
        return any(host == name and index in desk.locked for index, host in ids.items())

    def _is_moved(self) -> bool:
        problem = self.place.problem
        return problem is not None and problem.kind == "geometry-changed"

    def _locked_words(self) -> str:
        desk = self.place.desk
        names = [each.name for each in desk.session.segments if each.index in desk.locked] if desk is not None else []
        return _("Locked: {names}").format(names=", ".join(names)) if names else ""

    def _chosen_item(self) -> object | None:
        at = self.ui.worklist.currentRow()
        return self.place.items[at] if 0 <= at < len(self.place.items) else None

    def _chosen_label(self) -> object | None:
        at = self.ui.reviewBox.currentIndex
        return self.place.reviews[at] if 0 <= at < len(self.place.reviews) else None


def _fill(box: object, texts: list) -> None:
    """Let a combo box list these texts; what was chosen stays chosen."""
    if [box.itemText(at) for at in range(box.count)] == texts:
        return
    was, chosen = box.blockSignals(True), box.currentText
    box.clear()
    for text in texts:
        box.addItem(text)
    box.setCurrentIndex(texts.index(chosen) if chosen in texts else (0 if texts else -1))
    box.blockSignals(was)


def _enable(button: object, is_enabled: bool, reason: str) -> None:
    """Enable a button, or say in its tool tip why it is grey."""
    button.setEnabled(bool(is_enabled))
    button.setToolTip("" if is_enabled else reason)
