"""Segments as JSON: one spelling for frames, the store and the API."""

from collections.abc import Mapping
from typing import Any

from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.labelmap import ANATOMICAL_STRUCTURE, CodedConcept, Segment


def segment_as_json(segment: Segment) -> Mapping[str, object]:
    """Return a segment as JSON values; a code is [value, scheme, meaning]."""
    return {
        "index": segment.index,
        "name": segment.name,
        "colour": list(segment.colour),
        "kind": _code(segment.kind),
        "category": _code(segment.category),
        "laterality": _code(segment.laterality),
    }


def segment_of_json(value: Mapping[str, Any]) -> Segment:
    """Return the segment of JSON values; raises InvalidRequest or InvalidLabelmap."""
    try:
        red, green, blue = (int(part) for part in value["colour"])
        return Segment(
            index=int(value["index"]),
            name=str(value["name"]),
            colour=(red, green, blue),
            kind=_concept(value.get("kind")),
            category=_concept(value.get("category")) or ANATOMICAL_STRUCTURE,
            laterality=_concept(value.get("laterality")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidRequest(f"a segment is not valid ({type(error).__name__}: {error})") from error


def _code(concept: CodedConcept | None) -> list[str] | None:
    return None if concept is None else [concept.value, concept.scheme, concept.meaning]


def _concept(value: object) -> CodedConcept | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise TypeError("a code is [value, scheme, meaning]")
    code, scheme, meaning = (str(part) for part in value)
    return CodedConcept(code, scheme, meaning)
