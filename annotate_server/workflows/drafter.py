"""Who drafts a batch: a model in this process, or a server (`client.remote_drafter`)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume
from annotate_server.workflows.predict import DraftResult, Predictor

Keep = Callable[[StoredVolume, Volume, DraftResult], None]


class Drafter(Protocol):
    """Drafts one volume after the other by one version of a model."""

    def version(self) -> ModelVersion:
        """Return the version that drafts; raises what `ModelRegistry.champion` raises."""
        ...

    def draft(self, stored: StoredVolume, volume: Volume, control: Control) -> DraftResult:
        """Return a whole draft on the volume's grid."""
        ...


@dataclass(frozen=True)
class LocalDrafter:
    """Drafts by a model in this process; `keep` is told of every draft, so that a session can open with it."""

    model: str
    predictor: Predictor
    keep: Keep | None = None

    def version(self) -> ModelVersion:
        """Return the model's champion, loaded."""
        return self.predictor.load(self.model)[0]

    def draft(self, stored: StoredVolume, volume: Volume, control: Control) -> DraftResult:
        """Return a whole draft; one that could not be kept says so in its notes."""
        result = self.predictor.draft(self.model, {str(volume.modality or "volume"): volume}, control)
        if self.keep is not None:
            try:
                self.keep(stored, volume, result)
            except StorageFailed as error:
                result = replace(result, notes=(*result.notes, f"The draft was not kept in the workspace: {error}"))
        return result
