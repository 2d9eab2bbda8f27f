"""The nouns as columns of text, and back: what comes out equals what went in."""

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from sqlalchemy import ColumnElement, RowMapping, func, select

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.stored import StoredLayer, VolumeFacts
from annotate_server.domain.volume import Modality
from annotate_server.imaging.geometry_json import geometry_as_json, geometry_of_json
from annotate_server.imaging.segment_json import segment_as_json, segment_of_json
from annotate_server.stores.stored_volume_json import stored_volume_as_json, stored_volume_of_json


def json_text(value: object) -> str:
    """Return JSON in ASCII: a file name that is no UTF-8 survives it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def time_text(at: datetime) -> str:
    """Return a time as text that sorts as times do."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def optional_time_text(at: datetime | None) -> str | None:
    """Return a time as text where there is one."""
    return None if at is None else time_text(at)


def time_of(text: str | None) -> datetime | None:
    """Return the time of a text where there is one."""
    return None if text is None else datetime.fromisoformat(text)


def optional_modality(text: str | None) -> Modality | None:
    """Return a modality where there is one."""
    return None if text is None else Modality(text)


def among(column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
    """Return the condition that a column holds one of `values`: one parameter, however many there are."""
    listed = func.json_each(json_text(list(values))).table_valued("value")
    return column.in_(select(listed.c.value))


def segments_text(segments: Iterable[Segment]) -> str:
    """Return segments as text."""
    return json_text([segment_as_json(segment) for segment in segments])


@lru_cache(maxsize=512)
def geometry_of(text: str) -> Geometry:
    """Return the grid of a text; the same few are asked for again and again."""
    return geometry_of_json(json.loads(text))


@lru_cache(maxsize=512)
def segments_of(text: str) -> tuple[Segment, ...]:
    """Return the segments of a text."""
    return tuple(segment_of_json(value) for value in json.loads(text))


def layer_columns(layer: StoredLayer) -> Mapping[str, str]:
    """Return a layer as the columns blob, geometry and segments."""
    return {
        "blob": layer.blob,
        "geometry": json_text(geometry_as_json(layer.geometry)),
        "segments": segments_text(layer.segments),
    }


def layer_of(row: RowMapping | Mapping[str, str]) -> StoredLayer:
    """Return the layer of a row that has the columns blob, geometry and segments."""
    return StoredLayer(row["blob"], geometry_of(row["geometry"]), segments_of(row["segments"]))


def box_text(box: Box) -> str:
    """Return a box as text."""
    return json_text([box.start, box.stop])


def box_of(text: str) -> Box:
    """Return the box of a text."""
    start, stop = json.loads(text)
    return Box(tuple(start), tuple(stop))


def prompt_text(prompt: Prompt) -> str:
    """Return a prompt as text."""
    return json_text([prompt.kind, prompt.points_mm, prompt.segment, prompt.positive])


def prompt_of(text: str) -> Prompt:
    """Return the prompt of a text."""
    kind, points, segment, positive = json.loads(text)
    return Prompt(PromptKind(kind), tuple((x, y, z) for x, y, z in points), segment, positive)


def facts_text(facts: VolumeFacts) -> str:
    """Return what is known of voxels as text."""
    geometry = geometry_as_json(facts.geometry)
    return json_text([facts.digest, geometry, facts.modality, facts.unit, facts.warnings])


def facts_of(text: str) -> VolumeFacts:
    """Return what is known of voxels."""
    digest, geometry, modality, unit, warnings = json.loads(text)
    return VolumeFacts(digest, geometry_of_json(geometry), optional_modality(modality), unit, tuple(warnings))


def volumes_text(volumes: Mapping[str, StoredVolume]) -> str:
    """Return stored volumes by role as text; the first stays the first."""
    return json_text([[role, stored_volume_as_json(stored)] for role, stored in volumes.items()])


def volumes_of(text: str) -> Mapping[str, StoredVolume]:
    """Return the stored volumes by role."""
    return {role: stored_volume_of_json(parts) for role, parts in json.loads(text)}
