"""What the values of another server's labels mean, and what becomes of a verdict."""

from datetime import UTC, datetime

import pytest
from foreign_store import named

from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.errors import InvalidLabelmap, InvalidRequest
from annotate_server.domain.project import ReviewPolicy
from annotate_server.imaging.foreign_index import Told
from annotate_server.workflows.importing_labels import judged_label
from annotate_server.workflows.importing_names import Naming
from annotate_server.workflows.value_names import listed_names, listed_segments

LABEL = Label("l", "p", "c", "ann", ())
AT = datetime(2024, 5, 6, tzinfo=UTC)


def test_slicer_counts_past_a_background_that_it_does_not_write() -> None:
    told = Told(label_info=named("Liver", "Spleen", start=2))
    assert dict(Naming().of(told, [1, 2])) == {1: "Liver", 2: "Spleen"}
    assert dict(Naming().of(told, [3])) == {2: "Liver", 3: "Spleen"}


def test_values_that_fit_in_two_ways_are_named_by_who_imports_or_not_at_all() -> None:
    told = Told(label_info=named("Liver", "Spleen", start=2))
    with pytest.raises(InvalidLabelmap, match=r"fit both.*--labels"):
        Naming().of(told, [2])
    assert dict(Naming((("Kidney", 2),)).of(told, [2])) == {2: "Kidney"}


def test_a_model_s_answer_means_the_numbers_of_its_names() -> None:
    told = Told(label_names={"background": 0, "Aorta": 6, "Cava": 7})
    assert dict(Naming().of(told, [6, 7])) == {6: "Aorta", 7: "Cava"}
    with pytest.raises(InvalidLabelmap, match=r"\[1\]"):
        Naming().of(told, [1])
    assert dict(Naming().of(Told(label_names=["background", "Liver", "Spleen"]), [2])) == {1: "Liver", 2: "Spleen"}


def test_what_nothing_names_is_refused_with_what_to_say() -> None:
    with pytest.raises(InvalidLabelmap, match=r"it holds 1, 4.*--labels"):
        Naming().of(Told(), [1, 4])
    assert dict(Naming((("Liver", 4), ("Spleen", 1))).of(Told(), [1, 4])) == {4: "Liver", 1: "Spleen"}


@pytest.mark.parametrize("wrong", [3, "Liver", {"Liver": "1"}, {"Liver": [1]}, {"Liver": True}, [3], {"Liver": 70000}])
def test_names_of_another_form_are_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequest):
        listed_names(wrong)


def test_a_name_fits_on_one_line_of_a_header() -> None:
    assert listed_segments([{"name": "left\nlung\ud800 "}]) == (("left lung", 1),)


def told(status: str, reviewer: str = "", comment: str = "") -> Told:
    return Told(status=status, reviewer=reviewer, comment=comment, edited_at=AT)


def test_a_second_person_s_verdict_is_kept_with_who_and_when() -> None:
    label, notes = judged_label(LABEL, told("approved", "carla", "fine"), ReviewPolicy.OTHER_PERSON)
    assert (label.state, label.reviewer, label.comment, label.reviewed_at) == (
        LabelState.APPROVED,
        "carla",
        "fine",
        AT,
    )
    assert notes == ()
    label, _ = judged_label(LABEL, told("flagged", "carla"), ReviewPolicy.NONE)
    assert (label.state, label.reviewer) == (LabelState.RETURNED, "carla")
    assert "without a comment" in label.comment


@pytest.mark.parametrize("reviewer", ["ann", ""])
@pytest.mark.parametrize("status", ["approved", "flagged"])
def test_nobody_reviews_a_label_of_their_own_or_without_a_name(status: str, reviewer: str) -> None:
    label, notes = judged_label(LABEL, told(status, reviewer), ReviewPolicy.OTHER_PERSON)
    assert (label.state, label.reviewer, len(notes)) == (LabelState.SUBMITTED, None, 1)


def test_what_was_flagged_is_not_approved_by_a_policy_without_reviews() -> None:
    assert judged_label(LABEL, told("flagged"), ReviewPolicy.NONE)[0].state is LabelState.SUBMITTED
    assert judged_label(LABEL, told("segmented"), ReviewPolicy.NONE)[0].state is LabelState.APPROVED
    assert judged_label(LABEL, Told(), ReviewPolicy.OTHER_PERSON) == (LABEL, ())
