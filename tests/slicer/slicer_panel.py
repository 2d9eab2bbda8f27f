"""The panel and the Segment Editor's effect, as a hand uses them: buttons, slice views, keys."""

import json

import numpy as np
import pytest
import slicer
from AnnotateServerLib import masking
from PySide6.QtGui import QShortcut

from slicer_fixtures import MODULE, app, draft_on, host_logic, paint, wait
from stand_in import application
from stand_in.effects import SliceView
from stand_in.pythonqt import qt

BRIGHT = (12, 18, 14)


@pytest.fixture
def panel(server):
    """Give the panel on its module's widget, connected to the server."""
    _, _, widget, shown = application.load_module(application.extension_folder() / "AnnotateServer.py")
    widget.ui.addressEdit.text = server.url
    widget.ui.personEdit.text = "ann"
    widget.ui.connectButton.click()
    settle(widget)
    widget.ui.projectBox.setCurrentIndex([each.id for each in widget.logic.workplace.projects].index("desktop"))
    settle(widget)
    yield widget
    desk = widget.logic.workplace.desk
    if desk is not None:
        widget.ui.leaveButton.click()
        settle(widget)
    widget.cleanup()
    shown.deleteLater()
    app.processEvents()


def settle(widget):
    place = widget.logic.workplace

    def is_settled():
        desk = place.desk
        turns = [place._turns, *([desk.turns, desk._watch] if desk is not None else [])]
        return all(each is None or each.is_idle for each in turns) and not (desk and desk._is_waiting)

    wait(is_settled, lambda: widget.ui.statusLabel.text)


def open_case(widget, name):
    table = widget.ui.worklist
    rows = [at for at in range(table.rowCount) if table.item(at, 0).text() == name]
    table.selectRow(rows[0])
    widget.ui.openButton.click()
    settle(widget)
    wait(lambda: widget.logic.workplace.desk is not None and widget.logic.workplace.desk.sheet is not None)
    settle(widget)


def seen(widget, index):
    """Return the place in the views of a voxel of the draft."""
    return tuple((widget.logic.workplace.desk.sheet.grid.world([index])[0] * (-1, -1, 1)).tolist())


def test_the_panel_says_what_to_do_and_why_a_button_is_grey(server):
    _, _, widget, _ = application.load_module(application.extension_folder() / "AnnotateServer.py")
    ui = widget.ui
    assert ui.statusLabel.text == "Connect to a server."
    assert not ui.nextButton.enabled
    assert "Connect" in ui.nextButton.toolTip
    ui.addressEdit.text = "no address"
    ui.connectButton.click()
    assert "no address" in ui.statusLabel.text
    assert "#b00020" in ui.statusLabel.styleSheet
    ui.addressEdit.text = server.url
    ui.connectButton.click()
    settle(widget)
    assert ui.connectButton.text == "Disconnect"
    assert "Version" in ui.serverLabel.text
    assert ui.statusLabel.text == "Open a case."
    widget.cleanup()


def test_the_journey_by_buttons_and_in_a_slice_view(panel, server):
    ui, place = panel.ui, panel.logic.workplace
    assert {ui.worklist.item(at, 0).text() for at in range(ui.worklist.rowCount)} >= {"oblique0.nii", "chest0.nii"}
    open_case(panel, "oblique0.nii")
    desk = place.desk
    assert ui.segmentEditor.segmentationNode() is desk.sheet.node
    assert ui.segmentEditor.sourceVolumeNode() is place.volume
    assert ui.segmentEditor.undoEnabled is False
    ui.segmentEditor.setActiveEffectByName("AnnotateServer")
    effect = ui.segmentEditor.activeEffect()
    view = SliceView("Red", "Axial")
    view.look_at(seen(panel, BRIGHT))
    assert view.stroke(effect, [seen(panel, BRIGHT)]) is True
    settle(panel)
    there = draft_on(server, desk.id)
    assert there[BRIGHT] == 1
    ui.undoButton.click()
    settle(panel)
    assert not draft_on(server, desk.id).any()
    assert not ui.undoButton.enabled
    ui.redoButton.click()
    settle(panel)
    np.testing.assert_array_equal(draft_on(server, desk.id), there)
    ui.lockButton.click()
    settle(panel)
    assert ui.lockedLabel.text == "Locked: Liver"
    assert ui.lockButton.text == "Unlock segment"
    view.stroke(effect, [seen(panel, (12, 18, 13))])
    settle(panel)
    assert "locked" in ui.statusLabel.text
    assert "locked" in effect.self().statusLabel.text
    ui.dismissButton.click()
    ui.lockButton.click()
    settle(panel)
    ui.submitButton.click()
    settle(panel)
    wait(lambda: place.desk is None)
    settle(panel)
    assert "Submitted" in ui.statusLabel.text
    item = next(each for each in place.items if place.cases[each.case].name == "oblique0.nii")
    assert item.status in ("approved", "submitted")


def test_every_tool_draws_in_every_orientation(panel, server):
    open_case(panel, "oblique1.nii")
    desk = panel.logic.workplace.desk
    editor = panel.ui.segmentEditor
    editor.setActiveEffectByName("AnnotateServer")
    effect = editor.activeEffect()
    centre = np.array(seen(panel, BRIGHT))
    views = {name: SliceView(name, name) for name in ("Axial", "Sagittal", "Coronal")}
    for kind in ("point", "scribble", "lasso", "box"):
        for name, view in views.items():
            view.look_at(centre)
            effect.setParameter("Kind", kind)
            matrix = view.node.GetSliceToRAS()
            across = np.array([[matrix.GetElement(row, column) for row in range(3)] for column in range(2)])
            turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
            ring = [tuple(centre + 7 * np.cos(t) * across[0] + 7 * np.sin(t) * across[1]) for t in turns]
            places = {"point": ring[:1], "scribble": ring[:3], "lasso": ring, "box": [ring[2], ring[10]]}[kind]
            revision = desk.revision
            view.stroke(effect, places)
            settle(panel)
            assert panel.logic.workplace.problem is None, f"{kind} {name}: {panel.logic.workplace.problem}"
            assert desk.revision == revision + 1, f"{kind} {name}"
            assert not effect.self().hand.is_drawing
            while desk.can_undo:
                desk.undo()
                settle(panel)
    np.testing.assert_array_equal(desk.sheet.copy, draft_on(server, desk.id))


def test_shift_says_the_opposite_and_hints_can_be_collected(panel, server):
    open_case(panel, "oblique2.nii")
    desk, editor = panel.logic.workplace.desk, panel.ui.segmentEditor
    editor.setActiveEffectByName("AnnotateServer")
    effect, view = editor.activeEffect(), SliceView("Red", "Axial")
    view.look_at(seen(panel, BRIGHT))
    effect.setParameter("Live", 0)
    view.stroke(effect, [seen(panel, BRIGHT)])
    view.stroke(effect, [seen(panel, (12, 18, 24))], shift=1)
    said = effect.self().waiting
    assert [stroke.is_positive for stroke, _ in said] == [True, False]
    assert "2 hints wait" in effect.self().statusLabel.text
    assert not draft_on(server, desk.id).any()
    effect.self().undo()  # of a hint that was not sent yet
    assert len(effect.self().waiting) == 1
    view.stroke(effect, [seen(panel, (12, 18, 24))], shift=1)
    revision = desk.revision
    effect.self().sendButton.click()
    settle(panel)
    effect.self().sendButton.click()
    settle(panel)
    assert desk.revision == revision + 2
    there = draft_on(server, desk.id)
    assert there[BRIGHT] == 1
    assert there[12, 18, 24] == 0
    for _, act in effect.self()._acts():
        assert callable(act)


def test_a_right_button_or_a_view_in_3d_is_left_to_the_host(panel):
    open_case(panel, "oblique2.nii")
    editor = panel.ui.segmentEditor
    editor.setActiveEffectByName("AnnotateServer")
    effect, view = editor.activeEffect(), SliceView("Red", "Axial")
    view.look_at(seen(panel, BRIGHT))
    assert view.stroke(effect, [seen(panel, BRIGHT)], button="Right") is False
    view.className = lambda: "qMRMLThreeDWidget"
    assert view.stroke(effect, [seen(panel, BRIGHT)]) is False


@pytest.mark.parametrize(
    ("mode", "inside"),
    [
        (masking.EVERYWHERE, None),
        (masking.INSIDE_ALL, None),
        (masking.OUTSIDE_ALL, None),
        (masking.INSIDE_VISIBLE, None),
        (masking.OUTSIDE_VISIBLE, None),
        (masking.INSIDE_ONE, 2),
    ],
)
@pytest.mark.parametrize("spread", [None, (200.0, 300.0)])
def test_masking_is_that_of_the_host(panel, mode, inside, spread):
    open_case(panel, "oblique2.nii")
    place, sheet = panel.logic.workplace, panel.logic.workplace.desk.sheet
    editor = panel._editorNode()
    paint(sheet.node, sheet.ids[2], sheet.grid, ((2, 3, 4), (6, 9, 10)), editor=editor)
    paint(sheet.node, sheet.ids[3], sheet.grid, ((8, 3, 4), (12, 19, 14)), editor=editor)
    settle(panel)
    sheet.node.GetDisplayNode().SetSegmentVisibility(sheet.ids[3], False)
    editor.SetMaskMode(mode)
    editor.SetMaskSegmentID(sheet.ids[inside] if inside else "")
    editor.SetSourceVolumeIntensityMask(spread is not None)
    if spread is not None:
        editor.SetSourceVolumeIntensityMaskRange(*spread)
    ours = masking.masking_of(editor, sheet.node, sheet.ids)
    intensities = slicer.util.arrayFromVolume(place.volume)
    may = ours.editable(sheet.copy, intensities)
    editor.SetOverwriteMode(editor.OverwriteNone)
    before = sheet.copy.copy()
    # what the host itself lets its effects draw, on everything at once
    whole = ((0, 0, 0), before.shape)
    logic = host_logic(sheet.node, sheet.ids[1], editor)
    logic.UpdateMaskLabelmap()
    paint(sheet.node, sheet.ids[1], sheet.grid, whole, editor=editor)
    drawn = slicer.util.arrayFromSegmentBinaryLabelmap(sheet.node, sheet.ids[1], place.volume) != 0
    np.testing.assert_array_equal(drawn, may)
    settle(panel)
    editor.SetMaskMode(masking.EVERYWHERE)
    editor.SetSourceVolumeIntensityMask(False)
    desk = place.desk
    while desk.can_undo:
        desk.undo()
        settle(panel)


def test_what_a_model_answers_stays_where_the_host_lets_draw_and_is_one_undo(panel, server):
    open_case(panel, "oblique2.nii")
    place, desk = panel.logic.workplace, panel.logic.workplace.desk
    editor = panel._editorNode()
    panel.ui.segmentEditor.setActiveEffectByName("AnnotateServer")
    effect, view = panel.ui.segmentEditor.activeEffect(), SliceView("Red", "Axial")
    view.look_at(seen(panel, BRIGHT))
    while desk.can_undo:  # what other tests left
        desk.undo()
        settle(panel)
    paint(desk.sheet.node, desk.sheet.ids[2], desk.sheet.grid, ((7, 12, 9), (10, 16, 12)), editor=editor)
    settle(panel)
    before = draft_on(server, desk.id)
    editor.SetMaskMode(masking.EVERYWHERE)
    editor.SetSourceVolumeIntensityMask(True)
    editor.SetSourceVolumeIntensityMaskRange(255.0, 1000.0)
    editor.SetSelectedSegmentID(desk.sheet.ids[1])
    view.stroke(effect, [seen(panel, BRIGHT)])
    settle(panel)
    assert place.problem is None
    there = draft_on(server, desk.id)
    drawn = (there == 1) & (before != 1)
    intensities = slicer.util.arrayFromVolume(place.volume)
    assert drawn.any()
    assert intensities[drawn].min() >= 255
    np.testing.assert_array_equal(there == 2, before == 2)
    np.testing.assert_array_equal(desk.sheet.copy, there)
    panel.ui.undoButton.click()
    settle(panel)
    np.testing.assert_array_equal(draft_on(server, desk.id), before)
    panel.ui.redoButton.click()
    settle(panel)
    np.testing.assert_array_equal(draft_on(server, desk.id), there)
    editor.SetSourceVolumeIntensityMask(False)


def test_a_label_is_reviewed_by_somebody_else(server, panel):
    project = {**server.get("/api/v1/projects/desktop"), "id": "reviewed", "review": "other-person"}
    told = {name: project[name] for name in ("id", "title", "segments", "apps", "modalities", "review")}
    server.ask("POST", "/api/v1/projects", {**told, "title": "Reviewed"})
    cases = {each["name"]: each["id"] for each in server.get("/api/v1/cases")["cases"]}
    for name in ("oblique1.nii", "oblique2.nii"):
        path = f"/api/v1/projects/reviewed/cases/{cases[name]}/sessions"
        session = json.loads(server.ask("POST", path, name="bob"))
        server.ask("POST", f"/api/v1/sessions/{session['id']}/submit", name="bob")
    ui, place = panel.ui, panel.logic.workplace
    ui.connectButton.click()
    ui.connectButton.click()
    settle(panel)
    place.choose("reviewed")
    settle(panel)
    assert ui.reviewBox.count == 2
    ui.labelButton.click()
    settle(panel)
    assert place.problem is None
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]
    assert names == ["oblique1.nii by bob"]
    ui.commentEdit.text = "The dome is missing."
    ui.returnButton.click()
    settle(panel)
    assert place.problem is None
    assert ui.reviewBox.count == 1
    ui.approveButton.click()
    settle(panel)
    assert ui.reviewBox.count == 0


def test_a_scene_that_is_closed_leaves_a_panel_that_works(panel):
    open_case(panel, "oblique0.nii")
    slicer.mrmlScene.Clear(0)
    settle(panel)
    assert "scene was closed" in panel.ui.statusLabel.text
    assert not panel.ui.showAgainButton.isHidden()
    panel.ui.showAgainButton.click()
    settle(panel)
    wait(lambda: panel.logic.workplace.desk.sheet is not None)
    settle(panel)
    assert panel.ui.segmentEditor.segmentationNode() is panel.logic.workplace.desk.sheet.node
    assert panel.ui.addressEdit.text == "http://127.0.0.1:8000" or panel.ui.addressEdit.text


def test_the_token_is_kept_in_settings_and_never_in_the_scene(panel):
    panel.ui.connectButton.click()
    panel.ui.tokenEdit.text = "a-secret"
    panel.ui.addressEdit.text = "http://127.0.0.1:9"
    panel.ui.connectButton.click()
    settle(panel)
    node = panel.logic.getParameterNode().parameterNode
    kept = [node.GetParameter(name) for name in node.GetParameterNames()]
    assert "http://127.0.0.1:9" in kept
    assert "a-secret" not in " ".join(kept)
    assert slicer.app.userSettings().value("AnnotateServer/token") == "a-secret"
    panel.ui.connectButton.click()
    slicer.app.userSettings().setValue("AnnotateServer/token", "")


def test_the_keys_of_undo_are_the_servers_while_the_panel_is_shown(panel, server, monkeypatch):
    window = qt.QWidget()
    monkeypatch.setattr(slicer.util, "mainWindow", lambda *_: window)
    panel.enter()
    open_case(panel, "oblique2.nii")
    desk = panel.logic.workplace.desk
    paint(desk.sheet.node, desk.sheet.ids[3], desk.sheet.grid, ((1, 1, 1), (3, 4, 5)))
    settle(panel)
    keys = {shortcut.key.toString(): shortcut for shortcut in window.findChildren(QShortcut)}
    assert (draft_on(server, desk.id)[1:3, 1:4, 1:5] == 3).all()
    keys["Ctrl+Z"].activated.emit()
    settle(panel)
    assert not (draft_on(server, desk.id)[1:3, 1:4, 1:5] == 3).any()
    keys["Ctrl+Y"].activated.emit()
    settle(panel)
    assert (draft_on(server, desk.id)[1:3, 1:4, 1:5] == 3).all()
    panel.exit()
    assert not window.findChildren(QShortcut)
    assert "removeViewObservations" in panel.ui.segmentEditor.calls
    assert panel.ui.segmentEditor.activeEffect() is None
    panel.enter()


def test_the_self_test_of_the_module_passes_here_too(server, monkeypatch):
    monkeypatch.setenv("ANNOTATE_SERVER", server.url)
    test = MODULE.AnnotateServerTest()
    test.runTest()


def test_the_effect_is_registered_once_and_has_an_icon():
    registered = slicer.qSlicerSegmentEditorEffectFactory.instance().registered
    effect = registered["AnnotateServer"]
    assert not effect.self().icon().isNull()
    assert "lasso" in effect.self().helpText()
