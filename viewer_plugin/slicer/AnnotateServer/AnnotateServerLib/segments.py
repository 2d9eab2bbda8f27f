"""Segments: how the server says them, how Slicer keeps them, and which is which.

A segment of the server and one of Slicer are the same where their codes agree, else where their names do; never by
their position. What is matched once carries the server's index as a tag.
"""

from __future__ import annotations

from typing import NamedTuple

import vtk

INDEX_TAG = "AnnotateServer.Index"
TERMINOLOGY_TAG = "TerminologyEntry"
_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGIONS = "Anatomic codes - DICOM master list"
_ANATOMICAL_STRUCTURE = ("123037004", "SCT", "Anatomical Structure")
_TISSUE = ("85756007", "SCT")
_SEPARATORS = str.maketrans(dict.fromkeys("~^|\n\r", " "))
Code = tuple[str, str, str]


class Segment(NamedTuple):
    """A segment of the server: its index in the voxels, name, colour (0 to 255), and codes (value, scheme, meaning)."""

    index: int
    name: str
    colour: tuple[int, int, int]
    kind: Code | None = None
    category: Code | None = None
    laterality: Code | None = None

    def as_json(self) -> dict:
        """Return it as the server takes it."""
        codes = ("kind", "category", "laterality")
        return {
            "index": self.index,
            "name": self.name,
            "colour": list(self.colour),
            **{name: list(getattr(self, name)) for name in codes if getattr(self, name)},
        }

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the codes that say what it is; none where it has no kind."""
        if self.kind is None:
            return ()
        side = self.laterality[:2] if self.laterality else ()
        return (*self.kind[:2], *side)

    @property
    def key(self) -> str:
        """Return the name as it is compared."""
        return self.name.strip().casefold()

    @property
    def entry(self) -> str:
        """Return the codes as Slicer writes them (category, type, modifier, anatomic region); empty without codes."""
        if self.kind is None:
            return ""
        parts = (self.category or _ANATOMICAL_STRUCTURE, self.kind, self.laterality)
        return "~".join([_CONTEXT, *map(_triplet, parts), _REGIONS, "^^", "^^"])


def segment_of(told: dict) -> Segment:
    """Return a segment from the server's JSON."""
    kind, category, laterality = (_code(told.get(name)) for name in ("kind", "category", "laterality"))
    red, green, blue = told["colour"]
    return Segment(int(told["index"]), str(told["name"]), (red, green, blue), kind, category, laterality)


def described(host: object, index: int) -> Segment:
    """Return a vtkSegment as a segment of the server."""
    text = vtk.mutable("")
    entry = str(text) if host.GetTag(TERMINOLOGY_TAG, text) else ""
    category, kind, side = concepts_of(entry)
    red, green, blue = (round(255 * part) for part in host.GetColor())
    return Segment(index, (host.GetName() or f"Segment {index}")[:200], (red, green, blue), kind, category, side)


def concepts_of(entry: str) -> tuple[Code | None, Code | None, Code | None]:
    """Return category, kind and laterality of a terminology entry; None for what it leaves open.

    `Tissue` as category and type is what Slicer writes where nobody said anything.
    """
    parts = [*entry.split("~"), "", "", "", ""]
    category, kind, side = (_concept(part) for part in parts[1:4])
    if kind is not None and kind[:2] == _TISSUE:
        return None, None, None
    return category, kind, side


def write(segment: Segment, host: object) -> None:
    """Give a vtkSegment the name, colour and codes of a segment, and its index as a tag."""
    if host.GetName() != segment.name:
        host.SetName(segment.name)
    colour = [part / 255 for part in segment.colour]
    if [round(255 * part) for part in host.GetColor()] != list(segment.colour):
        host.SetColor(*colour)
    host.SetTag(INDEX_TAG, str(segment.index))
    if segment.entry and described(host, segment.index).codes != segment.codes:
        host.SetTag(TERMINOLOGY_TAG, segment.entry)


def index_of(host: object) -> int | None:
    """Return the server's index that a vtkSegment carries; None for one that the server does not know."""
    text = vtk.mutable("")
    return int(str(text)) if host.GetTag(INDEX_TAG, text) and str(text).isdigit() else None


def matched(segments: tuple[Segment, ...], segmentation: object) -> dict:
    """Return the id in a vtkSegmentation of each segment that is there, by the server's index."""
    there = {}
    for at in range(segmentation.GetNumberOfSegments()):
        there[segmentation.GetNthSegmentID(at)] = described(segmentation.GetNthSegment(at), 0)
    found = {}
    for agrees in (_is_alike, _has_codes, _has_name):
        for segment in segments:
            if segment.index in found:
                continue
            fitting = [name for name, host in there.items() if agrees(segment, host)]
            if len(fitting) == 1:
                found[segment.index] = fitting[0]
                del there[fitting[0]]
    return found


def _is_alike(one: Segment, other: Segment) -> bool:
    return one.codes == other.codes and one.key == other.key


def _has_codes(one: Segment, other: Segment) -> bool:
    return bool(one.codes) and one.codes == other.codes


def _has_name(one: Segment, other: Segment) -> bool:
    contradicts = one.codes and other.codes and one.codes != other.codes
    return one.key == other.key and not contradicts


def _code(told: list | None) -> Code | None:
    if told is None:
        return None
    value, scheme, meaning = told
    return str(value), str(scheme), str(meaning)


def _triplet(code: Code | None) -> str:
    if code is None:
        return "^^"
    value, scheme, meaning = (part.translate(_SEPARATORS) for part in code)
    return f"{scheme}^{value}^{meaning}"


def _concept(triplet: str) -> Code | None:
    scheme, value, meaning = [*triplet.strip().split("^"), "", "", ""][:3]
    return (value, scheme, meaning or value) if value and scheme else None
