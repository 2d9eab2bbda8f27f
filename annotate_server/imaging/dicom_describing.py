"""What a DICOM file holds, as it is served: its attributes as JSON, and where its frames lie. No voxel is decoded."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from annotate_server.domain.case import StoredVolume
from annotate_server.imaging.dicom_frame_places import frame_places
from annotate_server.imaging.dicom_geometry import Stack
from annotate_server.imaging.dicom_header import as_unreadable, transfer_syntax
from annotate_server.imaging.dicom_instances import (
    EXPLICIT_LITTLE_ENDIAN,
    DescribedInstance,
    FileInstance,
    FramePlaces,
    PartSlices,
)
from annotate_server.imaging.dicom_listing import readable_part
from annotate_server.imaging.dicom_parts import Part
from annotate_server.imaging.dicom_values import count, text
from annotate_server.imaging.json_numbers import finite_number
from annotate_server.imaging.prescreen import prescreen_dicom

_MOST_INLINE = 5464
"""Characters of base64: 4 kB of binary values. Longer ones are left out: no viewer of grey images asks for them."""
_CHARACTER_SET, _SYNTAX = "00080005", "00083002"
_VOXELS = frozenset({"7FE00001", "7FE00002", "7FE00008", "7FE00009", "7FE00010"})

Json = dict[str, Any]


def describe_instance(path: Path) -> DescribedInstance:
    """Return an instance; raises UnreadableFile or TooLarge as `dicom_header.read_header` does."""
    prescreen_dicom(path)
    with as_unreadable(path), warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # pydicom warns of each odd value; what it cannot say is left out below
        facts = os.fstat(file.fileno())
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        syntax, frames = transfer_syntax(dataset), count(dataset, "NumberOfFrames") or 1
        places = FramePlaces()
        if syntax not in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
            is_implicit = bool(dataset.original_encoding[0])
            places = frame_places(file, dataset, frames, is_implicit=is_implicit, size_bytes=facts.st_size)
        instance = FileInstance(
            path=path,
            size_bytes=facts.st_size,
            mtime_ns=facts.st_mtime_ns,
            sop_class=text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID"),
            sop_instance=text(dataset, "SOPInstanceUID") or text(dataset.file_meta, "MediaStorageSOPInstanceUID"),
            syntax=str(syntax) if syntax.is_encapsulated else EXPLICIT_LITTLE_ENDIAN,
            file_syntax=str(syntax),
            frames=frames,
            places=places,
        )
        return DescribedInstance(instance, json.dumps(_attributes(dataset, instance), separators=(",", ":")))


def slices_of_part(stored: StoredVolume) -> PartSlices:
    """Return which frame is slice k of a volume; raises the reason why it is none."""
    return part_slices(*readable_part(stored))


def part_slices(part: Part, grid: Stack) -> PartSlices:
    """Return which frame is slice k of a part with its grid."""
    shifts = () if grid.shifts is None else tuple((float(j), float(i)) for j, i in grid.shifts)
    return PartSlices(tuple((each.header.sop_instance, each.frame.number) for each in part.slices), shifts)


def _attributes(dataset: FileDataset, instance: FileInstance) -> Json:
    """Return the attributes; what pydicom cannot write is left out."""
    for tag in [element for element in dataset.keys() if element.group == 0x7FE0]:  # noqa: SIM118  no mapping
        del dataset[tag]
    found: Json = _sayable(dataset.to_json_dict(suppress_invalid_tags=True))
    found[_SYNTAX] = {"vr": "UI", "Value": [instance.syntax]}
    if _CHARACTER_SET in found:
        found[_CHARACTER_SET] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return dict(sorted(found.items()))


def _sayable(attributes: Json) -> Json:
    """Return attributes without long binary values; numbers that JSON has no word for become null."""
    kept: Json = {}
    for tag, attribute in attributes.items():
        if len(attribute.get("InlineBinary") or "") > _MOST_INLINE or tag in _VOXELS:
            continue
        if "Value" in attribute:
            attribute["Value"] = [_sayable_value(value) for value in attribute["Value"]]
        kept[tag] = attribute
    return kept


def _sayable_value(value: object) -> object:
    if isinstance(value, float):
        return finite_number(value)
    if isinstance(value, dict) and not {"Alphabetic", "Ideographic", "Phonetic"} & value.keys():
        return _sayable(value)
    return value
