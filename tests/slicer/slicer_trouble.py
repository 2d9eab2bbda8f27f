"""What goes wrong: each gets a sentence, and nothing that was drawn is lost."""

import http.server
import json
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import slicer
import vtk
from AnnotateServerLib.strokes import POINT, Stroke

from server import running
from slicer_fixtures import Work, _works, app, begin, draft_on, wait

BLOCK = ((1, 2, 3), (4, 6, 8))
BRIGHT = (12, 18, 14)


@pytest.fixture
def opened(work):
    work.open("desktop", "oblique0.nii")
    yield work
    if work.desk is not None:
        work.place.leave()
        work.settle(expects_problem=True)


def ask(work, at=BRIGHT, index=1):
    work.place.prompt(Stroke(POINT, (work.ras(at),), True), work.host_id(index), "any_structure")


# The scene


def test_a_deleted_segmentation_is_shown_again_with_the_stroke_that_was_just_drawn(opened, server):
    opened.paint(1, BLOCK)
    slicer.mrmlScene.RemoveNode(opened.sheet.node)  # before the stroke was sent
    assert "deleted" in opened.place.problem.text
    ask_again = Stroke(POINT, ((0.0, 0.0, 0.0),), True)
    opened.place.prompt(ask_again, "Segment_1", "any_structure")
    opened.settle(expects_problem=True)
    opened.place.show_again()
    opened.settle()
    wait(lambda: opened.desk.sheet is not None)
    opened.settle()
    shown = opened.shown()
    assert (shown[1:4, 2:6, 3:8] == 1).all()
    np.testing.assert_array_equal(shown, draft_on(server, opened.desk.id))
    opened.desk.undo()
    opened.settle()
    assert not opened.shown().any()


def test_a_deleted_volume_is_said_to_be_and_comes_back(opened):
    slicer.mrmlScene.RemoveNode(opened.place.volume)
    assert "volume was deleted" in opened.place.problem.text
    ask(opened)
    opened.settle(expects_problem=True)
    assert "volume was deleted" in opened.place.problem.text
    opened.place.show_again()
    opened.settle()
    wait(lambda: opened.desk.sheet is not None and opened.place.volume is not None)
    opened.settle()
    ask(opened)
    opened.settle()
    assert opened.sheet.copy[BRIGHT] == 1


def test_a_closed_scene_keeps_the_session_and_the_stroke(opened, server):
    opened.paint(2, BLOCK)
    slicer.mrmlScene.Clear(0)
    opened.settle(expects_problem=True)
    assert "scene was closed" in opened.place.problem.text
    assert (draft_on(server, opened.desk.id)[1:4, 2:6, 3:8] == 2).all()
    opened.place.show_again()
    opened.settle()
    wait(lambda: opened.desk.sheet is not None)
    opened.settle()
    np.testing.assert_array_equal(opened.shown(), draft_on(server, opened.desk.id))


def test_a_volume_under_a_transform_is_prompted_where_it_is_seen(opened, server):
    above = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    for (row, column), value in {(0, 0): 0, (0, 1): -1, (1, 0): 1, (1, 1): 0, (0, 3): 40.0}.items():
        matrix.SetElement(row, column, value)
    above.SetMatrixTransformToParent(matrix)
    opened.place.volume.SetAndObserveTransformNodeID(above.GetID())
    assert opened.sheet.node.GetParentTransformNode() is above  # the draft stays on its volume
    seen = matrix.MultiplyPoint((*opened.ras(BRIGHT), 1.0))[:3]
    opened.place.prompt(Stroke(POINT, (seen,), True), opened.host_id(1), "any_structure")
    opened.settle()
    assert draft_on(server, opened.desk.id)[BRIGHT] == 1
    # one that bends has no way back in one step
    bends = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    spline = vtk.vtkThinPlateSplineTransform()
    points = [vtk.vtkPoints(), vtk.vtkPoints()]
    for number, each in enumerate(points):
        for x, y, z in ((0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50), (30, 30, 30 + 9 * number)):
            each.InsertNextPoint(x, y, z)
    spline.SetSourceLandmarks(points[0])
    spline.SetTargetLandmarks(points[1])
    spline.SetBasisToR()
    bends.SetAndObserveTransformToParent(spline)
    opened.place.volume.SetAndObserveTransformNodeID(bends.GetID())
    ask(opened)
    opened.settle(expects_problem=True)
    assert "bends" in opened.place.problem.text


def test_an_edited_geometry_gets_no_prompts(opened, server):
    spacing, before = opened.place.volume.GetSpacing(), draft_on(server, opened.desk.id)
    opened.place.volume.SetSpacing(2 * spacing[0], *spacing[1:])
    ask(opened)
    opened.settle(expects_problem=True)
    assert "spacing, origin or orientation" in opened.place.problem.text
    np.testing.assert_array_equal(draft_on(server, opened.desk.id), before)
    opened.place.volume.SetSpacing(*spacing)
    opened.place.dismiss()
    ask(opened)
    opened.settle()
    assert draft_on(server, opened.desk.id)[BRIGHT] == 1


def test_a_prompt_outside_the_volume_is_told_so(opened):
    opened.place.prompt(Stroke(POINT, ((4000.0, 0.0, 0.0),), True), opened.host_id(1), "any_structure")
    assert "outside the volume" in opened.place.problem.text


def test_a_stroke_over_a_locked_segment_goes_back_and_the_rest_is_kept(opened, server):
    opened.paint(1, BLOCK)
    opened.settle()
    opened.place.lock(opened.host_id(1), True)
    opened.settle()
    opened.paint(2, ((1, 0, 3), (2, 6, 8)))
    opened.settle(expects_problem=True)
    assert "locked" in opened.place.problem.text
    there = draft_on(server, opened.desk.id)
    np.testing.assert_array_equal(opened.shown(), there)
    assert (there[1:4, 2:6, 3:8] == 1).all()
    assert (there[1, :2, 3:8] == 2).all()
    opened.place.dismiss()
    opened.place.lock(opened.host_id(1), False)
    opened.settle()


def test_while_one_prompt_is_answered_there_is_no_second(opened):
    ask(opened)
    wait(lambda: opened.desk.is_busy)
    ask(opened, index=2)
    assert "One thing at a time" in opened.place.problem.text
    opened.settle(expects_problem=True)
    assert opened.sheet.copy[BRIGHT] == 1


def test_a_prompt_can_be_cancelled_and_the_next_one_finds_the_draft_as_it_is(opened, server):
    ask(opened)
    wait(lambda: opened.desk.is_busy)
    app.processEvents()
    opened.place.cancel()
    opened.settle(expects_problem=True)
    assert "cancelled" in opened.place.problem.text
    opened.place.dismiss()
    opened.desk.refresh()
    opened.settle()
    np.testing.assert_array_equal(opened.shown(), draft_on(server, opened.desk.id))


# The server


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://no-such-host.invalid:80"])
def test_where_nobody_answers_it_is_said(address):
    work = Work(address)
    _works.append(work)
    work.settle(expects_problem=True)
    assert "cannot be reached" in work.place.problem.text
    assert not work.place.is_connected


@contextmanager
def answering(status, body, kind="application/json"):
    """Give the address of something that always answers the same."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_address[1]}"
        finally:
            httpd.shutdown()
            thread.join()


OLD = {"version": "0.1", "api": "v0", "frame": "application/x-other", "limits": {}}
PROBLEM = {"type": "urn:annotate-server:problem:too-busy", "detail": "32 prompts wait already; try again in 5 s"}


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (200, json.dumps(OLD).encode(), "older than this extension"),
        (200, b"<html>It works!</html>", "no annotate server"),
        (404, b"<html>Not found</html>", "no annotate server"),
        (302, b"", "leads elsewhere"),
        (503, json.dumps(PROBLEM).encode(), "32 prompts wait already"),
        (502, b"<html>Bad gateway</html>", "502"),
    ],
)
def test_what_answers_otherwise_is_said_in_a_sentence(status, body, sentence):
    with answering(status, body) as address:
        work = Work(address)
        _works.append(work)
        work.settle(expects_problem=True)
        assert sentence in work.place.problem.text
        assert not work.place.is_connected
        work.place.close()


def test_a_wrong_token_is_said_to_be_and_the_right_one_works(samples, tmp_path):
    folder, told = samples
    with running(tmp_path / "workspace", folder / "studies", cases=told["cases"]) as made:
        token = json.loads(made.ask("POST", "/api/v1/users", {"name": "ann", "role": "admin"}))["token"]
        for wrong in ("", "nonsense"):
            work = Work(made.url, "", wrong)
            _works.append(work)
            work.settle(expects_problem=True)
            assert "token" in work.place.problem.text
        work = Work(made.url, "", token)
        _works.append(work)
        work.settle()
        assert work.place.person == "ann"
        work.place.close()


def test_a_server_that_restarts_gets_what_was_drawn_meanwhile(samples, tmp_path):
    folder, told = samples
    with running(tmp_path / "workspace", folder / "studies", cases=told["cases"]) as made:
        made.ask("POST", "/api/v1/projects", told["project"])
        work = begin(made).open("desktop", "oblique0.nii")
        work.paint(1, BLOCK)
        work.settle()
        made.kill()
        work.paint(2, ((10, 10, 10), (12, 13, 15)))
        wait(lambda: work.place.problem is not None)
        assert "cannot be reached" in work.place.problem.text
        assert work.desk.has_unsent
        made.start().ready(told["cases"])
        wait(lambda: not work.desk.has_unsent)
        work.settle()
        assert work.place.problem is None
        there = draft_on(made, work.desk.id)
        np.testing.assert_array_equal(work.shown(), there)
        assert (there[10:12, 10:13, 10:15] == 2).all()
        work.desk.undo()
        work.settle()
        work.desk.undo()
        work.settle()
        assert not work.shown().any()
        work.place.close()


def test_a_lease_that_ran_out_is_resumed_and_nothing_is_lost(samples, tmp_path):
    folder, told = samples
    with running(tmp_path / "workspace", folder / "studies", {"ANNOTATE_LEASE_S": "1"}, told["cases"]) as made:
        made.ask("POST", "/api/v1/projects", told["project"])
        work = begin(made).open("desktop", "oblique1.nii")
        work.paint(1, BLOCK)
        work.settle()
        time.sleep(1.6)
        work.paint(2, ((10, 10, 10), (12, 13, 15)))
        work.settle()
        there = draft_on(made, work.desk.id)
        np.testing.assert_array_equal(work.shown(), there)
        assert set(np.unique(there)) == {0, 1, 2}
        time.sleep(1.6)
        ask(work, index=3, at=(16, 34, 26))
        work.settle()
        assert draft_on(made, work.desk.id)[16, 34, 26] == 3
        # somebody else took it meanwhile: that is said, and by whom
        time.sleep(1.6)
        case = work.place.case.id
        theirs = json.loads(made.ask("POST", f"/api/v1/projects/desktop/cases/{case}/sessions", name="bob"))
        for _ in range(2):
            made.ask("POST", f"/api/v1/sessions/{theirs['id']}/heartbeat", {"active_s": 0}, name="bob")
        work.paint(1, ((0, 0, 0), (1, 2, 2)))
        wait(lambda: work.place.problem is not None)
        assert "bob" in work.place.problem.text
        assert work.desk.has_unsent
        work.place.close()


def test_a_case_that_somebody_else_has_says_who(server, work):
    case = next(each for each in server.get("/api/v1/cases")["cases"] if each["name"] == "oblique2.nii")
    path = f"/api/v1/projects/desktop/cases/{case['id']}/sessions"
    theirs = json.loads(server.ask("POST", path, name="bob"))
    work.place.choose("desktop")
    work.settle()
    work.place.open_case(case["id"])
    work.settle(expects_problem=True)
    assert "bob" in work.place.problem.text
    assert work.desk is None
    server.ask("POST", f"/api/v1/sessions/{theirs['id']}/leave", name="bob")


def test_where_no_server_is_connected_that_is_said():
    work = Work("http://127.0.0.1:9")
    _works.append(work)
    work.place.disconnect()
    for act in (lambda: work.place.open_case("1"), lambda: work.place.open_volume(None, "CT"), work.place.open_next):
        work.place.dismiss()
        act()
        assert "Connect" in work.place.problem.text
