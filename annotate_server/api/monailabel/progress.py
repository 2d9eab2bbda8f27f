"""How far trainings are and how good their models were, as clients show it: a bar and a percentage."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from annotate_server.api.monailabel.translate import Json
from annotate_server.api.monailabel.words import train_words
from annotate_server.api.services import Services
from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.job import Job, JobKind
from annotate_server.workflows.gate_evidence import read_evidence

_MOST_JOBS = 50


@dataclass
class TrainStats:
    """The newest training of each model that learns; thread-safe. Evidence is read again only when a decision came."""

    services: Services
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)
    _changes: int = field(default=-1, init=False)
    _best: Mapping[str, float] = field(default_factory=dict, init=False)
    _ended: dict[str, Json] = field(default_factory=dict, init=False)

    def words(self) -> Json:
        """Return it by model: the one that was trained last comes first, as clients show the first."""
        newest: dict[str, Job] = {}
        for job in self.services.jobs.all(limit=_MOST_JOBS, kind=JobKind.TRAIN):
            newest.setdefault(job.order.get("model", ""), job)
        best = self._best_metrics()
        names = [*(name for name in newest if name in best), *(name for name in best if name not in newest)]
        return {name: self._told(newest.get(name), best[name]) for name in names}

    def of(self, model: str) -> Json:
        """Return it of one model; nothing for one that does not learn."""
        found: Json = self.words().get(model, {})
        return found

    def _told(self, job: Job | None, best: float) -> Json:
        if job is None:
            return train_words(None, (), best)
        if job.id not in self._ended:
            words = train_words(job, self.services.learning.curve(job.id), best)
            if not job.has_ended:
                return words
            self._ended[job.id] = words
        return {**self._ended[job.id], "best_metric": best}

    def _best_metrics(self) -> Mapping[str, float]:
        """Return for each model that learns the mean Dice with which its champion was judged; 0 where no gate did."""
        models = self.services.learning.models
        changes = models.changes
        with self._turn:
            if changes != self._changes:
                self._best = {model.name: self._dice(model.name) for model in models.all()}
                self._changes = changes
            return self._best

    def _dice(self, model: str) -> float:
        champion = self.services.learning.models.champion(model)
        for made in reversed(self.services.learning.models.promotions(model)):
            if made.version == champion and made.evidence is not None:
                try:
                    return _mean_dice(self.services.learning.blobs.read(made.evidence))
                except StorageFailed:
                    return 0.0  # evidence of another version of this program is shown nowhere
        return 0.0


def _mean_dice(evidence: bytes) -> float:
    """Return the mean Dice over cases and segments with which a challenger was judged."""
    scores = [work.dice for case in read_evidence(evidence).cases for work in case.challenger.values()]
    return round(sum(scores) / len(scores), 4) if scores else 0.0
