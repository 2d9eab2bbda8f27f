"""A segment as DICOM SEG describes it, and back."""

import colorsys
from collections.abc import Sequence

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from annotate_server.domain.errors import InvalidLabelmap
from annotate_server.domain.labelmap import ANATOMICAL_STRUCTURE, TISSUE, CodedConcept, Colour, Segment
from annotate_server.imaging.dicom_values import count, items, text
from annotate_server.imaging.labelmap_orders import Algorithm, AlgorithmKind

_LONGEST_LABEL = 64


def described(segment: Segment, number: int, algorithm: Algorithm) -> hd.seg.SegmentDescription:
    """Return the description of a segment; one without a code is a tissue."""
    kind, category = (segment.kind, segment.category) if segment.kind else (TISSUE, TISSUE)
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:_LONGEST_LABEL],
        segmented_property_category=_coded(category),
        segmented_property_type=_coded(kind),
        algorithm_type=algorithm.kind.value,
        algorithm_identification=None if algorithm.kind is AlgorithmKind.MANUAL else _identified(algorithm),
        tracking_uid=hd.UID(),
        tracking_id=segment.name[:_LONGEST_LABEL],
        display_color=hd.color.CIELabColor.from_rgb(*segment.colour),
    )
    if segment.laterality is not None:
        modifier = hd.sr.CodedConcept(*_triplet(segment.laterality))
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return description


def _identified(algorithm: Algorithm) -> hd.AlgorithmIdentificationSequence:
    return hd.AlgorithmIdentificationSequence(
        name=algorithm.name[:_LONGEST_LABEL],
        family=codes.cid7162.ArtificialIntelligence,
        version=algorithm.version[:_LONGEST_LABEL],
    )


def _coded(concept: CodedConcept) -> Code:
    return Code(*_triplet(concept))


def _triplet(concept: CodedConcept) -> tuple[str, str, str]:
    """Return value, scheme and meaning, as long as DICOM allows."""
    return concept.value, concept.scheme, concept.meaning[:_LONGEST_LABEL]


def segments_of(dataset: Dataset) -> tuple[Segment, ...]:
    """Return the segments of a SEG by their numbers; the background of the LABELMAP type is left out.

    A name that occurs twice gets a number, a segment without colour one of its own. Raises InvalidLabelmap.
    """
    numbered = [(count(item, "SegmentNumber"), item) for item in items(dataset, "SegmentSequence")]
    found: list[Segment] = []
    for number, item in sorted(numbered, key=lambda pair: pair[0]):
        if number == 0:
            continue
        name = _unused(text(item, "SegmentLabel") or f"Segment {number}", [segment.name for segment in found])
        found.append(_segment(number, name, item))
    if not found:
        raise InvalidLabelmap("the DICOM SEG describes no segment")
    return tuple(found)


def _segment(number: int, name: str, item: Dataset) -> Segment:
    kind = _concept(item, "SegmentedPropertyTypeCodeSequence")
    category = _concept(item, "SegmentedPropertyCategoryCodeSequence")
    says_nothing = kind == TISSUE and category == TISSUE
    types = items(item, "SegmentedPropertyTypeCodeSequence")
    side = _concept(types[0], "SegmentedPropertyTypeModifierCodeSequence") if types else None
    return Segment(
        index=number,
        name=name,
        colour=_colour(item, number),
        kind=None if says_nothing else kind,
        category=ANATOMICAL_STRUCTURE if says_nothing or category is None else category,
        laterality=side,
    )


def _concept(dataset: Dataset, keyword: str) -> CodedConcept | None:
    """Return the first code of a sequence; None where there is none."""
    for item in items(dataset, keyword):
        value = text(item, "CodeValue") or text(item, "LongCodeValue") or text(item, "URNCodeValue")
        scheme = text(item, "CodingSchemeDesignator")
        return CodedConcept(value, scheme, text(item, "CodeMeaning")) if value and scheme else None
    return None


def _colour(item: Dataset, number: int) -> Colour:
    value = item.get("RecommendedDisplayCIELabValue")
    if value is None or len(value) != 3:
        # Hues a golden angle apart never come near each other again.
        r, g, b = colorsys.hsv_to_rgb(number * 0.381966 % 1.0, 0.6, 0.9)
        return round(r * 255), round(g * 255), round(b * 255)
    red, green, blue = hd.color.CIELabColor.from_dicom_value([int(part) for part in value]).to_rgb(clip=True)
    return int(red), int(green), int(blue)


def _unused(name: str, used: Sequence[str]) -> str:
    """Return a name that is not among the used ones."""
    number, unused = 1, name
    while unused in used:
        number += 1
        unused = f"{name} ({number})"
    return unused
