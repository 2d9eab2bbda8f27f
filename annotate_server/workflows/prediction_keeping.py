"""Predictions of a batch go into the workspace: the session that opens the case later starts from them."""

import uuid
from dataclasses import dataclass

from annotate_server.domain.case import Case, StoredVolume, case_id
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.store_ports import Blobs, CaseStore, PredictionStore
from annotate_server.domain.stored import StoredPrediction
from annotate_server.domain.volume import Volume
from annotate_server.workflows.answer import facts_of
from annotate_server.workflows.layers import keep_layer
from annotate_server.workflows.predict import DraftResult


@dataclass(frozen=True)
class PredictionKeeper:
    """Fulfils `drafter.Keep`."""

    cases: CaseStore
    predictions: PredictionStore
    blobs: Blobs
    clock: Clock = now

    def __call__(self, stored: StoredVolume, volume: Volume, result: DraftResult) -> None:
        """Keep a draft with the case that it is of."""
        identity = case_id(stored, volume.digest)
        self.cases.put([Case(identity, stored.patient, {str(stored.modality or "volume"): stored})])
        self.cases.learn(identity, facts_of(volume))
        made = StoredPrediction(
            uuid.uuid4().hex,
            identity,
            result.version.model,
            result.version.id,
            keep_layer(self.blobs, result.labelmap, result.unsure),
            self.clock(),
            result.notes,
        )
        self.predictions.add(made)
