"""The journey in 3D Slicer, on its own classes, against a real server with real workers."""

import numpy as np
import pytest
import slicer
from AnnotateServerLib.strokes import LASSO, POINT, SCRIBBLE, Stroke

from slicer_fixtures import begin, draft_on, submitted, wait

BRIGHT = (12, 18, 14)
"""In the larger ellipsoid of the oblique MR (k, j, i)."""


def clicked(work, index, at, kind=POINT, is_positive=True):
    places = [work.ras(each) for each in at]
    work.place.prompt(Stroke(kind, tuple(places), is_positive), work.host_id(index), "any_structure")
    return work.settle()


def circle(centre, radius, count=24):
    """Return a lasso around a voxel in its slice k."""
    k, j, i = centre
    turns = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return [(k, j + radius * np.sin(turn), i + radius * np.cos(turn)) for turn in turns]


@pytest.fixture
def open_oblique(work):
    return work.open("desktop", "oblique0.nii")


def test_from_the_worklist_to_a_label_that_is_the_nodes_voxels(open_oblique, server):
    work = open_oblique
    assert work.place.volume.GetImageData().GetDimensions() == (36, 44, 26)
    clicked(work, 1, [BRIGHT])
    assert work.sheet.copy[BRIGHT] == 1
    clicked(work, 1, [(12, 40, 30)], is_positive=False)
    clicked(work, 2, [(17, 34, 26), (17, 34, 24)], SCRIBBLE)
    clicked(work, 2, circle((14, 34, 26), 5), LASSO)
    drafted = work.shown()
    np.testing.assert_array_equal(drafted, draft_on(server, work.desk.id))
    assert (drafted == 2).any()
    work.place.lock(work.host_id(2), True)
    work.settle()
    assert work.desk.locked == (2,)
    work.desk.undo()
    work.settle(expects_problem=True)  # the newest change is of the locked segment
    assert "locked" in work.place.problem.text
    work.place.dismiss()
    work.place.lock(work.host_id(2), False)
    work.settle()
    work.desk.undo()
    work.settle()
    work.paint(1, ((1, 2, 3), (3, 6, 9)))
    work.settle()
    final = work.shown()
    assert (final[1:3, 2:6, 3:9] == 1).all()
    np.testing.assert_array_equal(final, draft_on(server, work.desk.id))
    world = work.place.volume
    node = submitted(work, server)
    for index, segment in ((1, "Liver"), (2, "Lesion"), (3, "Right lung")):
        name = node.GetSegmentation().GetSegmentIdBySegmentName(segment)
        there = slicer.util.arrayFromSegmentBinaryLabelmap(node, name, world)
        np.testing.assert_array_equal(there != 0, final == index, err_msg=segment)


def test_a_stroke_of_the_host_is_one_edit_and_one_undo(work, server):
    work.open("desktop", "oblique1.nii")
    work.paint(1, ((2, 3, 4), (5, 9, 8)))
    work.paint(1, ((4, 8, 4), (6, 12, 9)))  # the same stroke: the hand did not rest
    work.settle()
    revision = work.desk.revision
    drawn = draft_on(server, work.desk.id)
    assert (drawn[2:5, 3:9, 4:8] == 1).all()
    assert (drawn == 1).sum() == 3 * 6 * 4 + 2 * 4 * 5 - 1 * 1 * 4
    work.desk.undo()
    work.settle()
    assert not draft_on(server, work.desk.id).any()
    assert not work.shown().any()
    work.desk.redo()
    work.settle()
    np.testing.assert_array_equal(work.shown(), drawn)
    assert work.desk.revision > revision
    work.place.leave()
    work.settle()


def test_a_session_goes_to_another_window_and_comes_back_with_its_undo(work, server):
    work.open("desktop", "oblique2.nii")
    clicked(work, 1, [BRIGHT])
    here = work.shown()
    # the browser goes on with it: a prompt and an undo by the server's routes
    session = f"/api/v1/sessions/{work.desk.id}"
    server.ask("POST", f"{session}/resume")
    points = [(work.sheet.grid.world([(16, 34, 26)])[0]).tolist()]
    asked = {"kind": "point", "points_mm": points, "segment": 2, "positive": True, "model": "any_structure"}
    server.ask("POST", f"{session}/prompts", asked)
    server.ask("POST", f"{session}/prompts", {**asked, "points_mm": [work.sheet.grid.world([BRIGHT])[0].tolist()]})
    server.ask("POST", f"{session}/undo")
    work.desk.beat()
    work.settle()
    there = draft_on(server, work.desk.id)
    assert (there == 2).any()
    np.testing.assert_array_equal(work.shown(), there)
    # undo here takes back what was done there, then what was done here
    work.desk.undo()
    work.settle()
    np.testing.assert_array_equal(work.shown(), here)
    work.desk.undo()
    work.settle()
    assert not work.shown().any()
    work.desk.redo()
    work.settle()
    work.place.leave()
    work.settle()
    again = begin(server)
    again.place.choose("desktop")
    again.settle()
    mine = next(each for each in again.place.mine if each.project == "desktop")
    again.place.resume(mine.id)
    again.settle()
    wait(lambda: again.desk is not None and again.desk.sheet is not None)
    again.settle()
    np.testing.assert_array_equal(again.shown(), here)
    again.place.leave()
    again.settle()


def test_a_whole_draft_comes_while_the_hand_goes_on(work, server):
    work.open("demo_ct", "chest0.nii")
    begun = work.shown()
    work.desk.draft("demo_ct")
    wait(lambda: work.desk.job is not None and work.desk.job.has_ended)
    work.settle()
    assert work.desk.job.state == "succeeded"
    shown = work.shown()
    assert len(np.unique(shown)) > 3
    np.testing.assert_array_equal(shown, draft_on(server, work.desk.id))
    version = next(model.version for model in work.place.models if model.name == "demo_ct")
    assert work.place.drafted_by == f"Drafted by demo_ct, version {version}."
    work.place.models = tuple(each._replace(version="9") for each in work.place.models)
    assert "Version 9 has come since" in work.place.drafted_by
    names = {segment.name for segment in work.desk.session.segments}
    segmentation = work.sheet.segmentation
    assert {segmentation.GetNthSegment(at).GetName() for at in range(segmentation.GetNumberOfSegments())} == names
    work.desk.undo()
    work.settle()
    np.testing.assert_array_equal(work.shown(), begun)
    work.place.leave()
    work.settle()
