"""What a model has learned: the curve of its drafts, medians by version, and what changed since last month."""

from datetime import datetime
from typing import Self

from fastapi import APIRouter

from annotate_server.api.v1.documented import ModelName, may
from annotate_server.api.v1.views import View
from annotate_server.api.who import Anybody, Served
from annotate_server.workflows.bootstrap_interval import Interval
from annotate_server.workflows.learning_report import CurvePoint, LearningReport, LearningReports, Month, VersionFigures

router = APIRouter(tags=["models"])


class IntervalView(View):
    """A mean with its 95 % bootstrap interval, drawn by patient."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, interval: Interval | None) -> Self | None:
        """Return the view of an interval, if there is one."""
        return None if interval is None else cls(mean=interval.mean, low=interval.low, high=interval.high)


class CurvePointView(View):
    """One label: what the champion drafted of its case before it was labelled, against it. `patient` is a pseudonym."""

    label: str
    patient: str
    version: str
    at: datetime
    dice: float | None
    relative_apl: float | None
    is_shown: bool

    @classmethod
    def of(cls, point: CurvePoint) -> Self:
        """Return the view of a point."""
        return cls(
            label=point.label_id,
            patient=point.patient,
            version=point.version,
            at=point.at,
            dice=point.dice,
            relative_apl=point.relative_apl,
            is_shown=point.is_shown,
        )


class VersionLearningView(View):
    """One version: means over the labels on the curve, and medians of the labels whose draft a person worked on."""

    version: str
    labels: int
    patients: int
    dice: IntervalView | None
    relative_apl: IntervalView | None
    shown: int
    untouched: int
    active_s: float | None
    corrected_s: float | None
    prompts: float | None
    edits: float | None
    helpers: float | None

    @classmethod
    def of(cls, figures: VersionFigures) -> Self:
        """Return the view of a version's figures."""
        return cls(
            version=figures.version,
            labels=figures.labels,
            patients=figures.patients,
            dice=IntervalView.of(figures.dice),
            relative_apl=IntervalView.of(figures.relative_apl),
            shown=figures.shown,
            untouched=figures.untouched,
            active_s=figures.active_s,
            corrected_s=figures.corrected_s,
            prompts=figures.prompts,
            edits=figures.edits,
            helpers=figures.helpers,
        )


class MonthView(View):
    """What share of the contours of the champions' drafts had to be redrawn in a period of 30 days."""

    since: datetime
    until: datetime
    labels: int
    patients: int
    relative_apl: IntervalView | None

    @classmethod
    def of(cls, month: Month) -> Self:
        """Return the view of a period."""
        return cls(
            since=month.since,
            until=month.until,
            labels=month.labels,
            patients=month.patients,
            relative_apl=IntervalView.of(month.relative_apl),
        )


class WithoutDraftView(View):
    """Labels that began without a draft: how many, and the median of their seconds."""

    labels: int
    active_s: float | None


class LearningView(View):
    """Everything that is known of how a model learns; `docs/measuring-effort.md` defines each figure.

    `sentence` says how much less is redrawn than a month ago, or why that cannot be said yet.
    """

    model: str
    sentence: str
    this_month: MonthView
    last_month: MonthView
    versions: list[VersionLearningView]
    curve: list[CurvePointView]
    without_draft: WithoutDraftView

    @classmethod
    def of(cls, report: LearningReport) -> Self:
        """Return the view of a report."""
        return cls(
            model=report.model,
            sentence=report.sentence,
            this_month=MonthView.of(report.this_month),
            last_month=MonthView.of(report.last_month),
            versions=[VersionLearningView.of(figures) for figures in report.versions],
            curve=[CurvePointView.of(point) for point in report.curve],
            without_draft=WithoutDraftView(**vars(report.without_draft)),
        )


@router.get("/models/{name}/learning", responses=may(404))
def get_learning(name: ModelName, services: Served, person: Anybody) -> LearningView:
    """Return what a model's drafts were worth over time, and how much work its versions left to people."""
    services.registry.app(name)
    reports = LearningReports(services.annotator.records, services.learning.models, services.learning.works)
    return LearningView.of(reports.report(name))
