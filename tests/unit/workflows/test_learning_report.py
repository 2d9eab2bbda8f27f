"""The figures of a model that learns: the curve, the medians, and what has changed since last month."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from annotation_bench import ANN, Bench
from conftest import oblique_geometry

from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.learning import LabelWork
from annotate_server.testing.memory_learning import InMemoryModels, InMemoryWorks
from annotate_server.workflows.bootstrap_interval import Bootstrap
from annotate_server.workflows.learning_report import LearningReport, LearningReports

GRID = oblique_geometry((4, 5, 6))
NOW = datetime(2026, 6, 30, 12, 0, tzinfo=UTC)


@dataclass
class Desk:
    bench: Bench

    def __post_init__(self) -> None:
        self.works = InMemoryWorks()
        self.count = 0

    def worked(self, days_ago: float = 1, **words: object) -> None:
        """Keep the work of one more label, of a patient of its own unless one is named."""
        self.count += 1
        patient = str(words.pop("patient", f"c{self.count}"))
        self.bench.add_case(patient)
        label = f"l{self.count}"
        stored = Label(label, "organs", patient, "ann", (), made_at=NOW, state=LabelState.APPROVED)
        self.bench.records.labels.accept(stored, None, ANN)
        given = {"model": "abdomen", "version": "v1", "is_champions": True, "is_shown": True, "active_s": 60.0}
        work = LabelWork(label, "organs", made_at=NOW - timedelta(days=days_ago), **{**given, **words})
        self.works.add(work)

    def months(self, before: list[float], present: list[float]) -> None:
        for days, values in ((45, before), (15, present)):
            for value in values:
                self.worked(days, relative_apl=value, dice=1 - value)

    def report(self) -> LearningReport:
        return LearningReports(self.bench.records, InMemoryModels(), self.works, lambda: NOW).report("abdomen")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    bench = Bench(tmp_path, GRID).furnished(0)
    yield Desk(bench)
    bench.close()


def test_a_model_without_labels_says_that_there_is_nothing_to_compare(desk: Desk) -> None:
    report = desk.report()
    assert (report.curve, report.versions, report.this_month.labels) == ((), (), 0)
    assert "nothing to compare" in report.sentence


def test_a_clear_fall_is_said_with_its_numbers(desk: Desk) -> None:
    desk.months([0.50, 0.46, 0.48, 0.52, 0.49, 0.51], [0.24, 0.26, 0.25, 0.27, 0.23, 0.25])
    sentence = desk.report().sentence
    assert "25 % of the contours of a draft had to be redrawn (6 labels of 6 patients)" in sentence
    assert "it was 49 %" in sentence
    assert "24 percentage points less, a fall by 49 %" in sentence


def test_a_difference_that_may_be_chance_is_called_that(desk: Desk) -> None:
    desk.months([0.1, 0.9, 0.4, 0.6, 0.5], [0.2, 0.8, 0.3, 0.6, 0.4])
    assert "may be chance" in desk.report().sentence


def test_too_few_labels_or_patients_are_not_compared(desk: Desk) -> None:
    desk.months([0.5] * 5, [0.1] * 4)
    assert "too few in the last 30 days" in desk.report().sentence
    desk.worked(15, relative_apl=0.1, patient="c9")
    assert "We redraw" in desk.report().sentence


def test_five_labels_of_two_patients_are_too_few(desk: Desk) -> None:
    desk.months([0.5] * 5, [])
    for number in range(6):
        desk.worked(10, relative_apl=0.1, patient=f"p{number % 2}")
    report = desk.report()
    assert (report.this_month.labels, report.this_month.patients) == (6, 2)
    assert "too few in the last 30 days" in report.sentence


def test_the_curve_holds_only_what_champions_drafted(desk: Desk) -> None:
    desk.worked(3, relative_apl=0.3, dice=0.7)
    desk.worked(2, relative_apl=0.9, is_champions=False)
    desk.worked(1, relative_apl=0.2, version="v2", is_shown=False)
    report = desk.report()
    assert [(point.version, point.relative_apl) for point in report.curve] == [("v1", 0.3), ("v2", 0.2)]
    assert [(v.version, v.labels, v.shown) for v in report.versions] == [("v1", 1, 2), ("v2", 1, 0)]


def test_medians_are_of_shown_drafts_and_untouched_ones_are_told_apart(desk: Desk) -> None:
    desk.worked(active_s=10.0, is_untouched=True, relative_apl=0.0)
    desk.worked(active_s=100.0, edits=4, prompts={"point": 2, "box": 1}, relative_apl=0.4)
    desk.worked(active_s=300.0, edits=6, helpers={"smooth": 1}, relative_apl=0.5)
    desk.worked(active_s=0.0, relative_apl=0.1)
    desk.worked(active_s=999.0, is_shown=False, relative_apl=0.2)
    (figures,) = desk.report().versions
    assert (figures.shown, figures.untouched, figures.active_s, figures.corrected_s) == (4, 1, 100.0, 200.0)
    assert (figures.prompts, figures.edits, figures.helpers) == (0.0, 2.0, 0.0)


def test_labels_without_a_draft_stand_apart(desk: Desk) -> None:
    desk.worked(active_s=500.0, model=None, version=None, is_champions=False, is_shown=False)
    desk.worked(active_s=300.0, is_shown=False, relative_apl=0.2)
    desk.worked(active_s=50.0, relative_apl=0.2)
    assert (desk.report().without_draft.labels, desk.report().without_draft.active_s) == (2, 400.0)


def test_intervals_are_drawn_by_patient(desk: Desk) -> None:
    for number in range(6):
        desk.worked(relative_apl=0.2 if number < 3 else 0.4, patient="one" if number < 3 else "two")
    (figures,) = desk.report().versions
    assert figures.relative_apl is not None
    assert (figures.patients, figures.relative_apl.mean) == (2, pytest.approx(0.3))
    assert (figures.relative_apl.low, figures.relative_apl.high) == (pytest.approx(0.2), pytest.approx(0.4))


def test_the_difference_of_two_groups_is_that_of_their_means() -> None:
    values, is_later = np.array([1.0, 2.0, 3.0, 7.0, 8.0, 9.0]), np.arange(6) >= 3
    found = Bootstrap([str(n) for n in range(6)]).difference(values, is_later)
    assert found.mean == pytest.approx(6.0)
    assert 3.0 < found.low < 6.0 < found.high < 9.0
    assert Bootstrap(["a"] * 6).difference(values, is_later).low == pytest.approx(6.0)
