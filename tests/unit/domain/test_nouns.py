from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from annotate_server.domain.annotation import Interaction, InteractionKind, Label, LabelState, Session, SessionState
from annotate_server.domain.errors import (
    AnnotateError,
    InvalidLabelmap,
    InvalidPrompt,
    SessionExpired,
    StateError,
    UnreadableFile,
    UnsupportedInput,
    error_class,
    error_of,
)
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.job import Job, JobState
from annotate_server.domain.labelmap import Labelmap, Segment, labelmap_dtype
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Acquisition, Volume

LIVER = Segment(1, "Liver", (221, 130, 101))
SOON = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=2)


def every_error() -> list[type[AnnotateError]]:
    pending, found = [AnnotateError], []
    while pending:
        kind = pending.pop()
        found.append(kind)
        pending.extend(kind.__subclasses__())
    return found


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_title_and_comes_back_from_its_type(kind: type[AnnotateError]) -> None:
    problem = kind("the detail", source="a.nii").problem()
    assert problem.title
    assert not problem.title.endswith(".")
    assert error_class(problem.type) is kind
    assert str(error_of(problem)) == "a.nii: the detail."


def test_an_error_says_what_is_wrong_with_what_and_what_to_do() -> None:
    error = UnreadableFile("it ends in the middle", source="a.nii", remedy="Copy it again")
    assert str(error) == "a.nii: it ends in the middle. Copy it again."


def test_a_volume_is_read_only_and_refuses_another_shape(oblique: Geometry) -> None:
    volume = Volume(np.zeros(oblique.shape, np.int16), oblique)
    assert not volume.voxels.flags.writeable
    with pytest.raises(UnsupportedInput, match="shape"):
        Volume(np.zeros((1, 2, 3)), oblique)
    with pytest.raises(UnsupportedInput, match="no intensities"):
        Volume(np.zeros(oblique.shape, np.complex64), oblique)


def test_the_digest_is_of_values_and_place_not_of_storage(oblique: Geometry) -> None:
    values = np.arange(np.prod(oblique.shape)).reshape(oblique.shape) % 200
    narrow, wide = Volume(values.astype(np.uint8), oblique), Volume(values.astype(np.int16), oblique)
    assert narrow.digest == wide.digest
    assert narrow.digest == Volume(np.asfortranarray(values.astype(np.int16)), oblique).digest
    changed = values.copy()
    changed[0, 0, 0] += 1
    assert narrow.digest != Volume(changed.astype(np.int16), oblique).digest
    moved = Geometry.from_affine(oblique.affine + np.eye(4)[:, ::-1] * 0, oblique.shape)
    assert narrow.digest == Volume(values.astype(np.uint8), moved).digest


def test_a_scout_is_known_by_its_type() -> None:
    assert Acquisition(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")).is_localizer
    assert not Acquisition(image_type=("ORIGINAL", "PRIMARY", "AXIAL")).is_localizer


def test_a_labelmap_refuses_a_value_without_a_segment(oblique: Geometry) -> None:
    voxels = np.zeros(oblique.shape, np.uint8)
    voxels[1, 2, 3] = 7
    with pytest.raises(InvalidLabelmap, match="7"):
        Labelmap(voxels, oblique, (Segment(1, "Spleen", (1, 2, 3)),))


def test_two_segments_of_one_name_or_index_are_refused(oblique: Geometry) -> None:
    voxels = np.zeros(oblique.shape, np.uint8)
    for twin in (Segment(2, "Spleen", (0, 0, 0)), Segment(1, "Liver", (0, 0, 0))):
        with pytest.raises(InvalidLabelmap, match="two segments"):
            Labelmap(voxels, oblique, (Segment(1, "Spleen", (1, 2, 3)), twin))


def test_labelmaps_are_uint16_only_above_255_segments() -> None:
    assert labelmap_dtype([Segment(255, "a", (0, 0, 0))]) == np.uint8
    assert labelmap_dtype([Segment(256, "a", (0, 0, 0))]) == np.uint16


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        (PromptKind.LASSO, ((0, 0, 0), (1, 0, 0))),
        (PromptKind.POINT, ((0, 0, 0), (1, 0, 0))),
        (PromptKind.BOX, ((0, 0, 0),)),
        (PromptKind.POINT, ((float("nan"), 0, 0),)),
    ],
)
def test_a_prompt_that_nobody_can_have_drawn_is_refused(kind: PromptKind, points: tuple) -> None:
    with pytest.raises(InvalidPrompt):
        Prompt(kind, points)


def test_a_prompt_outside_the_volume_is_refused(oblique: Geometry) -> None:
    inside = tuple(oblique.world([[1, 1, 1]])[0])
    outside = tuple(oblique.world([[1, 1, 40]])[0])
    Prompt(PromptKind.SCRIBBLE, (inside, outside)).check_within(oblique)
    with pytest.raises(InvalidPrompt, match="outside"):
        Prompt(PromptKind.POINT, (outside,)).check_within(oblique)


def an_interaction(number: int) -> Interaction:
    return Interaction(number, InteractionKind.EDIT, Box((0, 0, 0), (1, 1, 1)))


def a_session(oblique: Geometry) -> Session:
    return Session("s", "liver", "c", "p", oblique)


def test_undo_and_redo_walk_the_interactions_and_a_new_one_gives_up_what_was_undone(oblique: Geometry) -> None:
    session = a_session(oblique).recorded(an_interaction(1)).recorded(an_interaction(2))
    back = session.undone()
    assert (back.applied, len(back.interactions), back.revision) == (1, 2, 3)
    assert back.redone() == replace(session, revision=4)
    branched = back.recorded(an_interaction(back.next_number))
    assert [(i.number, i.revision) for i in branched.interactions] == [(1, 1), (2, 4)]
    with pytest.raises(StateError, match="redo"):
        branched.redone()
    with pytest.raises(StateError, match="undo"):
        a_session(oblique).undone()


def test_undo_and_redo_take_the_list_of_segments_along(oblique: Geometry) -> None:
    added = replace(an_interaction(1), segments_before=(), segments_after=(LIVER,))
    session = a_session(oblique).recorded(added)
    assert session.segments == (LIVER,)
    assert session.undone().segments == ()
    assert session.undone().redone().segments == (LIVER,)


def test_only_an_open_session_changes_and_an_expired_or_left_one_is_reopened(oblique: Geometry) -> None:
    submitted = a_session(oblique).ended(SessionState.SUBMITTED)
    with pytest.raises(StateError, match="submitted"):
        submitted.recorded(an_interaction(1))
    with pytest.raises(StateError, match="submitted"):
        submitted.reopened(SOON)
    expired = a_session(oblique).recorded(an_interaction(1)).ended(SessionState.EXPIRED)
    with pytest.raises(SessionExpired):
        expired.undone()
    assert expired.reopened(SOON).interactions == expired.interactions
    assert expired.reopened(SOON).undone().applied == 0


def test_only_a_segment_that_is_there_is_locked(oblique: Geometry) -> None:
    session = replace(a_session(oblique), segments=(LIVER,))
    assert session.with_locked(frozenset({1})).locked == {1}
    with pytest.raises(StateError, match="no segment 2"):
        session.with_locked(frozenset({1, 2}))


def test_nobody_reviews_their_own_label_and_a_return_says_why() -> None:
    label = Label("l", "liver", "c", "ann", ())
    with pytest.raises(StateError, match="their own"):
        label.reviewed("ann", LabelState.APPROVED)
    with pytest.raises(StateError, match="comment"):
        label.reviewed("bob", LabelState.RETURNED)
    approved = label.reviewed("bob", LabelState.APPROVED)
    assert (approved.state, approved.reviewer) == (LabelState.APPROVED, "bob")
    with pytest.raises(StateError, match="already"):
        approved.reviewed("eve", LabelState.RETURNED, "no")


def test_a_job_moves_only_along_its_states() -> None:
    running = Job("1", "batch").moved_to(JobState.RUNNING).advanced(0.5)
    assert running.advanced(0.2).progress == 0.5
    assert running.moved_to(JobState.QUEUED).progress == 0.0
    done = running.moved_to(JobState.SUCCEEDED)
    assert done.has_ended
    assert done.progress == 1.0
    with pytest.raises(StateError):
        done.moved_to(JobState.RUNNING)
    with pytest.raises(StateError, match="problem"):
        running.moved_to(JobState.FAILED)
    failed = running.moved_to(JobState.FAILED, UnreadableFile("x").problem())
    assert failed.problem is not None
