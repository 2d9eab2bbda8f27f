"""The parts without a server: frames, places, volumes as NRRD, segments, and the sheet on Slicer's own segmentation."""

import gzip
import json

import numpy as np
import pytest
import slicer
from AnnotateServerLib import client, frame, labelmaps, nrrd, segments, volumes
from AnnotateServerLib.frame import Box, Frame
from AnnotateServerLib.labelmaps import at_once
from AnnotateServerLib.line import inflated, tidied, zlib_packed
from AnnotateServerLib.masking import INSIDE_ONE, OUTSIDE_ALL, Masking
from AnnotateServerLib.places import Grid, flipped, grid_of_matrix
from AnnotateServerLib.problem import Problem, problem_of
from AnnotateServerLib.segments import Segment
from AnnotateServerLib.sheet import Sheet
from AnnotateServerLib.strokes import BOX, LASSO, POINT, Hand

from slicer_fixtures import paint

SHAPE = (9, 14, 11)
A, B = np.deg2rad(20.0), np.deg2rad(-35.0)
TURN_X = np.array([[1, 0, 0], [0, np.cos(A), -np.sin(A)], [0, np.sin(A), np.cos(A)]])
TURN_Z = np.array([[np.cos(B), -np.sin(B), 0], [np.sin(B), np.cos(B), 0], [0, 0, 1]])
STEPS = ((TURN_Z @ TURN_X)[:, ::-1] * np.array([3.1, 0.7, 1.3])).T
GRID = Grid(SHAPE, tuple(map(tuple, STEPS.tolist())), (-41.5, 17.25, 103.0))
"""The grid of the server's own tests: anisotropic, oblique, three different sides."""
LIVER = Segment(1, "Liver", (221, 130, 101), ("10200004", "SCT", "Liver"))
LEFT = Segment(2, "Left lung", (10, 20, 30), ("39607008", "SCT", "Lung"), None, ("7771000", "SCT", "Left"))
RIGHT = Segment(3, "Right lung", (30, 20, 10), ("39607008", "SCT", "Lung"), None, ("24028007", "SCT", "Right"))
PLAIN = Segment(4, "Something", (200, 200, 0))
ALL = (LIVER, LEFT, RIGHT, PLAIN)


def packed(plain):
    return at_once(nrrd.packed_in_steps(plain))


def drew(kept):
    return at_once(kept.drawn())


def frame_of(box, voxels, revision=1, told=None):
    return Frame(revision, box, voxels, GRID.digest, told, (), True, False)


# Frames


def test_an_edit_is_read_back_as_it_was_written():
    box, voxels = Box((1, 2, 3), (4, 7, 8)), np.arange(75, dtype=np.uint8).reshape(3, 5, 5)
    back = frame.decoded(frame.encoded_edit(box, voxels, 7, "digest"))
    assert (back.revision, back.box, back.geometry, back.segments) == (7, box, "digest", None)
    np.testing.assert_array_equal(back.voxels, voxels)


@pytest.mark.parametrize(
    "damage", [b"", b"ANF1", b"ANF2\x02\x00\x00\x00{}", b"ANF1\xff\x00\x00\x00{}", b"ANF1\x02\x00\x00\x00{}"]
)
def test_what_is_no_frame_is_said_to_be_none(damage):
    with pytest.raises(Problem, match="cannot be read"):
        frame.decoded(damage)


def test_a_frame_with_too_few_voxels_is_refused():
    whole = frame.encoded_edit(Box((0, 0, 0), (2, 2, 2)), np.ones((2, 2, 2), np.uint8), 1, "")
    with pytest.raises(Problem, match="cannot be read"):
        frame.decoded(whole[:-1])


# Places


def test_the_matrix_of_slicer_and_the_servers_grid_are_the_same_places():
    again = grid_of_matrix(GRID.ijk_to_ras, SHAPE)
    assert again.digest == GRID.digest
    k, j, i = 3, 5, 7
    ras = GRID.ijk_to_ras @ (i, j, k, 1)
    np.testing.assert_allclose(flipped(ras[:3]), GRID.world([(k, j, i)])[0])
    np.testing.assert_allclose(GRID.index(GRID.world([(k, j, i)]))[0], (k, j, i), atol=1e-9)
    assert GRID.contains(GRID.world([(8, 13, 10), (8.4, 0, 0), (8.6, 0, 0)])).tolist() == [True, True, False]


def test_a_grid_is_the_same_whichever_way_its_axes_run_and_another_when_it_moved():
    steps = np.array(GRID.steps_mm)
    turned = Grid(SHAPE, tuple(map(tuple, (steps * [[-1], [1], [1]]).tolist())), tuple(GRID.world([(8, 0, 0)])[0]))
    assert turned.is_same_as(GRID)
    assert turned.digest != GRID.digest
    moved = GRID._replace(origin_mm=(-41.5, 17.25, 103.4))
    assert not moved.is_same_as(GRID)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_a_volume_goes_to_the_server_and_comes_back_in_the_same_place(dtype):
    voxels = np.random.default_rng(1).integers(0, 120, SHAPE).astype(dtype)
    node = at_once(volumes.shown_in_steps(nrrd.Plain(voxels, GRID), "volume"))
    assert volumes.grid_of(node).digest == GRID.digest
    back = nrrd.unpacked(packed(volumes.plain_of(node)))
    assert back.grid.digest == GRID.digest
    assert back.voxels.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back.voxels, voxels)


def test_a_volume_that_is_cut_off_is_said_to_be():
    content = packed(nrrd.Plain(np.zeros(SHAPE, np.int16), GRID))
    with pytest.raises(Problem, match="cannot be read"):
        nrrd.unpacked(content[:-3])
    with pytest.raises(Problem, match="cannot be read"):
        nrrd.unpacked(b"<html>")


def test_a_volume_under_a_transform_is_asked_for_its_own_places():
    import vtk  # noqa: PLC0415

    node = at_once(volumes.shown_in_steps(nrrd.Plain(np.zeros(SHAPE, np.int16), GRID), "volume"))
    above = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    for (row, column), value in {(0, 0): 0, (0, 1): -1, (1, 0): 1, (1, 1): 0, (0, 3): 12.0, (2, 3): -7.0}.items():
        matrix.SetElement(row, column, value)
    above.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(above.GetID())
    ras = (*flipped(GRID.world([(3, 5, 7)])[0]), 1.0)
    seen = matrix.MultiplyPoint(ras)[:3]
    np.testing.assert_allclose(volumes.lps_of_view(node, [seen])[0], GRID.world([(3, 5, 7)])[0])


@pytest.mark.parametrize(("axes", "signs"), [((0, 1, 2), (-1, 1, 1)), ((2, 0, 1), (1, -1, -1)), ((1, 0, 2), (1, 1, 1))])
def test_the_voxels_of_a_volume_are_found_in_the_order_of_the_case(axes, signs):
    voxels = np.random.default_rng(2).integers(0, 999, SHAPE).astype(np.int16)
    flips = tuple(slice(None, None, sign) for sign in signs)
    other = np.ascontiguousarray(voxels.transpose(axes)[flips])
    steps = np.array(GRID.steps_mm)[list(axes)] * np.array(signs)[:, None]
    first = np.zeros(3)
    for axis, sign in zip(axes, signs, strict=True):
        first[axis] = SHAPE[axis] - 1 if sign < 0 else 0
    turned = Grid(other.shape, tuple(map(tuple, steps.tolist())), tuple(GRID.world([first])[0].tolist()))
    node = at_once(volumes.shown_in_steps(nrrd.Plain(other, turned), "turned"))
    assert turned.is_same_as(GRID)
    np.testing.assert_array_equal(volumes.voxels_on(node, GRID), voxels)


# Segments


def listed(*kept):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "there")
    for segment in kept:
        host = slicer.vtkSegment()
        segments.write(segment, host)
        host.RemoveTag(segments.INDEX_TAG)
        node.GetSegmentation().AddSegment(host, f"there {segment.name}")
    return node.GetSegmentation()


def test_segments_are_matched_by_code_then_by_name_and_never_by_position():
    renamed = RIGHT._replace(name="Pulmo dexter")
    there = listed(PLAIN._replace(name=" SOMETHING "), renamed, LIVER, LEFT)
    assert segments.matched(ALL, there) == {
        1: "there Liver",
        2: "there Left lung",
        3: "there Pulmo dexter",
        4: "there  SOMETHING ",
    }


def test_a_segment_of_the_same_name_and_another_code_is_another():
    there = listed(LIVER._replace(kind=("78961009", "SCT", "Spleen")))
    assert segments.matched((LIVER,), there) == {}


def test_two_segments_of_the_same_code_are_told_apart_by_their_names():
    first, second = (Segment(n, f"Lesion {n}", (1, 2, 3), ("52988006", "SCT", "Lesion")) for n in (1, 2))
    assert segments.matched((first, second), listed(second, first)) == {1: "there Lesion 1", 2: "there Lesion 2"}


def test_codes_and_colours_survive_slicer():
    there = listed(RIGHT)
    back = segments.described(there.GetNthSegment(0), 3)
    assert (back.name, back.colour, back.codes) == (RIGHT.name, RIGHT.colour, RIGHT.codes)
    assert back.laterality[2] == "Right"


# Bytes and sentences


def test_what_compresses_like_an_empty_labelmap_is_inflated_all_the_same():
    body = bytes(20_000_000)
    packed = zlib_packed(body)
    assert len(packed) < len(body) / 200
    assert inflated(packed) == body
    with pytest.raises(Problem, match="cut off"):
        inflated(packed[:100])


@pytest.mark.parametrize("text", ["", "ftp://there", "http://", "not an address at all"])
def test_what_is_no_address_is_said_to_be_none(text):
    with pytest.raises(Problem, match="no address"):
        tidied(text)


def test_an_address_is_taken_as_people_type_it():
    assert tidied(" 127.0.0.1:8000/ ") == "http://127.0.0.1:8000"
    assert tidied("https://site/annotate") == "https://site/annotate"


def test_a_problem_is_the_servers_sentence_and_what_is_none_gets_one():
    body = {"type": "urn:annotate-server:problem:locked-segment", "detail": "Liver is locked. Unlock it first."}
    found = problem_of(409, json.dumps(body).encode(), "")
    assert (found.kind, found.text) == ("locked-segment", "Liver is locked. Unlock it first.")
    assert "no annotate server" in problem_of(404, b"<html>", "").text
    assert "502" in problem_of(502, gzip.compress(b"?"), "Bad gateway").text
    assert "token" in problem_of(401, b'{"detail": "this takes a token"}', "").text


@pytest.mark.parametrize(("api", "word"), [("v0", "older"), ("", "older"), ("v2", "newer")])
def test_a_server_of_another_language_is_refused_with_the_reason(api, word):
    told = {"version": "9.9", "api": api, "frame": frame.MEDIA_TYPE, "limits": {}}
    with pytest.raises(Problem, match=f"9.9.* {word}"):
        client.server().decoded(json.dumps(told).encode())


def test_an_answer_that_is_not_as_expected_is_a_sentence():
    with pytest.raises(Problem, match="not as expected"):
        client.job("1").decoded(b"{}")
    with pytest.raises(Problem, match="no annotate server"):
        client.job("1").decoded(b"<html>")


# The hand, and masking


def test_a_stroke_is_what_the_hand_drew():
    hand = Hand()
    hand.press(LASSO, (0, 0, 0), True)
    for place in ((5, 0, 0), (5, 0.1, 0), (5, 5, 0)):
        hand.move(place)
    assert hand.outline[-1] == (0, 0, 0)
    assert hand.release((0, 5, 0)).points == ((0, 0, 0), (5, 0, 0), (5, 5, 0), (0, 5, 0))
    hand.press(LASSO, (0, 0, 0), True)
    assert hand.release((9, 0, 0)) is None
    hand.press(BOX, (0, 0, 0), False)
    hand.move((3, 3, 0))
    assert hand.release((4, 4, 0)).points == ((0, 0, 0), (4, 4, 0))
    hand.press(POINT, (1, 2, 3), True)
    assert hand.release((9, 9, 9)).points == ((1, 2, 3),)


def test_masking_says_where_may_be_drawn():
    labels = np.array([[0, 1, 2, 3]])
    assert Masking(OUTSIDE_ALL).editable(labels, None).tolist() == [[True, False, False, False]]
    assert Masking(INSIDE_ONE, inside=2).editable(labels, None).tolist() == [[False, False, True, False]]
    spread = Masking(intensities=(10.0, 20.0))
    assert spread.editable(labels, np.array([[9, 10, 20, 21]])).tolist() == [[False, True, True, False]]
    assert Masking().is_open
    assert not spread.is_open


# The sheet


@pytest.fixture
def volume():
    return at_once(volumes.shown_in_steps(nrrd.Plain(np.zeros(SHAPE, np.int16), GRID), "volume"))


@pytest.fixture
def drawn_on(volume):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "draft")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    copy = np.zeros(SHAPE, np.uint8)
    copy[2:4, 3:6, 4:8] = 1
    copy[5:7, 8:12, 1:4] = 3
    return Sheet(node, GRID, copy.copy(), ALL)


def shown(kept, volume):
    found = np.zeros(SHAPE, np.uint8)
    for index, name in kept.ids.items():
        found[slicer.util.arrayFromSegmentBinaryLabelmap(kept.node, name, volume) != 0] = index
    return found


def test_a_sheet_shows_what_the_server_has_and_nothing_was_drawn(drawn_on, volume):
    np.testing.assert_array_equal(shown(drawn_on, volume), drawn_on.copy)
    assert drew(drawn_on) is None
    assert drawn_on.segmentation.GetNumberOfLayers() == 1


def test_a_changed_box_is_written_in_place(drawn_on, volume):
    image = drawn_on.segmentation.GetSegment(drawn_on.ids[1]).GetRepresentation("Binary labelmap")
    box = Box((1, 1, 1), (3, 4, 5))
    drawn_on.take(frame_of(box, np.full(box.shape, 2, np.uint8)))
    assert drawn_on.segmentation.GetSegment(drawn_on.ids[1]).GetRepresentation("Binary labelmap") is image
    assert (shown(drawn_on, volume)[box.slices] == 2).all()
    assert drew(drawn_on) is None


def test_what_the_host_drew_is_the_box_that_differs(drawn_on, volume):
    paint(drawn_on.node, drawn_on.ids[4], GRID, ((0, 1, 2), (2, 4, 6)))
    found = drew(drawn_on)
    assert found.box == Box((0, 1, 2), (2, 4, 6))
    assert (found.voxels == 4).all()
    drawn_on.sent(found)
    assert drew(drawn_on) is None
    np.testing.assert_array_equal(shown(drawn_on, volume), drawn_on.copy)


def test_the_host_crops_the_labelmap_and_nothing_is_taken_for_drawn(drawn_on):
    paint(drawn_on.node, drawn_on.ids[1], GRID, ((2, 3, 4), (3, 4, 5)))
    image = drawn_on.segmentation.GetSegment(drawn_on.ids[1]).GetRepresentation("Binary labelmap")
    assert image.GetExtent() != (0, 10, 0, 13, 0, 8)
    assert drew(drawn_on) is None
    box = Box((8, 12, 9), (9, 14, 11))
    drawn_on.take(frame_of(box, np.full(box.shape, 1, np.uint8)))
    assert drew(drawn_on) is None
    assert drawn_on.copy[8, 13, 10] == 1


def test_what_the_host_erased_is_seen_where_the_labelmap_shrank(drawn_on):
    paint(drawn_on.node, drawn_on.ids[3], GRID, ((5, 8, 1), (7, 12, 4)), value=0)
    found = drew(drawn_on)
    assert found.box == Box((5, 8, 1), (7, 12, 4))
    assert not found.voxels.any()


def test_what_is_drawn_and_not_sent_stays_when_the_server_says_something_else_nearby(drawn_on, volume):
    paint(drawn_on.node, drawn_on.ids[4], GRID, ((0, 0, 0), (1, 2, 2)))
    box = Box((0, 0, 0), (2, 4, 4))
    drawn_on.take(frame_of(box, np.full(box.shape, 2, np.uint8)))
    seen = shown(drawn_on, volume)
    assert (seen[0, :2, :2] == 4).all()
    assert (seen[1, :4, :4] == 2).all()
    found = drew(drawn_on)
    assert found.box == Box((0, 0, 0), (1, 2, 2))


def test_segments_that_overlap_in_the_host_become_one_segment_a_voxel(drawn_on, volume):
    segmentation = drawn_on.segmentation
    segmentation.SeparateSegmentLabelmap(drawn_on.ids[4])
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    over = labelmaps.oriented(GRID, np.zeros(SHAPE, np.uint8))
    from vtk.util.numpy_support import vtk_to_numpy  # noqa: PLC0415

    vtk_to_numpy(over.GetPointData().GetScalars()).reshape(SHAPE)[2, 3:5, 4:6] = 1
    logic.SetBinaryLabelmapToSegment(over, drawn_on.node, drawn_on.ids[4], logic.MODE_REPLACE)
    assert segmentation.GetNumberOfLayers() == 2
    found = drew(drawn_on)
    assert found.box == Box((2, 3, 4), (3, 5, 6))
    assert (found.voxels == 4).all()
    assert segmentation.GetNumberOfLayers() == 1
    seen = shown(drawn_on, volume)
    assert (seen == 4).sum() == 4
    assert (seen == 1).sum() == (drawn_on.copy == 1).sum() - 4


def test_a_segment_that_the_host_added_is_adopted_with_its_voxels(drawn_on):
    name = drawn_on.segmentation.AddEmptySegment("", "Cyst", (1.0, 0.0, 0.0))
    paint(drawn_on.node, name, GRID, ((0, 0, 0), (2, 2, 2)))
    assert drawn_on.added() == (name,)
    segment = drawn_on.describe(name)
    assert (segment.index, segment.name, segment.colour) == (5, "Cyst", (255, 0, 0))
    drawn_on.adopt(name, segment)
    drawn_on.take(frame_of(Box((0, 0, 0), (0, 0, 0)), np.zeros((0, 0, 0), np.uint8), told=(*ALL, segment)))
    found = drew(drawn_on)
    assert found.box == Box((0, 0, 0), (2, 2, 2))
    assert (found.voxels == 5).all()


def test_names_and_colours_that_the_host_changed_are_noticed(drawn_on):
    host = drawn_on.segmentation.GetSegment(drawn_on.ids[2])
    host.SetName("Lung, left")
    host.SetColor(0.0, 1.0, 0.0)
    (found,) = drawn_on.altered()
    assert (found.index, found.name, found.colour, found.codes) == (2, "Lung, left", (0, 255, 0), LEFT.codes)
    drawn_on.segmentation.RemoveSegment(drawn_on.ids[4])
    assert drawn_on.removed() == (4,)


def test_segments_come_and_go_with_the_server(drawn_on, volume):
    nothing = np.zeros((0, 0, 0), np.uint8)
    other = Segment(9, "Cyst", (1, 2, 3))
    drawn_on.take(frame_of(Box((0, 0, 0), (0, 0, 0)), nothing, told=(LIVER._replace(name="Hepar"), other)))
    names = [drawn_on.segmentation.GetNthSegment(at).GetName() for at in range(2)]
    assert names == ["Hepar", "Cyst"]
    assert drawn_on.segmentation.GetNumberOfSegments() == 2
    assert set(np.unique(shown(drawn_on, volume))) == {0, 1}


def test_what_was_drawn_over_a_locked_segment_goes_back(drawn_on, volume):
    before = drawn_on.copy.copy()
    paint(drawn_on.node, drawn_on.ids[4], GRID, ((2, 0, 4), (3, 6, 8)))
    drawn_on.revert((1,))
    seen = shown(drawn_on, volume)
    np.testing.assert_array_equal(seen == 1, before == 1)
    assert (seen == 4).sum() == 3 * 4


def test_indices_above_a_byte_make_room_for_themselves(drawn_on):
    box = Box((0, 0, 0), (1, 1, 2))
    high = Segment(700, "High", (1, 2, 3))
    drawn_on.take(frame_of(box, np.full(box.shape, 700, np.uint16), told=(*ALL, high)))
    assert drawn_on.copy.dtype == np.uint16
    assert drawn_on.copy[0, 0, 1] == 700
    assert drawn_on.copy[2, 3, 4] == 1
    assert drew(drawn_on) is None


def test_a_draft_whose_segmentation_was_moved_is_not_taken_for_the_cases(drawn_on):
    assert drawn_on.has_grid()
    image = drawn_on.segmentation.GetSegment(drawn_on.ids[1]).GetRepresentation("Binary labelmap")
    image.SetOrigin(9.0, 9.0, 9.0)
    assert not drawn_on.has_grid()
