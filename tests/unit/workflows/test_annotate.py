"""Sessions over the real stores: what is answered is kept, what is undone comes back, and locks hold."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from annotation_bench import ANN, BOB, LIVER, PROJECT, SPLEEN, Bench
from conftest import oblique_geometry

from annotate_server.domain.annotation import LabelState, Session, SessionState
from annotate_server.domain.errors import (
    CaseTaken,
    InvalidLabelmap,
    InvalidPrompt,
    InvalidRequest,
    LockedSegment,
    NotAllowed,
    NotFound,
    RevisionRequired,
    SessionExpired,
    StaleRevision,
    StateError,
    WorkerDied,
)
from annotate_server.domain.geometry import Box
from annotate_server.domain.helper import HelperKind, HelperOrder
from annotate_server.domain.labelmap import CodedConcept, Labelmap, Segment
from annotate_server.domain.model import Prediction
from annotate_server.domain.project import CaseStatus, ReviewPolicy
from annotate_server.imaging.frame import Frame
from annotate_server.workflows.layers import keep_layer, read_layer

GRID = oblique_geometry((7, 9, 8))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, GRID).furnished(2)
    yield made
    made.close()


@pytest.fixture
def session(bench: Bench) -> Session:
    return bench.annotator.open("organs", "c0", ANN)


def voxels(bench: Bench, session: Session) -> np.ndarray:
    return bench.annotator.frame(session.id, ANN).voxels


def an_edit(bench: Bench, session: Session, box: Box, value: int) -> Frame:
    now = bench.annotator.session(session.id, ANN)
    frame = Frame("", "", now.revision, box, np.full(box.shape, value, np.uint8), GRID.digest())
    return bench.annotator.edit(session.id, ANN, frame, now.revision)


def test_a_prompt_answers_with_the_box_that_changed(bench: Bench, session: Session) -> None:
    frame = bench.annotator.prompt(session.id, ANN, bench.point(3, 4, 5), "cube", None)
    assert frame.box == Box((2, 3, 4), (5, 6, 7))
    assert (frame.revision, frame.can_undo, frame.can_redo, frame.segments) == (1, True, False, None)
    assert (frame.voxels == 1).all()
    second = bench.annotator.prompt(session.id, ANN, bench.point(4, 4, 5), "cube", 1)
    assert second.box == Box((5, 3, 4), (6, 6, 7))
    assert [len(order.prompts) for order in bench.compute.prompts] == [1, 2]


def test_other_segments_are_negatives_and_never_overwritten(bench: Bench, session: Session) -> None:
    bench.annotator.prompt(session.id, ANN, bench.point(3, 4, 5), "cube", None)
    bench.annotator.prompt(session.id, ANN, bench.point(4, 4, 5, SPLEEN), "cube", None)
    drawn = voxels(bench, session)
    assert (drawn[2:5, 3:6, 4:7] == 1).all()
    assert (drawn[5, 3:6, 4:7] == 2).all()
    frame = bench.annotator.prompt(session.id, ANN, bench.point(3, 4, 5, SPLEEN), "cube", None)
    assert frame.notes == ("The point lies in Liver, and other segments are never overwritten.",)


def test_undo_and_redo_go_many_steps_and_ask_no_model(bench: Bench, session: Session) -> None:
    states = [voxels(bench, session)]
    for k in (1, 3, 5):
        bench.annotator.prompt(session.id, ANN, bench.point(k, 4, 4), "cube", None)
        states.append(voxels(bench, session))
    asked = len(bench.compute.prompts)
    for state in reversed(states[:-1]):
        bench.annotator.undo(session.id, ANN, None)
        np.testing.assert_array_equal(voxels(bench, session), state)
    with pytest.raises(StateError, match="nothing to undo"):
        bench.annotator.undo(session.id, ANN, None)
    for state in states[1:]:
        frame = bench.annotator.redo(session.id, ANN, None)
        np.testing.assert_array_equal(voxels(bench, session), state)
    assert not frame.can_redo
    assert len(bench.compute.prompts) == asked


def test_what_was_undone_is_no_longer_told_to_the_model(bench: Bench, session: Session) -> None:
    bench.annotator.prompt(session.id, ANN, bench.point(1, 4, 4), "cube", None)
    bench.annotator.undo(session.id, ANN, None)
    bench.annotator.prompt(session.id, ANN, bench.point(5, 4, 4), "cube", None)
    assert bench.compute.prompts[-1].prompts == (bench.point(5, 4, 4),)


def test_the_model_that_fails_changes_nothing(bench: Bench, session: Session) -> None:
    bench.compute.failure = WorkerDied("it died")
    with pytest.raises(WorkerDied):
        bench.annotator.prompt(session.id, ANN, bench.point(3, 4, 5), "cube", None)
    assert bench.annotator.session(session.id, ANN).revision == 0
    assert not voxels(bench, session).any()


def test_everything_is_there_after_a_restart(bench: Bench, session: Session) -> None:
    for number in range(12):
        bench.annotator.prompt(session.id, ANN, bench.point(number % 7, number % 9, 3), "cube", None)
    for _ in range(3):
        bench.annotator.undo(session.id, ANN, None)
    bench.annotator.lock(session.id, ANN, frozenset({2}))
    before, known = voxels(bench, session), bench.annotator.session(session.id, ANN)
    bench.annotator.journal.close()
    assert bench.records.sessions.snapshot(session.id, known.applied) is not None
    reopened = bench.again()
    after = reopened.annotator.session(session.id, ANN)
    assert (after.revision, after.applied, after.locked) == (known.revision, 9, frozenset({2}))
    np.testing.assert_array_equal(voxels(reopened, session), before)
    for _ in range(3):
        reopened.annotator.redo(session.id, ANN, None)
    assert reopened.annotator.session(session.id, ANN).applied == 12
    reopened.close()


def test_a_damaged_snapshot_is_passed_over(bench: Bench, session: Session) -> None:
    for k in range(6):
        bench.annotator.prompt(session.id, ANN, bench.point(k, 4, 4), "cube", None)
    before = voxels(bench, session)
    bench.annotator.journal.close()
    number, sha256 = bench.records.sessions.snapshot(session.id, 6) or (0, "")
    assert number == 5
    path = bench.records.blobs.path(sha256)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-20])
    reopened = bench.again()
    np.testing.assert_array_equal(voxels(reopened, session), before)
    reopened.close()


def test_an_edit_says_on_which_revision_it_was_made(bench: Bench, session: Session) -> None:
    frame = Frame("", "", 0, Box((0, 0, 0), (1, 2, 3)), np.ones((1, 2, 3), np.uint8), GRID.digest())
    with pytest.raises(RevisionRequired):
        bench.annotator.edit(session.id, ANN, frame, None)
    assert bench.annotator.edit(session.id, ANN, frame, 0).revision == 1
    with pytest.raises(StaleRevision, match="revision 1"):
        bench.annotator.edit(session.id, ANN, frame, 0)
    with pytest.raises(StaleRevision):
        bench.annotator.undo(session.id, ANN, 0)


@pytest.mark.parametrize(
    ("box", "value", "geometry", "error"),
    [
        (Box((0, 0, 0), (1, 1, 9)), 1, GRID.digest(), InvalidRequest),
        (Box((0, 0, 0), (1, 1, 1)), 9, GRID.digest(), InvalidLabelmap),
        (Box((0, 0, 0), (1, 1, 1)), 1, "another", InvalidRequest),
    ],
)
def test_an_edit_that_cannot_be_is_refused(
    bench: Bench, session: Session, box: Box, value: int, geometry: str, error: type[Exception]
) -> None:
    frame = Frame("", "", 0, box, np.full(box.shape, value, np.uint8), geometry)
    with pytest.raises(error):
        bench.annotator.edit(session.id, ANN, frame, 0)
    assert bench.annotator.session(session.id, ANN).revision == 0


def test_no_prompt_model_helper_edit_undo_or_removal_changes_a_locked_segment(bench: Bench, session: Session) -> None:
    an_edit(bench, session, Box((0, 0, 0), (2, 2, 2)), 1)
    an_edit(bench, session, Box((2, 2, 2), (4, 4, 4)), 2)
    bench.annotator.lock(session.id, ANN, frozenset({1}))
    before = voxels(bench, session)
    annotator = bench.annotator
    with pytest.raises(LockedSegment, match="Liver"):
        an_edit(bench, session, Box((1, 1, 1), (3, 3, 3)), 2)
    with pytest.raises(LockedSegment, match="Liver"):
        an_edit(bench, session, Box((4, 4, 4), (5, 5, 5)), 1)
    with pytest.raises(LockedSegment):
        annotator.prompt(session.id, ANN, bench.point(5, 5, 5, LIVER), "cube", None)
    with pytest.raises(LockedSegment):
        annotator.help(session.id, ANN, 1, HelperOrder(HelperKind.FILL_HOLES), None)
    with pytest.raises(LockedSegment):
        annotator.help(session.id, ANN, 2, HelperOrder(HelperKind.COMBINE, other=1), None)
    with pytest.raises(LockedSegment):
        annotator.remove_segment(session.id, ANN, 1)
    np.testing.assert_array_equal(voxels(bench, session), before)
    whole = Box.whole(GRID.shape)
    bench.compute.answer = lambda order: Prediction(whole, np.full(GRID.shape, 2, np.uint8), (SPLEEN,))
    annotator.prompt(session.id, ANN, bench.point(5, 5, 5, SPLEEN), "cube", None)
    bench.add_prediction("c0", Labelmap(np.full(GRID.shape, 2, np.uint8), GRID, (LIVER, SPLEEN)))
    annotator.take_prediction(session.id, ANN, "p1")
    np.testing.assert_array_equal(voxels(bench, session) == 1, before == 1)
    for _ in range(3):  # the model, the prompt and the spleen; their boxes hold the liver, which stays
        annotator.undo(session.id, ANN)
    with pytest.raises(LockedSegment):
        annotator.undo(session.id, ANN)
    np.testing.assert_array_equal(voxels(bench, session) == 1, before == 1)
    annotator.lock(session.id, ANN, frozenset())
    while annotator.session(session.id, ANN).can_undo:
        annotator.undo(session.id, ANN)
    assert not voxels(bench, session).any()


def test_segments_are_added_renamed_and_removed_with_their_voxels_and_undo_brings_them_back(
    bench: Bench, session: Session
) -> None:
    cyst = Segment(3, "Cyst", (1, 2, 3))
    frame = bench.annotator.add_segment(session.id, ANN, cyst)
    assert frame.segments == (LIVER, SPLEEN, cyst)
    with pytest.raises(InvalidLabelmap):
        bench.annotator.add_segment(session.id, ANN, replace(cyst, index=4))
    an_edit(bench, session, Box((1, 1, 1), (3, 3, 3)), 3)
    bench.annotator.alter_segment(session.id, ANN, replace(cyst, name="Simple cyst"))
    frame = bench.annotator.remove_segment(session.id, ANN, 3)
    assert frame.segments == (LIVER, SPLEEN)
    assert not voxels(bench, session).any()
    frame = bench.annotator.undo(session.id, ANN)
    assert frame.segments == (LIVER, SPLEEN, replace(cyst, name="Simple cyst"))
    assert (voxels(bench, session)[1:3, 1:3, 1:3] == 3).all()
    with pytest.raises(InvalidPrompt, match="no segment 9"):
        bench.annotator.remove_segment(session.id, ANN, 9)


def test_a_segment_beyond_255_widens_the_draft_and_survives_a_restart(bench: Bench, session: Session) -> None:
    an_edit(bench, session, Box((0, 0, 0), (1, 1, 1)), 1)
    bench.annotator.add_segment(session.id, ANN, Segment(300, "Far", (1, 2, 3)))
    now = bench.annotator.session(session.id, ANN)
    box = Box((1, 1, 1), (2, 2, 2))
    frame = Frame("", "", now.revision, box, np.full(box.shape, 300, np.uint16), "")
    bench.annotator.edit(session.id, ANN, frame, now.revision)
    before = voxels(bench, session)
    assert before.dtype == np.uint16
    reopened = bench.again()
    np.testing.assert_array_equal(voxels(reopened, session), before)
    reopened.annotator.undo(session.id, ANN)
    reopened.annotator.undo(session.id, ANN)
    assert voxels(reopened, session)[0, 0, 0] == 1
    reopened.close()


def test_a_frame_since_a_revision_holds_all_that_changed_since(bench: Bench, session: Session) -> None:
    seen = bench.annotator.frame(session.id, ANN)
    for k in (1, 5):
        bench.annotator.prompt(session.id, ANN, bench.point(k, 4, 4), "cube", None)
    bench.annotator.undo(session.id, ANN)
    since = bench.annotator.frame(session.id, ANN, seen.revision)
    patched = seen.voxels.copy()
    patched[since.box.slices] = since.voxels
    np.testing.assert_array_equal(patched, voxels(bench, session))
    assert bench.annotator.frame(session.id, ANN, since.revision).box.is_empty
    with pytest.raises(InvalidRequest, match="not yet"):
        bench.annotator.frame(session.id, ANN, 99)
    reopened = bench.again()
    assert reopened.annotator.frame(session.id, ANN, seen.revision).box == Box.whole(GRID.shape)
    reopened.close()


def test_two_people_never_hold_the_same_case_and_an_expired_session_goes_on_where_it_was(
    bench: Bench, session: Session
) -> None:
    with pytest.raises(CaseTaken, match="ann"):
        bench.annotator.open("organs", "c0", BOB)
    with pytest.raises(CaseTaken):
        bench.annotator.open("organs", "c0", ANN)
    with pytest.raises(NotAllowed):
        bench.annotator.frame(session.id, BOB)
    bench.annotator.prompt(session.id, ANN, bench.point(3, 4, 5), "cube", None)
    bench.clock.forward(100)
    bench.annotator.heartbeat(session.id, ANN, 20.0)
    bench.clock.forward(100)
    bench.annotator.frame(session.id, ANN)
    bench.clock.forward(121)
    for _ in range(2):
        with pytest.raises(SessionExpired):
            bench.annotator.undo(session.id, ANN)
    other = bench.annotator.open("organs", "c0", BOB)
    with pytest.raises(CaseTaken, match="bob"):
        bench.annotator.resume(session.id, ANN)
    bench.annotator.leave(other.id, BOB)
    resumed = bench.annotator.resume(session.id, ANN)
    assert (resumed.state, resumed.revision, resumed.applied) == (SessionState.OPEN, 1, 1)
    assert voxels(bench, session).sum() == 27


def test_time_at_work_counts_and_long_pauses_do_not(bench: Bench, session: Session) -> None:
    bench.clock.forward(30)
    bench.annotator.prompt(session.id, ANN, bench.point(3, 4, 5), "cube", None)
    bench.clock.forward(50)
    bench.annotator.heartbeat(session.id, ANN, 10.0)
    bench.clock.forward(110)
    label = bench.annotator.submit(session.id, ANN)
    assert label.active_s == pytest.approx(30 + 10 + 60, abs=0.1)


def test_a_second_window_of_the_same_person_sees_the_same_session(bench: Bench, session: Session) -> None:
    bench.annotator.prompt(session.id, ANN, bench.point(3, 4, 5), "cube", None)
    second = bench.annotator.resume(session.id, ANN)
    assert (second.id, second.revision) == (session.id, 1)
    bench.annotator.prompt(session.id, ANN, bench.point(1, 1, 1), "cube", 1)
    with pytest.raises(StaleRevision):
        bench.annotator.prompt(session.id, ANN, bench.point(5, 5, 5), "cube", 1)


def test_a_session_opens_with_the_newest_label_else_the_prediction_else_nothing(bench: Bench) -> None:
    drafted = np.zeros(GRID.shape, np.uint8)
    drafted[1:3, 2:5, 1:4] = 7
    liver = Segment(7, "liver", (0, 0, 0))
    bench.add_prediction("c0", Labelmap(drafted, GRID, (liver,)))
    session = bench.annotator.open("organs", "c0", ANN)
    assert session.model_version == "abdomen@v1"
    assert {s.name for s in session.segments} == {"liver", "Spleen"}
    np.testing.assert_array_equal(voxels(bench, session), drafted)
    an_edit(bench, session, Box((0, 0, 0), (1, 1, 1)), 7)
    label = bench.annotator.submit(session.id, ANN)
    assert (label.parent, label.model_version, label.events, label.state) == (
        None,
        "abdomen@v1",
        1,
        LabelState.APPROVED,
    )
    second = bench.annotator.open("organs", "c0", ANN)
    assert second.parent == label.id
    kept = read_layer(bench.records.blobs, label.layers[0])
    assert kept.voxels[0, 0, 0] == 7
    np.testing.assert_array_equal(voxels(bench, second), kept.voxels)
    corrected = bench.annotator.submit(second.id, ANN)
    assert corrected.parent == label.id
    assert [each.id for each in bench.records.labels.of_case("organs", "c0")] == [label.id, corrected.id]
    assert bench.annotator.open("organs", "c1", ANN).start is None


def test_a_project_without_apps_opens_on_nobodys_prediction(bench: Bench) -> None:
    bench.records.projects.add(replace(PROJECT, id="by-hand", apps=()), BOB)
    bench.add_prediction("c0", Labelmap(np.ones(GRID.shape, np.uint8), GRID, (LIVER,)))
    assert bench.annotator.open("by-hand", "c0", ANN).start is None


def test_a_whole_draft_is_matched_by_code_and_name_and_never_by_index(bench: Bench, session: Session) -> None:
    an_edit(bench, session, Box((0, 0, 0), (1, 1, 2)), 1)
    spleen = Segment(1, "SPLEEN", (1, 1, 1), CodedConcept("78961009", "SCT", "Spleen"))
    tumour = Segment(2, "Tumour", (9, 9, 9))
    drafted = np.zeros(GRID.shape, np.uint8)
    drafted[2:4, 2:4, 2:4], drafted[0, 0, 0:3], drafted[5, 5, 5] = 1, 1, 2
    bench.add_prediction("c0", Labelmap(drafted, GRID, (spleen, tumour)))
    frame = bench.annotator.take_prediction(session.id, ANN, "p1")
    assert frame.notes == ("one note",)
    assert [(s.index, s.name) for s in frame.segments or ()] == [(1, "Liver"), (2, "Spleen"), (3, "Tumour")]
    drawn = voxels(bench, session)
    assert (drawn[2:4, 2:4, 2:4] == 2).all()
    assert drawn[0, 0, :3].tolist() == [1, 1, 2]
    assert drawn[5, 5, 5] == 3
    assert bench.annotator.session(session.id, ANN).interactions[-1].model_version == "abdomen@v1"
    bench.annotator.undo(session.id, ANN)
    assert voxels(bench, session).sum() == 2
    with pytest.raises(StateError, match="another case"):
        bench.annotator.take_prediction(bench.annotator.open("organs", "c1", ANN).id, ANN, "p1")


def test_submitting_ends_the_session_and_the_label_waits_for_a_review_where_the_policy_says_so(bench: Bench) -> None:
    bench.records.projects.change(replace(PROJECT, review=ReviewPolicy.OTHER_PERSON), BOB)
    session = bench.annotator.open("organs", "c0", ANN)
    label = bench.annotator.submit(session.id, ANN, 0)
    assert label.state is LabelState.SUBMITTED
    with pytest.raises(StateError, match="submitted"):
        bench.annotator.frame(session.id, ANN)
    with pytest.raises(StateError, match="submitted"):
        bench.annotator.resume(session.id, ANN)
    item = bench.records.projects.item("organs", "c0", bench.clock())
    assert (item.status, item.label_id) == (CaseStatus.SUBMITTED, label.id)
    assert not list((bench.folder / "drafts").iterdir())


def test_the_other_layers_of_a_label_go_into_the_next_one(bench: Bench) -> None:
    first = bench.annotator.submit(bench.annotator.open("organs", "c0", ANN).id, ANN)
    above = keep_layer(bench.records.blobs, Labelmap(np.ones(GRID.shape, np.uint8), GRID, (LIVER,)))
    layered = replace(first, id="layered", layers=(*first.layers, above), session_id=None)
    bench.records.labels.accept(layered, None, ANN)
    session = bench.annotator.open("organs", "c0", ANN)
    an_edit(bench, session, Box((0, 0, 0), (1, 1, 1)), 2)
    label = bench.annotator.submit(session.id, ANN)
    assert label.layers[1] == above
    assert read_layer(bench.records.blobs, label.layers[0]).voxels[0, 0, 0] == 2
    second = bench.annotator.open("organs", "c0", ANN, 1)
    assert (voxels(bench, second) == 1).all()
    an_edit(bench, second, Box((0, 0, 0), (1, 1, 1)), 0)
    again = bench.again().annotator.submit(second.id, ANN)
    assert again.layers[0] == label.layers[0]
    assert read_layer(bench.records.blobs, again.layers[1]).voxels[0, 0, 0] == 0
    with pytest.raises(InvalidRequest, match="no layer 2"):
        bench.annotator.open("organs", "c0", ANN, 2)


def test_desks_that_nobody_uses_are_cleared_and_set_up_again(bench: Bench, session: Session) -> None:
    bench.annotator.prompt(session.id, ANN, bench.point(3, 4, 5), "cube", None)
    bench.annotator.reception.most_desks = 1
    other = bench.annotator.open("organs", "c1", BOB)
    bench.annotator.prompt(other.id, BOB, bench.point(1, 1, 1), "cube", None)
    assert [path.stem for path in (bench.folder / "drafts").iterdir()] == [other.id]
    assert voxels(bench, session).sum() == 27
    assert bench.annotator.undo(session.id, ANN).revision == 2


def test_ids_that_are_made_up_leave_nothing_behind(bench: Bench) -> None:
    for number in range(20):
        with pytest.raises(NotFound):
            bench.annotator.frame(f"{number:032x}", ANN)
    assert not bench.annotator.reception._turns


def test_changes_from_several_threads_are_all_kept_one_after_the_other(bench: Bench, session: Session) -> None:
    def click(k: int) -> int:
        return bench.annotator.prompt(session.id, ANN, bench.point(k % 7, 4, 4), "cube", None).revision

    with ThreadPoolExecutor(6) as pool:
        revisions = sorted(pool.map(click, range(18)))
    assert revisions == list(range(1, 19))
    before = voxels(bench, session)
    reopened = bench.again()
    np.testing.assert_array_equal(voxels(reopened, session), before)
    reopened.close()


def test_a_partial_label_stays_partial_until_somebody_says_that_it_is_whole(bench: Bench, session: Session) -> None:
    bench.annotator.prompt(session.id, ANN, bench.point(3, 4, 5), "cube", None)
    partial = bench.annotator.submit(session.id, ANN, is_partial=True)
    again = bench.annotator.open("organs", "c0", ANN)
    corrected = bench.annotator.submit(again.id, ANN)
    once_more = bench.annotator.open("organs", "c0", ANN)
    whole = bench.annotator.submit(once_more.id, ANN, is_partial=False)
    stored = [bench.records.labels.get(label.id).is_partial for label in (partial, corrected, whole)]
    assert stored == [True, True, False]


def test_a_partial_label_in_which_nothing_is_drawn_is_refused(bench: Bench, session: Session) -> None:
    with pytest.raises(InvalidLabelmap, match="nothing is drawn"):
        bench.annotator.submit(session.id, ANN, is_partial=True)
    assert bench.annotator.session(session.id, ANN).state is SessionState.OPEN
