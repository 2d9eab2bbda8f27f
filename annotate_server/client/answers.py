"""What a server says, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from annotate_server.domain.errors import Problem
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.imaging.segment_json import segment_of_json

Json = Mapping[str, Any]


@dataclass(frozen=True)
class RemoteProject:
    """A project."""

    id: str
    title: str
    segments: tuple[Segment, ...]
    apps: tuple[str, ...]
    review: str

    @classmethod
    def of(cls, value: Json) -> Self:
        """Return it from JSON values."""
        return cls(value["id"], value["title"], segments_of(value["segments"]), tuple(value["apps"]), value["review"])


@dataclass(frozen=True)
class RemoteCase:
    """A case; `geometry` is there once the server has read its voxels."""

    id: str
    name: str
    patient: str
    modality: str | None
    study_uid: str | None
    series_uid: str | None
    geometry: Geometry | None
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, value: Json) -> Self:
        """Return it from JSON values."""
        return cls(
            id=value["id"],
            name=value["name"],
            patient=value["patient"],
            modality=value["modality"],
            study_uid=value["study_uid"],
            series_uid=value["series_uid"],
            geometry=_geometry(value["geometry"], value["frame_of_reference"]),
            warnings=tuple(value["warnings"]),
        )


@dataclass(frozen=True)
class RemoteDecision:
    """A decision about a version: why it serves, or does not."""

    version: str
    kind: str
    person: str
    reason: str
    previous: str | None
    provisional: bool
    at: str | None

    @classmethod
    def of(cls, value: Json) -> Self:
        """Return it from JSON values."""
        return cls(**{name: value[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class RemoteLearned:
    """What is known of a model that learns: the versions, oldest first, and the decisions about them."""

    project: str
    origin: str | None
    champion: str | None
    former: str | None
    challenger: str | None
    provisional: bool
    waiting_labels: int
    missing_labels: int
    versions: tuple[str, ...]
    decisions: tuple[RemoteDecision, ...]

    @classmethod
    def of(cls, value: Json) -> Self:
        """Return it from JSON values."""
        return cls(
            project=value["project"],
            origin=value["origin"],
            champion=value["champion"],
            former=value["former"],
            challenger=value["challenger"],
            provisional=value["provisional"],
            waiting_labels=value["waiting_labels"],
            missing_labels=value["missing_labels"],
            versions=tuple(version["id"] for version in value["versions"]),
            decisions=tuple(RemoteDecision.of(decision) for decision in value["decisions"]),
        )


@dataclass(frozen=True)
class RemoteModel:
    """A model; `state` is ready, weights-missing, untrained or unavailable."""

    name: str
    state: str
    reason: str
    version: str | None
    modalities: tuple[str, ...]
    segments: tuple[Segment, ...]
    prompts: tuple[str, ...]
    drafts: bool
    learned: RemoteLearned | None = None

    @classmethod
    def of(cls, value: Json) -> Self:
        """Return it from JSON values."""
        card = value["card"] or {"modalities": [], "segments": [], "prompts": [], "drafts": False}
        return cls(
            name=value["name"],
            state=value["state"],
            reason=value["reason"],
            version=value["version"],
            modalities=tuple(card["modalities"]),
            segments=segments_of(card["segments"]),
            prompts=tuple(card["prompts"]),
            drafts=card["drafts"],
            learned=None if value["learned"] is None else RemoteLearned.of(value["learned"]),
        )


@dataclass(frozen=True)
class RemoteJob:
    """A job."""

    id: str
    state: str
    progress: float
    message: str
    order: Mapping[str, str]
    result: Mapping[str, str]
    problem: Problem | None
    has_ended: bool

    @classmethod
    def of(cls, value: Json) -> Self:
        """Return it from JSON values."""
        problem = value["problem"]
        return cls(
            id=value["id"],
            state=value["state"],
            progress=value["progress"],
            message=value["message"],
            order=value["order"],
            result=value["result"],
            problem=None if problem is None else Problem(problem["type"], problem["title"], problem["detail"]),
            has_ended=value["has_ended"],
        )


@dataclass(frozen=True)
class RemoteLabel:
    """A label."""

    id: str
    project: str
    case: str
    author: str
    state: str
    parent: str | None
    model_version: str | None
    events: int
    active_s: float
    layers: tuple[tuple[Segment, ...], ...]
    reviewer: str | None
    comment: str
    is_partial: bool

    @classmethod
    def of(cls, value: Json) -> Self:
        """Return it from JSON values."""
        return cls(
            id=value["id"],
            project=value["project"],
            case=value["case"],
            author=value["author"],
            state=value["state"],
            parent=value["parent"],
            model_version=value["model_version"],
            events=value["events"],
            active_s=value["active_s"],
            layers=tuple(segments_of(layer) for layer in value["layers"]),
            reviewer=value["reviewer"],
            comment=value["comment"],
            is_partial=value["is_partial"],
        )


@dataclass(frozen=True)
class RemotePrediction:
    """A stored whole draft."""

    id: str
    case: str
    model: str
    version: str
    segments: tuple[Segment, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, value: Json) -> Self:
        """Return it from JSON values."""
        notes = tuple(value["notes"])
        return cls(value["id"], value["case"], value["model"], value["version"], segments_of(value["segments"]), notes)


@dataclass(frozen=True)
class RemoteSession:
    """A session as a list or an opening tells it."""

    id: str
    project: str
    case: str
    person: str
    state: str
    revision: int
    segments: tuple[Segment, ...]
    locked: frozenset[int]
    active_s: float

    @classmethod
    def of(cls, value: Json) -> Self:
        """Return it from JSON values."""
        return cls(
            id=value["id"],
            project=value["project"],
            case=value["case"],
            person=value["person"],
            state=value["state"],
            revision=value["revision"],
            segments=segments_of(value["segments"]),
            locked=frozenset(value["locked"]),
            active_s=value["active_s"],
        )


@dataclass(frozen=True)
class RemoteWorkItem:
    """Where a case stands in a project; `predicted_by` is the model whose draft a session would open with."""

    case: str
    status: str
    person: str | None
    label: str | None
    reason: str
    predicted_by: str | None

    @classmethod
    def of(cls, value: Json) -> Self:
        """Return it from JSON values."""
        names = ("case", "status", "person", "label", "reason", "predicted_by")
        return cls(*(value[name] for name in names))


def segments_of(values: list[Json]) -> tuple[Segment, ...]:
    """Return segments from JSON values."""
    return tuple(segment_of_json(value) for value in values)


def _geometry(value: Json | None, frame_of_reference: str | None) -> Geometry | None:
    if value is None:
        return None
    k, j, i = value["shape"]
    a, b, c = (_vector(axis) for axis in value["direction"])
    return Geometry((k, j, i), _vector(value["spacing_mm"]), (a, b, c), _vector(value["origin_mm"]), frame_of_reference)


def _vector(values: list[float]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
