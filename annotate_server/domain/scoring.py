"""Scoring: what the web process asks a worker about a label and the drafts that were made before it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from annotate_server.domain.compute import Drafted, VolumePlace
from annotate_server.domain.learning import SegmentWork
from annotate_server.domain.stored import StoredLayer


@dataclass(frozen=True)
class MadeDraft:
    """A draft that is in the store, and which version made it."""

    model: str
    version: str
    layer: StoredLayer


@dataclass(frozen=True)
class WantedDraft:
    """A version that has not drafted the case: it does so now, before anything learns from the label."""

    model: str
    version: str


@dataclass(frozen=True)
class ScoreOrder:
    """A label against drafts of its case: what a job of the kind `score` asks a worker for.

    `layers` are the label's. Of a partial label only the slices count in which it holds something.
    """

    layers: tuple[StoredLayer, ...]
    volume: VolumePlace
    is_partial: bool = False
    made: tuple[MadeDraft, ...] = ()
    wanted: tuple[WantedDraft, ...] = ()


@dataclass(frozen=True)
class DraftScore:
    """How a version's draft differs from the label that a person made; lengths in mm.

    `dice` and the added path length are over all segments that both speak about, together; None where there is none.
    `is_untouched` says that the label is the draft, voxel by voxel. `segments` are by the name in the draft.
    """

    model: str
    version: str
    is_untouched: bool
    dice: float | None = None
    apl_mm: float | None = None
    relative_apl: float | None = None
    segments: Mapping[str, SegmentWork] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """What came of a score: figures, the drafts that were made for it, and why others were not."""

    scores: tuple[DraftScore, ...] = ()
    drafted: tuple[Drafted, ...] = ()
    notes: tuple[str, ...] = ()
