"""The planes of one DICOM file: where each lies, and what tells it from another at the same place.

A single-frame file has one plane; an enhanced multi-frame file has one per frame, described by functional groups
(DICOM PS3.3 C.7.6.16).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from annotate_server.domain.errors import UnreadableFile
from annotate_server.imaging.dicom_values import count, first_number, items, numbers, numbers_or_none, words
from annotate_server.imaging.wire import sendable


@sendable
@dataclass(frozen=True, slots=True)
class Frame:
    """One plane of a file.

    `number` counts from 0 within the file. `position_mm` (x, y, z) is the centre of the first voxel, `orientation` the
    direction of the rows (along i) and then of the columns (along j), both LPS. `spacing_mm` is that between rows (j),
    then between columns (i). `slope` and `intercept` make the modality's values of the stored ones. What follows tells
    planes at one place apart; None or empty where the file is silent.
    """

    number: int = 0
    position_mm: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing_mm: tuple[float, ...] | None = None
    thickness_mm: float | None = None
    slope: float = 1.0
    intercept: float = 0.0
    rescale_type: str = ""
    image_type: tuple[str, ...] = ()
    b_value: float | None = None
    gradient: tuple[float, ...] | None = None
    echo_ms: float | None = None
    temporal: float | None = None
    stack: str = ""
    acquisition: float | None = None
    trigger_ms: float | None = None
    time: str = ""


_GROUP_OF = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "DiffusionGradientDirectionSequence": "MRDiffusionSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "StackID": "FrameContentSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "FrameAcquisitionDateTime": "FrameContentSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
}
"""In which functional group an attribute lies."""

_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
_UNASSIGNED = "UnassignedPerFrameConvertedAttributesSequence"
"""Where a legacy converted file keeps what has no group of its own."""

_PRIVATE_B_VALUES = (
    ((0x0019, 0x0010), "SIEMENS MR HEADER", (0x0019, 0x100C)),
    ((0x0043, 0x0010), "GEMS_PARM_01", (0x0043, 0x1039)),
    ((0x2001, 0x0010), "Philips Imaging DD 001", (0x2001, 0x1003)),
)
"""Where vendors kept the b-value before DICOM had a place for it: tag of the block's creator, its name, the element."""

_GE_OFFSET = 1_000_000_000
"""GE adds this to a b-value to say that it was set by hand."""

FRAME_TAGS: Sequence[str | BaseTag] = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "ImageType"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "DiffusionBValue", "DiffusionGradientOrientation", "EchoTime"),
    *("TemporalPositionIdentifier", "StackID", "AcquisitionNumber", "TriggerTime"),
    *("AcquisitionDateTime", "AcquisitionTime", "NumberOfFrames"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(Tag(tag) for creator, _, element in _PRIVATE_B_VALUES for tag in (creator, element)),
)
"""What of a header the planes are made from."""

Lookup = Callable[[str], object]


def frames_of(dataset: Dataset) -> tuple[Frame, ...]:
    """Return the planes of a file in its order; raises UnreadableFile where frames and their descriptions disagree."""
    per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
    announced = count(dataset, "NumberOfFrames") or 1
    if not per_frame:
        if announced > 1:
            return tuple(Frame(number) for number in range(min(announced, 2)))
        return (_frame(0, dataset.get, _classic_traits(dataset)),)
    if len(per_frame) != announced:
        raise UnreadableFile(f"it announces {announced} frames and describes {len(per_frame)}")
    shared = (*items(dataset, "SharedFunctionalGroupsSequence"), Dataset())[0]
    return tuple(_enhanced_frame(number, groups, shared, dataset) for number, groups in enumerate(per_frame))


@dataclass(frozen=True)
class _Traits:
    """What is named differently in single-frame and in enhanced files."""

    image_type: tuple[str, ...]
    b_value: float | None
    gradient: object
    echo: object
    temporal: object
    acquisition: object
    trigger: object
    time: object


def _frame(number: int, find: Lookup, traits: _Traits) -> Frame:
    """Return a plane of what `find` answers to the names of attributes."""
    return Frame(
        number=number,
        position_mm=numbers("ImagePositionPatient", find("ImagePositionPatient")),
        orientation=numbers("ImageOrientationPatient", find("ImageOrientationPatient")),
        spacing_mm=numbers("PixelSpacing", find("PixelSpacing")),
        thickness_mm=first_number(find("SliceThickness")),
        slope=(numbers("RescaleSlope", find("RescaleSlope")) or (1.0,))[0],
        intercept=(numbers("RescaleIntercept", find("RescaleIntercept")) or (0.0,))[0],
        rescale_type=str(find("RescaleType") or "").strip(),
        image_type=traits.image_type,
        b_value=traits.b_value,
        gradient=numbers_or_none(traits.gradient),
        echo_ms=first_number(traits.echo),
        temporal=first_number(traits.temporal),
        stack=str(find("StackID") or ""),
        acquisition=first_number(traits.acquisition),
        trigger_ms=first_number(traits.trigger),
        time=str(traits.time or ""),
    )


def _classic_traits(dataset: Dataset) -> _Traits:
    """Return the traits of a single-frame file."""
    return _Traits(
        image_type=words(dataset.get("ImageType")),
        b_value=_classic_b_value(dataset),
        gradient=dataset.get("DiffusionGradientOrientation"),
        echo=dataset.get("EchoTime"),
        temporal=dataset.get("TemporalPositionIdentifier"),
        acquisition=dataset.get("AcquisitionNumber"),
        trigger=dataset.get("TriggerTime"),
        time=dataset.get("AcquisitionDateTime") or dataset.get("AcquisitionTime"),
    )


def _enhanced_frame(number: int, groups: Dataset, shared: Dataset, dataset: Dataset) -> Frame:
    """Return a plane of a multi-frame file: its own groups first, then the shared ones, then the file."""

    def find(keyword: str) -> object:
        for place in (groups, shared):
            for sequence in (_GROUP_OF.get(keyword, _UNASSIGNED), _UNASSIGNED):
                for item in items(place, sequence):
                    if keyword in item:
                        return item.get(keyword)
        return dataset.get(keyword)

    types = [
        item.get("FrameType") for place in (groups, shared) for name in _FRAME_TYPES for item in items(place, name)
    ]
    directions = find("DiffusionGradientDirectionSequence")
    directed = directions[0] if isinstance(directions, Sequence) and directions else Dataset()
    return _frame(
        number,
        find,
        _Traits(
            image_type=words(types[0] if types else dataset.get("ImageType")),
            b_value=first_number(find("DiffusionBValue")),
            gradient=directed.get("DiffusionGradientOrientation"),
            echo=find("EffectiveEchoTime") or find("EchoTime"),
            temporal=find("TemporalPositionIndex"),
            acquisition=find("FrameAcquisitionNumber"),
            trigger=find("NominalCardiacTriggerDelayTime"),
            time=find("FrameAcquisitionDateTime"),
        ),
    )


def _classic_b_value(dataset: Dataset) -> float | None:
    """Return the b-value (s/mm2) of a single-frame file, where DICOM or the vendor keeps it."""
    stated = first_number(dataset.get("DiffusionBValue"))
    if stated is not None:
        return stated
    for creator, name, element in _PRIVATE_B_VALUES:
        block = dataset.get(creator)
        private = dataset.get(element)
        if block is None or private is None or not str(block.value).startswith(name):
            continue
        value = first_number(_private_value(private))
        return value % _GE_OFFSET if value is not None and value >= _GE_OFFSET else value
    return None


def _private_value(element: DataElement) -> object:
    """Return the first value of a private element; text of an unknown VR is digits in bytes."""
    value = element.value
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").split("\\")[0].strip("\0 ")
    return value[0] if isinstance(value, Sequence) and not isinstance(value, str) and value else value
