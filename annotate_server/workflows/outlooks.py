"""Outlooks: what stored drafts tell of the cases that wait, from their headers: no voxel is read."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.project import Project, WorkItem
from annotate_server.domain.store_ports import Blobs, PredictionStore
from annotate_server.domain.stored import StoredLayer, StoredPrediction
from annotate_server.domain.strategy import OpenCase
from annotate_server.workflows.label_contents import held_in
from annotate_server.workflows.layers import unsure_of


@dataclass
class Outlooks:
    """Reads each draft's header once; may be used from several threads."""

    predictions: PredictionStore
    blobs: Blobs
    _by_blob: dict[str, tuple[frozenset[str], float | None]] = field(default_factory=dict, init=False, repr=False)
    _newest: tuple[int, Mapping[str, StoredPrediction]] | None = field(default=None, init=False, repr=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def of(self, project: Project, items: Iterable[WorkItem]) -> Mapping[str, OpenCase]:
        """Return what is known of cases of a project, by the case's id."""
        newest = self._newest_by_case()
        found = {}
        for item in items:
            prediction = newest.get(item.case_id) if item.predicted_by is not None else None
            if prediction is not None and project.apps and prediction.model not in project.apps:
                prediction = self.predictions.newest(item.case_id, project.apps)
            held, difficulty = (frozenset[str](), None) if prediction is None else self._told(prediction.layer)
            found[item.case_id] = OpenCase(item.case_id, prediction is not None, held, difficulty)
        return found

    def _newest_by_case(self) -> Mapping[str, StoredPrediction]:
        changes = self.predictions.changed.count
        with self._turn:
            known = self._newest
        if known is None or known[0] != changes:
            known = (changes, {each.case_id: each for each in self.predictions.newest_of_all()})
            with self._turn:
                self._newest = known
        return known[1]

    def _told(self, layer: StoredLayer) -> tuple[frozenset[str], float | None]:
        known = self._by_blob.get(layer.blob)
        if known is None:
            known = self._read(layer)
            self._by_blob[layer.blob] = known
        return known

    def _read(self, layer: StoredLayer) -> tuple[frozenset[str], float | None]:
        try:
            held = frozenset(segment.name for segment in held_in(self.blobs, layer))
            return held, difficulty_of(unsure_of(self.blobs, layer))
        except (OSError, StorageFailed):
            return frozenset(), None  # a draft that is gone tells nothing; who opens it hears of it


def difficulty_of(unsure: Sequence[float]) -> float | None:
    """Return how unsure a model was of a draft: the mean over the slices in which it drew something.

    None where it does not say. Slices without a border are 0 and do not count: they would tell how long the volume is.
    """
    if not unsure:
        return None
    told = [each for each in unsure if each > 0]
    return round(sum(told) / len(told), 3) if told else 0.0
