from dataclasses import replace

import pytest
from round_bench import HIGH, LOW, a_set, an_entry

from annotate_server.domain.training import Part, TrainingSet
from annotate_server.workflows.training_refusal import training_refusal

KNOWN = frozenset({LOW.name, HIGH.name})


def test_two_patients_are_enough_for_a_model_that_knows_its_segments() -> None:
    assert training_refusal(a_set(new=2), known_segments=KNOWN) is None


def test_without_an_approved_label_there_is_nothing_to_learn() -> None:
    empty = TrainingSet("project", (LOW, HIGH), (an_entry(1, Part.GATE), an_entry(2, Part.TEST)))
    assert "No label is approved" in str(training_refusal(empty))


def test_one_patient_only_is_refused() -> None:
    one = tuple(replace(an_entry(number), patient="one") for number in range(6))
    assert "one patient" in str(training_refusal(replace(a_set(0), entries=one)))


@pytest.mark.parametrize(("labels", "missing"), [(1, 4), (4, 1)])
def test_a_new_model_says_how_many_labels_are_missing(labels: int, missing: int) -> None:
    assert f"{missing} are missing" in str(training_refusal(a_set(new=labels), is_new_model=True))
    assert training_refusal(a_set(new=5), is_new_model=True) is None


def test_a_segment_without_any_example_is_refused_by_name() -> None:
    entries = tuple(replace(an_entry(number), segments=(LOW,)) for number in range(6))
    refusal = training_refusal(replace(a_set(0), entries=entries), known_segments=KNOWN)
    assert refusal is not None
    assert "High" in refusal


def test_a_segment_that_the_champion_lacks_needs_five_labels() -> None:
    entries = tuple(replace(an_entry(n), segments=(LOW, HIGH) if n < 3 else (LOW,)) for n in range(6))
    refusal = training_refusal(replace(a_set(0), entries=entries), known_segments=frozenset({LOW.name}))
    assert refusal is not None
    assert "2 are missing" in refusal
