"""Names, codes and colours for the structures that models from elsewhere name.

Codes are SNOMED CT's, those of DICOM PS3.16 (context groups 4031 and 7166); colours are 3D Slicer's for anatomy.
"""

from collections.abc import Mapping
from typing import NamedTuple

from annotate_server.domain.labelmap import CodedConcept, Colour, Segment
from annotate_server.imaging.unnamed_segments import distinct_colour, unused_name

_SIDES = {
    "left": CodedConcept("7771000", "SCT", "Left"),
    "right": CodedConcept("24028007", "SCT", "Right"),
}


class _Structure(NamedTuple):
    code: str
    meaning: str
    colour: Colour | None = None


_STRUCTURES: Mapping[str, _Structure] = {
    "spleen": _Structure("78961009", "Spleen", (157, 108, 162)),
    "kidney": _Structure("64033007", "Kidney", (185, 102, 83)),
    "liver": _Structure("10200004", "Liver", (221, 130, 101)),
    "pancreas": _Structure("15776009", "Pancreas", (249, 180, 111)),
    "gallbladder": _Structure("28231008", "Gallbladder", (139, 150, 98)),
    "stomach": _Structure("69695003", "Stomach", (216, 132, 105)),
    "duodenum": _Structure("38848004", "Duodenum", (255, 253, 229)),
    "esophagus": _Structure("32849002", "Esophagus", (211, 171, 143)),
    "oesophagus": _Structure("32849002", "Esophagus", (211, 171, 143)),
    "adrenal gland": _Structure("23451007", "Adrenal gland", (249, 186, 150)),
    "aorta": _Structure("15825003", "Aorta", (224, 97, 76)),
    "inferior vena cava": _Structure("64131007", "Inferior vena cava", (0, 151, 206)),
    "lung": _Structure("39607008", "Lung", (197, 165, 145)),
    "trachea": _Structure("44567001", "Trachea", (182, 228, 255)),
    "heart": _Structure("80891009", "Heart", (206, 110, 84)),
    "brain": _Structure("12738006", "Brain", (250, 250, 225)),
    "hippocampus": _Structure("5366008", "Hippocampus"),
    "colon": _Structure("71854001", "Colon", (204, 168, 143)),
    "prostate": _Structure("41216001", "Prostate", (230, 158, 140)),
    "urinary bladder": _Structure("89837001", "Urinary bladder", (222, 154, 132)),
    "bladder": _Structure("89837001", "Urinary bladder", (222, 154, 132)),
}


def segments_named(names: Mapping[int, str]) -> tuple[Segment, ...]:
    """Return segments by their index with readable names, a code where the structure is a known one, and a colour."""
    used: set[str] = set()
    segments = []
    for index, given in sorted(names.items()):
        readable = "".join(letter for letter in given[:80].replace("_", " ") if letter.isprintable())
        words = " ".join(readable.split()) or f"Segment {index}"
        name = unused_name(words[0].upper() + words[1:], used)
        used.add(name)
        segments.append(_segment(index, name))
    return tuple(segments)


def _segment(index: int, name: str) -> Segment:
    words = name.lower().split()
    side = next((word for word in words if word in _SIDES), None)
    found = _STRUCTURES.get(" ".join(word for word in words if word != side))
    colour = (found.colour if found else None) or distinct_colour(index)
    kind = CodedConcept(found.code, "SCT", found.meaning) if found else None
    return Segment(index, name, colour, kind, laterality=_SIDES[side] if side else None)
