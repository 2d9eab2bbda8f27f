"""Models that learn, as the doors show them: versions, decisions, and which version has which name."""

from datetime import datetime
from typing import Self

from annotate_server.api.services import Learning
from annotate_server.api.v1.views import View
from annotate_server.domain.learning import Promotion, VersionRecord
from annotate_server.domain.training import TrainingPoint
from annotate_server.workflows.promote import champions, newest_move


class VersionView(View):
    """A version, immutable. `training_set` is the digest of the list of labels; None for what was not trained here."""

    id: str
    parent: str | None
    made_at: datetime | None
    training_set: str | None
    job: str | None
    seconds: float
    weights: dict[str, str]

    @classmethod
    def of(cls, version: VersionRecord) -> Self:
        """Return the view of a version."""
        return cls(
            id=version.id,
            parent=version.parent,
            made_at=version.made_at,
            training_set=version.training_set,
            job=version.job_id,
            seconds=version.seconds,
            weights={weight.name: weight.sha256 for weight in version.weights},
        )


class DecisionView(View):
    """A decision about a version; `kind` is first, gate, person, rollback, take-back or refused.

    `evidence` says that the gate's figures can be asked for.
    """

    version: str
    kind: str
    person: str
    reason: str
    previous: str | None
    provisional: bool
    evidence: bool
    at: datetime | None

    @classmethod
    def of(cls, promotion: Promotion) -> Self:
        """Return the view of a decision."""
        return cls(
            version=promotion.version,
            kind=str(promotion.kind),
            person=promotion.person,
            reason=promotion.reason,
            previous=promotion.previous,
            provisional=promotion.is_provisional,
            evidence=promotion.evidence is not None,
            at=promotion.at,
        )


class LearnedView(View):
    """What is known of a model that learns, oldest first.

    `champion` serves, `former` did before (a rollback goes there), `challenger` is the newest version, where it was
    refused or is to be judged by a person. `provisional` says that the champion rests on few patients.
    `waiting_labels` were approved and not learned from; `missing_labels` are those that a first training lacks.
    """

    project: str
    origin: str | None
    every_labels: int
    nightly: bool
    champion: str | None
    former: str | None
    challenger: str | None
    provisional: bool
    waiting_labels: int
    missing_labels: int
    training_job: str | None
    versions: list[VersionView]
    decisions: list[DecisionView]

    @classmethod
    def of(cls, learning: Learning, name: str) -> Self:
        """Return the view of a model; raises UnknownModel."""
        model, promotions = learning.models.get(name), learning.models.promotions(name)
        versions = learning.models.versions(name)
        lineage, moved = champions(promotions), newest_move(promotions)
        champion = lineage[-1] if lineage else None
        newest = versions[-1].id if versions else None
        job = learning.orders.unended(name)
        return cls(
            project=model.project_id,
            origin=model.origin,
            every_labels=model.every_labels,
            nightly=model.is_nightly,
            champion=champion,
            former=lineage[-2] if len(lineage) > 1 else None,
            challenger=newest if newest not in lineage else None,
            provisional=moved is not None and moved.is_provisional,
            waiting_labels=learning.orders.curating.waiting(model),
            missing_labels=learning.orders.missing(model),
            training_job=None if job is None else job.id,
            versions=[VersionView.of(version) for version in versions],
            decisions=[DecisionView.of(promotion) for promotion in promotions],
        )


class PointView(View):
    """One point of a training's curve."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    elapsed_s: float

    @classmethod
    def of(cls, point: TrainingPoint) -> Self:
        """Return the view of a point."""
        return cls(
            step=point.step,
            steps=point.steps,
            loss=point.loss,
            learning_rate=point.learning_rate,
            elapsed_s=point.elapsed_s,
        )
