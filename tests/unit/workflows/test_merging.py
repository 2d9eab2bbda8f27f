"""How answers come into a draft: locks first, others as negatives, segments by meaning."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from annotate_server.domain.errors import InvalidLabelmap, LockedSegment
from annotate_server.domain.labelmap import CodedConcept, Segment
from annotate_server.workflows.merging import (
    after_combination,
    after_draft,
    after_prompt,
    check_edit,
    free_index,
    matched,
)

KIDNEY = CodedConcept("64033007", "SCT", "Kidney")
LEFT, RIGHT = CodedConcept("7771000", "SCT", "Left"), CodedConcept("24028007", "SCT", "Right")
VOXELS = arrays.arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 4))
LOCKED = st.frozensets(st.integers(1, 4))


@given(before=VOXELS, answer=VOXELS, locked=LOCKED)
def test_no_answer_changes_a_locked_segment(before: np.ndarray, answer: np.ndarray, locked: frozenset[int]) -> None:
    for after in (
        after_prompt(before, answer, 2, locked),
        after_combination(before, answer, (2, 3), locked),
        after_draft(before, answer, {1: 2, 2: 3, 3: 4, 4: 1}, locked),
    ):
        for index in locked:
            np.testing.assert_array_equal(after == index, before == index)


@given(before=VOXELS, answer=VOXELS)
def test_a_prompt_changes_one_segment_and_takes_nothing_from_others(before: np.ndarray, answer: np.ndarray) -> None:
    after = after_prompt(before, answer, 2, frozenset())
    for other in (1, 3, 4):
        np.testing.assert_array_equal(after == other, before == other)
    np.testing.assert_array_equal(after == 2, (answer == 2) & np.isin(before, (0, 2)))


@given(before=VOXELS, answer=VOXELS)
def test_a_draft_draws_its_own_segments_anew_and_leaves_the_others(before: np.ndarray, answer: np.ndarray) -> None:
    after = after_draft(before, answer, {1: 3, 2: 4}, frozenset())
    for other in (1, 2):
        np.testing.assert_array_equal(after == other, before == other)
    np.testing.assert_array_equal(after == 3, (answer == 1) & ~np.isin(before, (1, 2)))


def test_an_edit_of_an_unknown_or_locked_segment_is_refused() -> None:
    before, after = np.zeros((1, 1, 3), np.uint8), np.array([[[0, 1, 2]]], np.uint8)
    segments = (Segment(1, "Liver", (1, 1, 1)), Segment(2, "Spleen", (2, 2, 2)))
    check_edit(before, after, segments, frozenset())
    with pytest.raises(InvalidLabelmap, match=r"\[2\]"):
        check_edit(before, after, segments[:1], frozenset())
    with pytest.raises(LockedSegment, match="Spleen"):
        check_edit(before, after, segments, frozenset({2}))
    with pytest.raises(LockedSegment, match="Spleen"):
        check_edit(after, before, segments, frozenset({2}))
    check_edit(after, after, segments, frozenset({1, 2}))


def test_segments_match_by_code_and_side_then_by_name_and_each_only_once() -> None:
    left = Segment(1, "Niere links", (1, 1, 1), KIDNEY, laterality=LEFT)
    plain = Segment(2, "Tumour", (2, 2, 2))
    theirs = (
        Segment(1, "Right kidney", (3, 3, 3), KIDNEY, laterality=RIGHT),
        Segment(2, "Left kidney", (4, 4, 4), KIDNEY, laterality=LEFT),
        Segment(3, " tumour ", (5, 5, 5)),
        Segment(4, "Tumour", (6, 6, 6)),
    )
    indices, segments = matched((left, plain), theirs)
    assert indices == {1: 3, 2: 1, 3: 2, 4: 4}
    assert [(s.index, s.name) for s in segments] == [
        (1, "Niere links"),
        (2, "Tumour"),
        (3, "Right kidney"),
        (4, "Tumour 2"),
    ]


def test_one_name_with_two_codes_is_two_segments() -> None:
    ours = Segment(1, "Kidney", (1, 1, 1), KIDNEY, laterality=LEFT)
    indices, segments = matched((ours,), (replace(ours, laterality=RIGHT),))
    assert indices == {1: 2}
    assert [s.name for s in segments] == ["Kidney", "Kidney 2"]


def test_two_segments_of_one_code_are_told_apart_by_name() -> None:
    parts = tuple(Segment(n, name, (1, 1, 1), KIDNEY) for n, name in ((1, "Upper"), (2, "Lower")))
    indices, segments = matched((), tuple(reversed(parts)))
    again, same = matched(segments, parts)
    assert same == segments
    assert indices == again == {1: 1, 2: 2}
    assert free_index(segments) == 3
