"""Models that learn: their versions, the aliases that name them, and what is known of the work that they save."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from annotate_server.domain.model import WeightFile
from annotate_server.domain.training import Part


@dataclass(frozen=True)
class LearnedModel:
    """A model of a project's own: a lineage of versions, forked from an app's or begun from labels.

    `origin` names the app that it was forked from, None where it began from nothing. A training is ordered by itself
    as soon as `every_labels` labels are approved that no version has learned from (0: never), and every night where
    `is_nightly` and there is any. `description` is the SHA-256 of the blob with the description of one that began from
    nothing, which holds until there is a version.
    """

    name: str
    project_id: str
    origin: str | None = None
    every_labels: int = 0
    is_nightly: bool = False
    description: str | None = None
    made_at: datetime | None = None


@dataclass(frozen=True)
class VersionRecord:
    """A version of a learned model as it is stored: immutable.

    `id` is that of the `ModelVersion`. `description` is the SHA-256 of the blob with the app's description (JSON of
    the same form as `app.toml`), `weights` name blobs. `training_set` is the blob with the training set, `recipe` its
    parameters as JSON, both None for what was not trained here. `job_id` is the training that made it.
    """

    id: str
    model: str
    description: str
    weights: tuple[WeightFile, ...]
    parent: str | None = None
    training_set: str | None = None
    recipe: str | None = None
    job_id: str | None = None
    seconds: float = 0.0
    made_at: datetime | None = None


class PromotionKind(StrEnum):
    """Why an alias moved, or did not."""

    FIRST = "first"
    GATE = "gate"
    PERSON = "person"
    ROLLBACK = "rollback"
    TAKE_BACK = "take-back"
    REFUSED = "refused"


@dataclass(frozen=True)
class Promotion:
    """The stored decision about a version: append-only; the newest that was not refused says who is champion.

    `previous` was champion before. `evidence` is the SHA-256 of the blob with the gate's figures (JSON), where a gate
    decided. A provisional promotion rests on few patients: the former champion drafts in its shadow.
    """

    model: str
    version: str
    kind: PromotionKind
    person: str
    reason: str = ""
    previous: str | None = None
    evidence: str | None = None
    is_provisional: bool = False
    at: datetime | None = None


@dataclass(frozen=True)
class PatientPart:
    """Which part a patient of a project was drawn for; never drawn again."""

    project_id: str
    patient: str
    part: Part
    drawn_at: datetime


@dataclass(frozen=True)
class SegmentWork:
    """How a draft of one segment differs from the label that a person made of it; lengths in mm.

    Dice, surface Dice at 2 mm, added path length (tolerance one pixel) and its share of the label's contour.
    """

    dice: float
    surface_dice: float
    apl_mm: float
    relative_apl: float


@dataclass(frozen=True)
class LabelWork:
    """What a label took, from the event log, and what a draft of it was worth before anything learned from the label.

    There is one for every version that drafted the case before it was labelled, and one without a version where none
    did. `is_shown` says that the person worked on this draft, `is_champions` that the version was champion then: these
    drafts, each scored before the label is learned from, are the unbiased learning curve. A draft that is not shown is
    one that a former champion made in the shadow of a provisional one. `prompts`, `edits`,
    `helpers` count interactions in force at the end, by their kind. `is_untouched` says that the draft was accepted
    as it was. `segments` are by name; `relative_apl` and `dice` are over all of them together.
    """

    label_id: str
    project_id: str
    model: str | None
    version: str | None
    is_champions: bool
    is_shown: bool
    active_s: float
    prompts: Mapping[str, int] = field(default_factory=dict)
    edits: int = 0
    helpers: Mapping[str, int] = field(default_factory=dict)
    is_untouched: bool = False
    dice: float | None = None
    relative_apl: float | None = None
    apl_mm: float | None = None
    segments: Mapping[str, SegmentWork] = field(default_factory=dict)
    made_at: datetime | None = None
