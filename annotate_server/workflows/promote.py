"""Promote: which version of a model serves: decided by the gate or a person, or taken back by what its shadow showed.

Every decision is a stored row. The alias moves with it, in one transaction, and workers ask before each prediction
which version serves: nothing is restarted.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import NotFound, StateError
from annotate_server.domain.job import Job
from annotate_server.domain.learning import LabelWork, Promotion, PromotionKind, VersionRecord
from annotate_server.domain.learning_ports import ModelStore, WorkStore
from annotate_server.domain.person import Person, Role
from annotate_server.domain.training import Trained, Verdict

log = logging.getLogger(__name__)

GATE = Person("(gate)", Role.ADMIN)
"""Who decided where nobody did by name."""
LEAST_CASES, MOST_CASES = 5, 10
"""Cases after which a provisional version may be taken back, and after which it stays or goes."""
CLEAR_SHARE = 0.8
"""Before the last case, a provisional version goes only where its shadow was less work on this share of them."""
_MOVING = {
    Verdict.PROMOTE: PromotionKind.GATE,
    Verdict.PROMOTE_PROVISIONALLY: PromotionKind.GATE,
    Verdict.KEEP: PromotionKind.REFUSED,
    Verdict.ASK: PromotionKind.REFUSED,
}


@dataclass(frozen=True)
class Promoting:
    """Moves the alias of models that learn, and says why."""

    models: ModelStore
    works: WorkStore
    clock: Clock = now

    def keep(self, job: Job, trained: Trained) -> Mapping[str, str]:
        """Keep what a round gave, decided as its gate said, and return the job's result.

        The same round kept twice is kept once. A version whose champion was replaced meanwhile is kept, and refused.
        """
        model, previous = job.order["model"], job.order["champion"] or None
        known = next((each for each in self.models.versions(model) if each.id == trained.version), None)
        if known is not None:
            return self._result(model, trained, self._decision(known, job))
        record = VersionRecord(
            id=trained.version,
            model=model,
            description=trained.description,
            weights=trained.weights,
            parent=previous,
            training_set=job.order["training_set"],
            recipe=job.order["recipe"],
            job_id=job.id,
            seconds=trained.seconds,
            made_at=self.clock(),
        )
        decision = self._decided(model, trained, previous)
        try:
            self.models.decide(record, decision, GATE)
        except StateError:
            reason = (
                "Another version became champion while it was trained, with which it was not compared: train again."
            )
            decision = replace(decision, kind=PromotionKind.REFUSED, reason=reason, is_provisional=False)
            self.models.decide(record, decision, GATE)
        return self._result(model, trained, decision)

    def promote(self, name: str, version: str, person: Person, reason: str = "") -> Promotion:
        """Let a version serve because a person says so; StateError where it does already, NotFound, UnknownModel."""
        person.must_be(Role.REVIEWER)
        return self._moved(name, version, PromotionKind.PERSON, person, reason)

    def roll_back(self, name: str, person: Person, version: str | None = None, reason: str = "") -> Promotion:
        """Let the version serve that did before, or a named one that did; each rollback goes one further back."""
        person.must_be(Role.REVIEWER)
        self.models.get(name)
        lineage = champions(self.models.promotions(name))
        if version is None and len(lineage) < 2:
            raise StateError(f"there is no version of {name} before the one that serves")
        if version is not None and version not in lineage:
            raise NotFound(f"{name} was never served by version {version}", remedy="Promote it instead.")
        return self._moved(name, version or lineage[-2], PromotionKind.ROLLBACK, person, reason)

    def take_back(self, name: str) -> Promotion | None:
        """Take a provisional champion back where its shadow was less work, or confirm it; None while that is open."""
        provisional = newest_move(self.models.promotions(name))
        if provisional is None or not provisional.is_provisional or provisional.previous is None:
            return None
        project_id = self.models.get(name).project_id
        works = self.works.of_project(project_id, since=provisional.at)
        more = extra_work(works, name, provisional.version, provisional.previous)[:MOST_CASES]
        if len(more) < LEAST_CASES:
            return None
        mean, clear = float(np.mean(more)), float(np.mean([each > 0 for each in more]))
        if mean > 0 and (len(more) >= MOST_CASES or clear >= CLEAR_SHARE):
            reason = f"On {len(more)} cases its drafts took {mean:+.1f} mm more to correct than its predecessor's."
            return self._moved(name, provisional.previous, PromotionKind.TAKE_BACK, GATE, reason)
        if len(more) < MOST_CASES:
            return None
        reason = f"Confirmed: on {len(more)} cases its drafts took {mean:+.1f} mm to correct against its predecessor's."
        confirmed = Promotion(
            name, provisional.version, PromotionKind.GATE, GATE.name, reason, provisional.version, at=self.clock()
        )
        self.models.decide(None, confirmed, GATE)
        return confirmed

    def _moved(self, name: str, version: str, kind: PromotionKind, person: Person, reason: str) -> Promotion:
        self.models.get(name)
        previous = self.models.champion(name)
        if previous == version:
            raise StateError(f"version {version} of {name} serves already")
        promotion = Promotion(name, version, kind, person.name, reason, previous, at=self.clock())
        self.models.decide(None, promotion, person)
        log.info("another version serves", extra={"action": f"model-{kind}", "model": name, "version": version})
        return promotion

    def _decided(self, model: str, trained: Trained, previous: str | None) -> Promotion:
        kind = _MOVING[trained.verdict]
        if kind is PromotionKind.GATE and previous is None:
            kind = PromotionKind.FIRST
        return Promotion(
            model=model,
            version=trained.version,
            kind=kind,
            person=GATE.name,
            reason=trained.reason,
            previous=previous,
            evidence=trained.evidence,
            is_provisional=trained.verdict is Verdict.PROMOTE_PROVISIONALLY,
            at=self.clock(),
        )

    def _decision(self, known: VersionRecord, job: Job) -> Promotion:
        """Return what was decided when a version was kept; of one that another training made, that nothing moves."""
        decided = next(each for each in self.models.promotions(known.model) if each.version == known.id)
        if known.job_id == job.id:
            return decided
        kind = decided.kind if self.models.champion(known.model) == known.id else PromotionKind.REFUSED
        return replace(decided, kind=kind, reason="The training gave a version that was there already.")

    def _result(self, model: str, trained: Trained, decision: Promotion) -> Mapping[str, str]:
        is_promoted = decision.kind is not PromotionKind.REFUSED
        return {
            "model": model,
            "version": trained.version,
            "verdict": trained.verdict.value,
            "promoted": "provisionally" if is_promoted and decision.is_provisional else "yes" if is_promoted else "no",
            "reason": decision.reason,
            "evidence": trained.evidence,
            "seconds": f"{trained.seconds:.1f}",
            "steps": str(trained.steps),
        }


def newest_move(promotions: Iterable[Promotion]) -> Promotion | None:
    """Return the decision that the present champion serves by."""
    return next((p for p in reversed(tuple(promotions)) if p.kind is not PromotionKind.REFUSED), None)


def champions(promotions: Iterable[Promotion]) -> tuple[str, ...]:
    """Return the versions that served and were not taken back, the present one last."""
    lineage: list[str] = []
    for promotion in promotions:
        if promotion.kind is PromotionKind.REFUSED or (lineage and lineage[-1] == promotion.version):
            continue
        if promotion.kind in (PromotionKind.ROLLBACK, PromotionKind.TAKE_BACK) and promotion.version in lineage:
            lineage = lineage[: lineage.index(promotion.version)]
        lineage.append(promotion.version)
    return tuple(lineage)


def extra_work(works: Iterable[LabelWork], model: str, version: str, shadow: str) -> list[float]:
    """Return by how much longer, in mm, the path was that a version's draft left to draw than its shadow's, by label.

    Labels of which only one of the two has a draft are left out. Oldest first.
    """
    by_label: dict[str, dict[str, float]] = {}
    for work in works:
        if work.model == model and work.version is not None and work.apl_mm is not None:
            by_label.setdefault(work.label_id, {})[work.version] = work.apl_mm
    return [paths[version] - paths[shadow] for paths in by_label.values() if {version, shadow} <= paths.keys()]
