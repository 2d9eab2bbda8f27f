"""Between the words of MONAI Label's clients and ours: pure functions, no store and no request."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from annotate_server.domain.dicom_uids import is_uid
from annotate_server.domain.errors import InvalidPrompt, InvalidRequest
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.labelmap import LabelVoxels, Segment
from annotate_server.domain.model import ModelCard
from annotate_server.domain.project import Project
from annotate_server.domain.prompt import Prompt, PromptKind

Json = dict[str, Any]

EXTENSION = ".nrrd"
LABEL_EXTENSION = ".seg.nrrd"
FINAL, ORIGINAL, VERSION = "final", "original", "version_"
ANY_PROJECT = "any"
FIRST, RANDOM, LAST = "first", "random", "last"
"""Strategies by the names that clients know; the server's own go by theirs."""
SCRIBBLES = "_scribbles"
"""What a model is called where it is offered again, for scribbles: clients ask each type of model in its own way."""
SCORING = {"dice": "How well drafts agreed with the labels that people made of them"}
"""By what labels are scored."""
STRUCTURE = "structure"
"""What a segment is called that a client asks about without a name."""
_MOST_POINTS, _MOST_NAME = 500, 256
_LONGEST_PARAMS = 1 << 20


# What is offered


def model_type(card: ModelCard) -> str:
    """Return the kind of model that a client takes it for: what it may be asked decides."""
    if not card.prompts:
        return "segmentation"
    return "deepedit" if card.segments else "deepgrow"


def numbered(segments: Iterable[Segment]) -> dict[str, int]:
    """Return the segments as clients number them: 1 to N without a gap, in their order."""
    ordered = sorted(segments, key=lambda segment: segment.index)
    return {segment.name: number for number, segment in enumerate(ordered, 1)}


def renumbering(segments: Iterable[Segment]) -> LabelVoxels:
    """Return the table from our indices to a client's numbers."""
    listed = tuple(segments)
    largest = max((segment.index for segment in listed), default=0)
    numbers = numbered(listed)
    size = 256 if largest <= 255 else 65536
    table: LabelVoxels = np.zeros(size, np.uint8) if len(listed) <= 255 else np.zeros(size, np.uint16)
    for segment in listed:
        table[segment.index] = numbers[segment.name]
    return table


@dataclass(frozen=True)
class Standing:
    """How many cases there are, and how many of them have a label."""

    total: int
    completed: int

    def words(self) -> Json:
        """Return it as clients read it."""
        tags = {FINAL: self.completed} if self.completed else {}
        return {"total": self.total, "completed": self.completed, "label_tags": tags}


@dataclass(frozen=True)
class Offered:
    """What the server has: models by name, projects, its own strategies by name, and how far trainings are."""

    models: Mapping[str, ModelCard]
    projects: Sequence[Project]
    strategies: Sequence[str] = ()
    train_stats: Mapping[str, Json] = field(default_factory=dict)


def server_words(version: str, offered: Offered, standing: Standing) -> Json:
    """Return what `/info/` says. A key `config` at the top would send Slicer away."""
    models = offered.models
    names = dict.fromkeys(name for card in models.values() for name in _labels_of(card))
    return {
        "name": "annotate-server",
        "description": "AI-assisted annotation of CT and MR volumes",
        "version": version,
        "labels": list(names),
        "models": {
            **{name: _model_words(card, model_type(card)) for name, card in models.items()},
            **{
                f"{name}{SCRIBBLES}": _model_words(card, "scribbles")
                for name, card in models.items()
                if _scribbled(card)
            },
        },
        "trainers": {
            name: {"description": card.title, "config": {}, "labels": _labels_of(card)}
            for name, card in models.items()
            if card.trainable
        },
        "strategies": _strategies(offered),
        "scoring": {name: {"description": words, "config": {}} for name, words in SCORING.items()},
        "train_stats": dict(offered.train_stats),
        "datastore": standing.words(),
    }


def _labels_of(card: ModelCard) -> dict[str, int]:
    """Return what a model draws; one that takes any structure has one label, so that a client has one to click for."""
    return numbered(card.segments) or {STRUCTURE: 1}


def _scribbled(card: ModelCard) -> bool:
    return PromptKind.SCRIBBLE in card.prompts and not card.segments


def _model_words(card: ModelCard, kind: str) -> Json:
    return {
        "type": kind,
        "labels": _labels_of(card),
        "dimension": 3,
        "description": f"{card.title}. {card.purpose} Not for: {card.not_for}",
        "config": {},
    }


def _strategies(offered: Offered) -> Json:
    choices = {"project": [ANY_PROJECT, *(project.id for project in offered.projects)]}
    told = {
        FIRST: "The case that the project suggests first",
        RANDOM: "Any case",
        LAST: "The case that the project suggests last",
    }
    told |= {name: f"The case that comes first by the strategy {name}" for name in offered.strategies if name != RANDOM}
    return {
        name: {"description": f"{words}, of those without a label that nobody works on", "config": choices}
        for name, words in told.items()
    }


# What is asked


def params_of(text: str) -> Json:
    """Return the parameters of a request; InvalidRequest where they are no JSON object."""
    if len(text) > _LONGEST_PARAMS:
        raise InvalidRequest("the parameters are too long")
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("params is not JSON") from error
    if not isinstance(found, dict):
        raise InvalidRequest("params is no JSON object")
    return found


@dataclass(frozen=True)
class InferWords:
    """What is read of the parameters of an inference, and nothing else is: no key of them names a file.

    `clicks` are voxels (i, j, k) by the name of what they belong to, `background` those that belong to nothing. `roi`
    is a box (i, i, j, j, k, k), ends included. `name` is the segment that a client speaks about.
    """

    clicks: Mapping[str, tuple[tuple[int, int, int], ...]]
    background: tuple[tuple[int, int, int], ...] = ()
    roi: tuple[int, ...] = ()
    name: str = STRUCTURE
    is_packed: bool = False

    @property
    def has_prompts(self) -> bool:
        """Say whether anything was pointed at."""
        return bool(self.roi or any(self.clicks.values()))


def infer_words(params: Json, names: Iterable[str]) -> InferWords:
    """Return what the parameters of an inference ask for; `names` are the segments that may be clicked at.

    Understands the forms of deepgrow (`foreground`, `background`, `label`) and deepedit (a list for each name).
    Raises InvalidRequest and InvalidPrompt.
    """
    name = named_words(params.get("label")) or named_words(params.get("selected_label_name")) or STRUCTURE
    known = {*names, name, STRUCTURE} - {"background", "foreground", "roi", "label", "slice"}
    clicks = {each: _points(params[each], each) for each in known if isinstance(params.get(each), list)}
    if foreground := _points(params.get("foreground") or [], "foreground"):
        clicks[name] = (*clicks.get(name, ()), *foreground)
    ordered = {each: clicks[each] for each in sorted(clicks) if clicks[each]}
    if sum(map(len, ordered.values())) > _MOST_POINTS:
        raise InvalidPrompt(f"there are more than {_MOST_POINTS} points")
    return InferWords(
        clicks=ordered,
        background=_points(params.get("background") or [], "background"),
        roi=_roi(params.get("roi") or []),
        name=name,
        is_packed=params.get("result_compress") is True,
    )


def named_words(value: object) -> str:
    """Return a name that a client gives, cut off where it is too long; nothing for what is none."""
    return value.strip()[:_MOST_NAME] if isinstance(value, str) else ""


def _points(value: object, name: str) -> tuple[tuple[int, int, int], ...]:
    if not isinstance(value, list) or len(value) > _MOST_POINTS:
        raise InvalidPrompt(f"{name[:_MOST_NAME]} is no list of at most {_MOST_POINTS} points")
    points = []
    for each in value:
        if not isinstance(each, list) or len(each) != 3 or not all(_is_number(n) for n in each):
            raise InvalidPrompt(f"{name[:_MOST_NAME]} holds a point that is not three voxel indices")
        i, j, k = (round(n) for n in each)
        points.append((i, j, k))
    return tuple(points)


def _roi(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) not in (0, 6) or not all(_is_number(n) for n in value):
        raise InvalidPrompt("roi is no list of six voxel indices")
    return tuple(round(n) for n in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


# Where it is asked


def is_series(image: str) -> bool:
    """Say whether an image is named by its SeriesInstanceUID, as viewers of DICOM do: no case's id has a dot."""
    return "." in image and is_uid(image)


def is_turned(geometry: Geometry) -> bool:
    """Say whether slices run against the normal of their rows and columns: a DICOM viewer shows the last one first."""
    k, j, i = np.array(geometry.direction)
    return bool(np.dot(np.cross(i, j), k) < 0)


def turned(geometry: Geometry) -> Geometry:
    """Return the same voxels counted from the last slice."""
    last = geometry.world([[geometry.shape[0] - 1, 0, 0]])[0]
    k, j, i = geometry.direction
    origin = (float(last[0]), float(last[1]), float(last[2]))
    return replace(geometry, direction=((-k[0], -k[1], -k[2]), j, i), origin_mm=origin)


def prompts_about(name: str, words: InferWords, geometry: Geometry, index: int) -> tuple[Prompt, ...]:
    """Return the prompts about one segment, in LPS mm: a box first, then its voxels, then those of everything else.

    `geometry` is the grid as the client counts it. What belongs to another segment does not belong to this one.
    """
    found = [_box(words.roi, geometry, index)] if words.roi and name == words.name else []
    mine = words.clicks.get(name, ())
    others = [point for other, points in words.clicks.items() if other != name for point in points]
    for points, is_positive in ((mine, True), ((*words.background, *others), False)):
        found.extend(_point(point, geometry, (index, is_positive)) for point in points)
    return tuple(found)


def _point(voxel: tuple[int, int, int], geometry: Geometry, about: tuple[int, bool]) -> Prompt:
    i, j, k = voxel
    if any(not 0 <= n < length for n, length in zip((k, j, i), geometry.shape, strict=True)):
        raise InvalidPrompt(f"the voxel {i}, {j}, {k} lies outside the volume")
    x, y, z = (float(n) for n in geometry.world([[k, j, i]])[0])
    return Prompt(PromptKind.POINT, ((x, y, z),), *about)


def _box(roi: tuple[int, ...], geometry: Geometry, index: int) -> Prompt:
    i0, i1, j0, j1, k0, k1 = roi
    whole = Box.whole(geometry.shape)
    low = [max(0, min(pair)) for pair in ((k0, k1), (j0, j1), (i0, i1))]
    high = [min(n - 1, max(pair)) for n, pair in zip(whole.stop, ((k0, k1), (j0, j1), (i0, i1)), strict=True)]
    if any(a > b for a, b in zip(low, high, strict=True)):
        raise InvalidPrompt("roi lies outside the volume")
    corners = [tuple(float(n) for n in corner) for corner in geometry.world([low, high])]
    return Prompt(
        PromptKind.BOX,
        ((corners[0][0], corners[0][1], corners[0][2]), (corners[1][0], corners[1][1], corners[1][2])),
        index,
    )
