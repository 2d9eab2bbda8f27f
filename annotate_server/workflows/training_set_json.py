"""Training sets from the bytes of their `content`."""

import json
from collections.abc import Mapping
from typing import Any

from annotate_server.domain.errors import AnnotateError, StorageFailed
from annotate_server.domain.labelmap import CodedConcept, Segment
from annotate_server.domain.training import Part, TrainingEntry, TrainingSet


def read_training_set(content: bytes) -> TrainingSet:
    """Return the set whose `content` this is; raises StorageFailed for anything else."""
    try:
        table = json.loads(content)
        return TrainingSet(
            project_id=str(table["project_id"]),
            segments=_segments(table["segments"]),
            entries=tuple(_entry(entry) for entry in table["entries"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, AnnotateError) as error:
        raise StorageFailed(f"a training set cannot be read ({type(error).__name__}: {error})") from error


def _entry(table: Mapping[str, Any]) -> TrainingEntry:
    return TrainingEntry(
        case_id=str(table["case_id"]),
        label_id=str(table["label_id"]),
        patient=str(table["patient"]),
        part=Part(table["part"]),
        segments=_segments(table["segments"]),
        site=str(table["site"]),
        is_new=bool(table["is_new"]),
        is_partial=bool(table["is_partial"]),
    )


def _segments(tables: list[Mapping[str, Any]]) -> tuple[Segment, ...]:
    return tuple(_segment(table) for table in tables)


def _segment(table: Mapping[str, Any]) -> Segment:
    red, green, blue = (int(part) for part in table["colour"])
    category = _concept(table["category"])
    if category is None:
        raise ValueError("a segment has a category")
    return Segment(
        index=int(table["index"]),
        name=str(table["name"]),
        colour=(red, green, blue),
        kind=_concept(table["kind"]),
        category=category,
        laterality=_concept(table["laterality"]),
    )


def _concept(table: Mapping[str, Any] | None) -> CodedConcept | None:
    if table is None:
        return None
    return CodedConcept(str(table["value"]), str(table["scheme"]), str(table["meaning"]))
