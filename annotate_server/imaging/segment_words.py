"""Segments as text: the terminology entries of 3D Slicer, and the JSON that goes into a NIfTI labelmap."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from annotate_server.domain.errors import InvalidLabelmap
from annotate_server.domain.labelmap import ANATOMICAL_STRUCTURE, TISSUE, CodedConcept, Segment

_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGIONS = "Anatomic codes - DICOM master list"
_SEPARATORS = str.maketrans(dict.fromkeys("~^|\n\r", " "))
_KEY = "annotate_server_segments"


def terminology_entry(segment: Segment) -> str | None:
    """Return a segment's codes as Slicer writes them (category, type, modifier, anatomic region); None without codes.

    See the Slicer developer guide, "Segmentations", TerminologyEntry.
    """
    if segment.kind is None:
        return None
    parts = [_CONTEXT, *map(_triplet, (segment.category, segment.kind, segment.laterality)), _REGIONS, "^^", "^^"]
    return "~".join(parts)


def concepts_of(entry: str) -> tuple[CodedConcept | None, CodedConcept | None, CodedConcept | None]:
    """Return category, kind and laterality of a terminology entry; None for what it leaves open.

    `Tissue` as category and type is what Slicer writes where nobody said anything.
    """
    parts = [*entry.split("~"), "", "", "", ""]
    category, kind, side = (_concept(part) for part in parts[1:4])
    if _same(category, TISSUE) and _same(kind, TISSUE):
        return None, None, None
    return category, kind, side


def segments_to_json(segments: Sequence[Segment]) -> str:
    """Return the segments as JSON, so that a labelmap keeps its names where the format has no place for them."""
    return json.dumps({_KEY: [_as_mapping(segment) for segment in segments]}, ensure_ascii=False)


def segments_from_json(text: str) -> tuple[Segment, ...] | None:
    """Return the segments that `segments_to_json` wrote, None for any other text; raises InvalidLabelmap."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or _KEY not in content:
        return None
    try:
        return tuple(_from_mapping(entry) for entry in content[_KEY])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidLabelmap("the names of its segments are damaged") from error


def _as_mapping(segment: Segment) -> Mapping[str, object]:
    return {
        "index": segment.index,
        "name": segment.name,
        "colour": list(segment.colour),
        "category": _codes(segment.category),
        "kind": _codes(segment.kind),
        "laterality": _codes(segment.laterality),
    }


def _from_mapping(entry: Mapping[str, Any]) -> Segment:
    r, g, b = (int(part) for part in entry["colour"])
    kind, category, laterality = (_decoded(entry.get(key)) for key in ("kind", "category", "laterality"))
    index, name = int(entry["index"]), str(entry["name"])
    return Segment(index, name, (r, g, b), kind, category or ANATOMICAL_STRUCTURE, laterality)


def _codes(concept: CodedConcept | None) -> Sequence[str] | None:
    return None if concept is None else [concept.value, concept.scheme, concept.meaning]


def _decoded(codes: object) -> CodedConcept | None:
    if not isinstance(codes, list):
        return None
    value, scheme, meaning = (str(code) for code in codes)
    return CodedConcept(value, scheme, meaning)


def _triplet(concept: CodedConcept | None) -> str:
    """Return scheme^value^meaning."""
    if concept is None:
        return "^^"
    return "^".join(part.translate(_SEPARATORS) for part in (concept.scheme, concept.value, concept.meaning))


def _concept(triplet: str) -> CodedConcept | None:
    scheme, value, meaning = [*triplet.strip().split("^"), "", "", ""][:3]
    return CodedConcept(value, scheme, meaning) if value and scheme else None


def _same(concept: CodedConcept | None, other: CodedConcept) -> bool:
    return concept is not None and (concept.value, concept.scheme) == (other.value, other.scheme)
