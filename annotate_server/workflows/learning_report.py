"""What a model has learned so far, in figures that a head of department understands, from the work that labels took.

**The curve** is test then train: what the champion of the moment drafted of a case before it was labelled, against the
label, before anything learned from it. It is the one figure that repeated looks at a gate cannot flatter. **Medians by
version** are of the labels whose draft a person saw and worked on; where nobody saw the draft, time says nothing about
it. Intervals are 95 % bootstrap intervals, drawn by patient.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

import numpy as np

from annotate_server.domain.clock import Clock, now
from annotate_server.domain.learning import LabelWork
from annotate_server.domain.learning_ports import ModelStore, WorkStore
from annotate_server.workflows.bootstrap_interval import Bootstrap, Interval
from annotate_server.workflows.parts import patient_of
from annotate_server.workflows.records import Records

PERIOD = timedelta(days=30)
"""A month, for a comparison with the one before."""
LEAST_LABELS, LEAST_PATIENTS = 5, 3
"""Labels and patients in each of two periods below which they are not compared."""


@dataclass(frozen=True)
class CurvePoint:
    """One label on the learning curve; `patient` is a pseudonym, `relative_apl` None where there was no contour."""

    label_id: str
    patient: str
    version: str
    at: datetime
    dice: float | None
    relative_apl: float | None
    is_shown: bool


@dataclass(frozen=True)
class VersionFigures:
    """One version. `labels` and `patients` are those on the curve, whose mean `dice` and `relative_apl` are given.

    The rest is of the `shown` labels whose draft a person worked on, medians where not said otherwise: how many they
    accepted as they were (`untouched`), seconds on all and on those that they corrected, prompts, edits, helpers.
    Seconds are None where no viewer told how long somebody was active.
    """

    version: str
    labels: int
    patients: int
    dice: Interval | None
    relative_apl: Interval | None
    shown: int
    untouched: int
    active_s: float | None
    corrected_s: float | None
    prompts: float | None
    edits: float | None
    helpers: float | None


@dataclass(frozen=True)
class Month:
    """What had to be redrawn of the champions' drafts in a period, as a share of the contours; None without a label."""

    since: datetime
    until: datetime
    labels: int
    patients: int
    relative_apl: Interval | None


@dataclass(frozen=True)
class WithoutDraft:
    """Labels that began from nothing: how many, and the median of the seconds that they took."""

    labels: int
    active_s: float | None


@dataclass(frozen=True)
class LearningReport:
    """Everything about a model; versions in the order in which they first drafted, the curve oldest first.

    `sentence` says how much less is redrawn than a month ago, or why that cannot be said.
    """

    model: str
    sentence: str
    this_month: Month
    last_month: Month
    versions: tuple[VersionFigures, ...]
    curve: tuple[CurvePoint, ...]
    without_draft: WithoutDraft


@dataclass(frozen=True)
class LearningReports:
    """Reports of models, those that learn and others that drafted here."""

    records: Records
    models: ModelStore
    works: WorkStore
    clock: Clock = now

    def report(self, name: str) -> LearningReport:
        """Return the report of a model; it is empty for one that has drafted nothing that was labelled."""
        works = [work for project in self._projects(name) for work in self.works.of_project(project)]
        patients = self._patients(works)
        ours = [work for work in works if work.model == name]
        curve = tuple(_point(work, patients) for work in ours if work.is_champions)
        until = self.clock()
        this_month = _month(curve, until - PERIOD, until)
        last_month = _month(curve, until - 2 * PERIOD, until - PERIOD)
        return LearningReport(
            model=name,
            sentence=_sentence(curve, this_month, last_month),
            this_month=this_month,
            last_month=last_month,
            versions=tuple(_figures(version, curve, ours) for version in dict.fromkeys(_versions(ours))),
            curve=curve,
            without_draft=_without_draft(works),
        )

    def _projects(self, name: str) -> tuple[str, ...]:
        learned = [model.project_id for model in self.models.all() if model.name == name]
        others = [project.id for project in self.records.projects.all() if name in project.apps]
        return tuple(dict.fromkeys((*learned, *others)))

    def _patients(self, works: Iterable[LabelWork]) -> Mapping[str, str]:
        """Return the pseudonym of the patient of each label."""
        found = {}
        for label_id in dict.fromkeys(work.label_id for work in works):
            label = self.records.labels.get(label_id)
            found[label_id] = patient_of(self.records.cases.get(label.case_id))
        return found


def _point(work: LabelWork, patients: Mapping[str, str]) -> CurvePoint:
    return CurvePoint(
        label_id=work.label_id,
        patient=patients[work.label_id],
        version=work.version or "",
        at=_at(work),
        dice=work.dice,
        relative_apl=work.relative_apl,
        is_shown=work.is_shown,
    )


def _at(work: LabelWork) -> datetime:
    if work.made_at is None:
        raise ValueError("stored work has its moment")
    return work.made_at


def _versions(works: Iterable[LabelWork]) -> Iterable[str]:
    return (work.version for work in works if work.version is not None)


def _figures(version: str, curve: Sequence[CurvePoint], works: Sequence[LabelWork]) -> VersionFigures:
    points = [point for point in curve if point.version == version]
    shown = [work for work in works if work.version == version and work.is_shown]
    timed = [work for work in shown if work.active_s > 0]
    return VersionFigures(
        version=version,
        labels=len(points),
        patients=len({point.patient for point in points}),
        dice=_mean([(point.patient, point.dice) for point in points]),
        relative_apl=_mean([(point.patient, point.relative_apl) for point in points]),
        shown=len(shown),
        untouched=sum(work.is_untouched for work in shown),
        active_s=_median([work.active_s for work in timed]),
        corrected_s=_median([work.active_s for work in timed if not work.is_untouched]),
        prompts=_median([sum(work.prompts.values()) for work in shown]),
        edits=_median([work.edits for work in shown]),
        helpers=_median([sum(work.helpers.values()) for work in shown]),
    )


def _without_draft(works: Sequence[LabelWork]) -> WithoutDraft:
    """Return the labels of which no draft was seen, each counted once."""
    seen = {work.label_id for work in works if work.is_shown}
    begun = {work.label_id: work for work in works if work.label_id not in seen}
    return WithoutDraft(len(begun), _median([work.active_s for work in begun.values() if work.active_s > 0]))


def _month(curve: Sequence[CurvePoint], since: datetime, until: datetime) -> Month:
    points = _redrawn(point for point in curve if since < point.at <= until)
    pairs = [(point.patient, point.relative_apl) for point in points]
    return Month(since, until, len(points), len({point.patient for point in points}), _mean(pairs))


def _redrawn(points: Iterable[CurvePoint]) -> list[CurvePoint]:
    """Return the points of labels that have a contour."""
    return [point for point in points if point.relative_apl is not None]


def _sentence(curve: Sequence[CurvePoint], this_month: Month, last_month: Month) -> str:
    """Say how much less is redrawn than in the month before, with the numbers; or what is missing to say it."""
    present, before = this_month.relative_apl, last_month.relative_apl
    if present is None:
        return "No draft of this model was labelled in the last 30 days: there is nothing to compare."
    told = (
        f"In the last 30 days {_percent(present)} of the contours of a draft had to be redrawn ({_count(this_month)})"
    )
    if before is None:
        return f"{told}; there are no labels from the 30 days before to compare it with."
    compared = f"{told}; in the 30 days before it was {_percent(before)} ({_count(last_month)})."
    for month, name in ((this_month, "in the last 30 days"), (last_month, "in the 30 days before")):
        if month.labels < LEAST_LABELS or month.patients < LEAST_PATIENTS:
            return (
                f"{compared} That is too few {name} to say that it has changed: it takes {LEAST_LABELS} labels of"
                f" {LEAST_PATIENTS} patients in both."
            )
    return f"{compared} {_change(curve, this_month, last_month)}"


def _change(curve: Sequence[CurvePoint], this_month: Month, last_month: Month) -> str:
    """Say what has changed between two months that can be compared, and whether that may be chance."""
    points = _redrawn(point for point in curve if last_month.since < point.at <= this_month.until)
    values = np.array([point.relative_apl for point in points], dtype=np.float64)
    is_later = np.array([point.at > this_month.since for point in points])
    found = Bootstrap([point.patient for point in points]).difference(values, is_later)
    before = last_month.relative_apl.mean if last_month.relative_apl else 0.0
    if found.low <= 0.0 <= found.high:
        return (
            "The difference may be chance (95 % interval of the change:"
            f" {100 * found.low:+.0f} to {100 * found.high:+.0f} percentage points)."
        )
    word, change = ("less", "fall") if found.mean < 0 else ("more", "rise")
    share = f", a {change} by {100 * abs(found.mean) / before:.0f} %" if before > 0 else ""
    return (
        f"We redraw {100 * abs(found.mean):.0f} percentage points {word}{share}; 95 % interval of the change:"
        f" {100 * found.low:+.0f} to {100 * found.high:+.0f} percentage points."
    )


def _percent(interval: Interval) -> str:
    return f"{100 * interval.mean:.0f} %"


def _count(month: Month) -> str:
    labels = "1 label" if month.labels == 1 else f"{month.labels} labels"
    return f"{labels} of {'1 patient' if month.patients == 1 else f'{month.patients} patients'}"


def _mean(values: Sequence[tuple[str, float | None]]) -> Interval | None:
    """Return the mean of the values that are there and its interval by patient."""
    known = [(patient, value) for patient, value in values if value is not None]
    if not known:
        return None
    return Bootstrap([patient for patient, _ in known]).mean(np.array([value for _, value in known]))


def _median(values: Sequence[float]) -> float | None:
    return float(median(values)) if values else None
