"""What the web process asks of the worker processes: questions of names and numbers, voxels by file."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.helper import HelperOrder
from annotate_server.domain.job import Job
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import Prediction
from annotate_server.domain.prompt import Prompt
from annotate_server.domain.stored import KnownCase, StoredLayer, VolumeFacts
from annotate_server.domain.volume import Modality


@dataclass(frozen=True)
class VolumePlace:
    """A volume to work on: how it is stored, and what a person declared of it.

    `digest` is that of its voxels where they were read before: they are then taken from the cache of the workspace.
    """

    stored: StoredVolume
    modality: Modality | None = None
    digest: str | None = None

    @classmethod
    def of(cls, case: KnownCase) -> "VolumePlace":
        """Return where the reference volume of a case is."""
        return cls(case.case.reference, case.declared, case.facts.digest if case.facts else None)


@dataclass(frozen=True)
class DraftPlace:
    """A session's draft on disk: raw voxels (k, j, i) of `dtype` in one file, mapped read-only by whoever asks."""

    path: Path
    dtype: str
    segments: tuple[Segment, ...]
    locked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class PromptOrder:
    """A prompt to a model: the prompts so far about the active segment, the newest last."""

    model: str
    volume: VolumePlace
    draft: DraftPlace
    active: Segment
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class HelpOrder:
    """A classical helper on a draft."""

    volume: VolumePlace
    draft: DraftPlace
    active: Segment
    helper: HelperOrder


@dataclass(frozen=True)
class Answered:
    """A prediction and who made it: the model's name and version."""

    prediction: Prediction
    model_version: str = ""


@dataclass(frozen=True)
class DraftOrder:
    """A model's whole draft of a volume: what a job of the kind `draft` asks a worker for.

    `version` is one that drafts whoever is champion, None for the champion.
    """

    model: str
    volume: VolumePlace
    version: str | None = None


@dataclass(frozen=True)
class Drafted:
    """A whole draft as a worker has put it into the store: no voxels, only where they are and who made them."""

    model: str
    version: str
    layer: StoredLayer
    facts: VolumeFacts
    notes: tuple[str, ...] = ()


class Compute(Protocol):
    """Workers that compute; every call blocks its thread until the answer is there.

    Raises the model's own errors; TooBusy where too much waits already; WorkerDied where the process died over it (it
    is replaced, so that the next call finds one); ShuttingDown.
    """

    def facts(self, volume: VolumePlace) -> VolumeFacts:
        """Read a volume into the cache and return what it tells."""
        ...

    def prompt(self, order: PromptOrder) -> Answered:
        """Answer the newest prompt."""
        ...

    def help(self, order: HelpOrder) -> Answered:
        """Carry out a helper."""
        ...


@dataclass(frozen=True)
class JobNews:
    """What a watcher of jobs is told: the job as it is now."""

    job: Job


@dataclass
class JobWatchers:
    """Who wants to hear of jobs; called from any thread, must not block."""

    watchers: list[Callable[[JobNews], None]] = field(default_factory=list)

    def tell(self, job: Job) -> None:
        """Tell everybody."""
        for watcher in tuple(self.watchers):
            watcher(JobNews(job))
