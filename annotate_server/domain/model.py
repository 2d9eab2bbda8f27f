"""Models: apps, cards, versions, and what goes in and out of a prediction."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import UnknownModel
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.volume import Modality

CHAMPION = "champion"
CHALLENGER = "challenger"


@dataclass(frozen=True, slots=True)
class Locator:
    """Which model finds where a model for crops should look.

    The workflow runs `model` on a volume whose extent is larger than `max_extent_mm` along any axis, takes each
    connected part of `segment` of at least `min_volume_ml`, grows its box by `margin_mm`, and runs the model in there.
    """

    model: str
    segment: str
    max_extent_mm: float
    margin_mm: float
    min_volume_ml: float = 0.0


@dataclass(frozen=True)
class ModelCard:
    """What a model is for, what it must not be used for, and what it can do.

    `prompts` is empty for a model that only drafts. `drafts` says whether it answers without a prompt. `segments` is
    empty for a promptable model that takes any structure. `figures` are sentences with a number and how it was got.
    """

    title: str
    purpose: str
    not_for: str
    modalities: tuple[Modality, ...]
    segments: tuple[Segment, ...]
    licence: str
    attribution: str
    prompts: frozenset[PromptKind] = frozenset()
    drafts: bool = True
    trainable: bool = False
    body_part: str = ""
    locator: Locator | None = None
    min_slices: int = 3
    figures: tuple[str, ...] = ()

    def segment(self, name: str) -> Segment:
        """Return the segment of a name."""
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise UnknownModel(f"{self.title} has no segment {name!r}")


@dataclass(frozen=True)
class WeightFile:
    """One file of weights that an app asks for: its name, SHA-256 (hex), size, and where it can be had.

    `bundled` says that it lies in the app's own folder. `url` is its public address, if there is one.
    """

    name: str
    sha256: str
    size_bytes: int
    url: str | None = None
    bundled: bool = False


@dataclass(frozen=True)
class App:
    """A folder of data that makes one model available.

    `parameters` are the backend's own: each backend parses them into its own type and names what is wrong.
    `digest` is the SHA-256 of the description, so that another description is another version. `recipe` says how it is
    trained; None for the usual one.
    """

    name: str
    folder: Path
    backend: str
    card: ModelCard
    weights: tuple[WeightFile, ...]
    parameters: Mapping[str, object]
    digest: str
    recipe: Recipe | None = None


@dataclass(frozen=True)
class ModelVersion:
    """Weights and description, fixed for ever: what is loaded, and what a label names as its origin.

    `files` are the installed weights by the names that the app gives them. `known_id` is the identity of a version
    that another installation runs, whose weights are not here.
    """

    app: App
    files: Mapping[str, Path] = field(default_factory=dict)
    known_id: str | None = None

    @property
    def model(self) -> str:
        """Return the name of the model."""
        return self.app.name

    @property
    def id(self) -> str:
        """Return the version's identity: the first 12 digits of the digest over description and weights."""
        if self.known_id is not None:
            return self.known_id
        parts = [self.app.digest, *(w.sha256 for w in self.app.weights if w.name in self.files)]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Situation:
    """What the person sees when a model is asked: an empty one asks for a whole draft.

    `draft` is the labelmap as it stands, edits included. `active` is the segment that the prompts are about.
    `locked` are indices of segments that must not change. `prompts` are all so far, oldest first.
    """

    draft: Labelmap | None = None
    active: Segment | None = None
    locked: frozenset[int] = frozenset()
    prompts: tuple[Prompt, ...] = ()

    @property
    def asks_for_draft(self) -> bool:
        """Say whether no prompt was given."""
        return not self.prompts


@dataclass(frozen=True)
class Prediction:
    """What a model returns: the labels in a box of the reference volume's grid.

    `labels` is (k, j, i) of the box's shape, uint8 or uint16, values are indices of `segments`. Outside the box the
    model has no opinion for a prompt, and background for a whole draft. `uncertainty` is 0 (sure) to 1, of the same
    shape, where the model offers it. `notes` are sentences for a person (what was cut off, what was assumed).
    """

    box: Box
    labels: NDArray[np.uint8] | NDArray[np.uint16]
    segments: tuple[Segment, ...]
    uncertainty: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse labels that do not fill the box."""
        if self.labels.shape != self.box.shape:
            raise ValueError(f"labels of shape {self.labels.shape} in a box of shape {self.box.shape}")
