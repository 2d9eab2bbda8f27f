"""Writing a labelmap as a DICOM Segmentation of the series that it was drawn on."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from annotate_server import __version__
from annotate_server.domain.case import Format, StoredVolume
from annotate_server.domain.errors import InvalidLabelmap, UnsupportedInput, about
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.imaging.dicom_header import as_unreadable
from annotate_server.imaging.dicom_listing import readable_part
from annotate_server.imaging.dicom_parts import Part
from annotate_server.imaging.dicom_seg_segments import described
from annotate_server.imaging.dicom_shear import sheared_back
from annotate_server.imaging.dicom_slices import Slice
from annotate_server.imaging.labelmap_orders import Algorithm

Labels = NDArray[Any]

_REMEDY = "Write NIfTI or NRRD instead."
_MAKER = "annotate-server"
_SERIES_NUMBER_OFFSET = 1000
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
"""What a DICOM object must have and may leave empty; files that were made anonymous lack it."""


def write_seg(
    labelmap: Labelmap | Sequence[Labelmap],
    stored: StoredVolume,
    path: Path,
    algorithm: Algorithm,
    uids: tuple[str, str] | tuple[()] = (),
) -> None:
    """Write a labelmap, or layers of one, on the grid of a DICOM series as one BINARY SEG instance at `path`.

    Segments are numbered from 1 in the order of their layers and indices, and may overlap; slices without any are left
    out. The frames lie on the slices as they were taken, also where the volume had the tilt of the gantry taken out.
    `uids` are those of its series and of itself; new ones where none are given. Raises InvalidLabelmap where the
    labelmap does not lie on the series, UnsupportedInput where a SEG cannot refer to it.
    """
    if stored.format is not Format.DICOM:
        raise UnsupportedInput("a DICOM SEG needs a DICOM series to refer to", source=stored.key, remedy=_REMEDY)
    part, grid = readable_part(stored)
    with about(stored.key), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd in the source was judged when it was read
        layers = (labelmap,) if isinstance(labelmap, Labelmap) else tuple(labelmap)
        if not all(layer.geometry.matches(grid.geometry) for layer in layers):
            raise InvalidLabelmap("the labelmap does not lie on the grid of the series")
        sources, numbers = _sources(part, grid.geometry.spacing_mm[0])
        ordered = [tuple(sorted(layer.segments, key=lambda segment: segment.index)) for layer in layers]
        planes = [_renumbered(layer, own) for layer, own in zip(layers, ordered, strict=True)]
        if grid.shifts is not None:
            size = (part.header.rows, part.header.columns)
            planes = [sheared_back(labels, grid.shifts, size) for labels in planes]
        segments = tuple(segment for own in ordered for segment in own)
        labels = planes[0] if len(layers) == 1 else _apart(planes, [len(own) for own in ordered])
        seg = _segmentation(sources, labels, segments, algorithm)
        if uids:
            seg.SeriesInstanceUID, seg.SOPInstanceUID = map(hd.UID, uids)
            seg.file_meta.MediaStorageSOPInstanceUID = seg.SOPInstanceUID
        if numbers is not None:
            _name_source_frames(seg, numbers)
        seg.save_as(path)


def _renumbered(labelmap: Labelmap, segments: Sequence[Segment]) -> Labels:
    """Return the voxels (k, j, i) with the segments counted from 1: a SEG allows no gaps."""
    if [segment.index for segment in segments] == list(range(1, len(segments) + 1)):
        return labelmap.voxels
    table = np.zeros(int(np.iinfo(labelmap.voxels.dtype).max) + 1, dtype=labelmap.voxels.dtype)
    for number, segment in enumerate(segments, 1):
        table[segment.index] = number
    return table[labelmap.voxels]


def _apart(layers: Sequence[Labels], counts: Sequence[int]) -> Labels:
    """Return the segments of several layers, each numbered from 1, beside each other: (k, j, i, segment), 0 or 1."""
    planes = [labels == number for labels, count in zip(layers, counts, strict=True) for number in range(1, count + 1)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def _segmentation(
    sources: Sequence[Dataset],
    labels: Labels,
    segments: Sequence[Segment],
    algorithm: Algorithm,
) -> hd.seg.Segmentation:
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=labels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[described(segment, number, algorithm) for number, segment in enumerate(segments, 1)],
        series_instance_uid=hd.UID(),
        series_number=_SERIES_NUMBER_OFFSET + int(sources[0].get("SeriesNumber") or 0),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=_MAKER,
        manufacturer_model_name=algorithm.name[:64],
        software_versions=__version__,
        device_serial_number=algorithm.version[:64],
        content_label="SEGMENTATION",
        content_description=f"{algorithm.name} {algorithm.version}"[:64],
        content_creator_name=f"{_MAKER}^",
        series_description=f"Segmentation: {algorithm.name}"[:64],
        omit_empty_frames=bool(labels.any()),
    )


def _sources(part: Part, spacing_mm: float) -> tuple[list[Dataset], list[int] | None]:
    """Return the images of a part in order as the writer needs them, and for a multi-frame file its frame numbers."""
    header = part.header
    named = {"study": header.study, "series": header.series, "frame of reference": header.frame_of_reference}
    for name in (name for name, uid in named.items() if not uid):
        raise UnsupportedInput(f"the series does not name its {name}, and a DICOM SEG must", remedy=_REMEDY)
    files = tuple(dict.fromkeys(s.header.path for s in part.slices))
    datasets = {path: _dataset(path) for path in files}
    if len(files) == len(part.slices):
        images = [_single_frame(datasets[s.header.path], s, part, spacing_mm) for s in part.slices]
        if "PerFrameFunctionalGroupsSequence" not in images[0]:
            return images, None
    if len(files) > 1:
        raise UnsupportedInput("the volume is spread over several multi-frame files", remedy=_REMEDY)
    return [_multi_frame(datasets[files[0]], part)], [s.frame.number + 1 for s in part.slices]


def _dataset(path: Path) -> Dataset:
    with as_unreadable(path):
        return pydicom.dcmread(path, stop_before_pixels=True, force=True)


def _single_frame(dataset: Dataset, s: Slice, part: Part, spacing_mm: float) -> Dataset:
    """Return a slice's dataset with what the writer insists on; orientations that differ by rounding made equal."""
    _complete(dataset, s)
    dataset.ImageOrientationPatient = list(part.slices[0].frame.orientation or ())
    if not dataset.get("SliceThickness"):
        dataset.SliceThickness = pydicom.valuerep.DSfloat(spacing_mm, auto_format=True)
    return dataset


def _multi_frame(dataset: Dataset, part: Part) -> Dataset:
    """Return a multi-frame dataset reduced to the frames of a part, in order, with what they share where it belongs."""
    _complete(dataset, part.slices[0])
    frames = [dataset.PerFrameFunctionalGroupsSequence[s.frame.number] for s in part.slices]
    shared = deepcopy((dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0])
    for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if keyword not in shared:
            setattr(shared, keyword, deepcopy(frames[0].get(keyword)))
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    dataset.NumberOfFrames = len(frames)
    return dataset


def _complete(dataset: Dataset, s: Slice) -> None:
    """Fill in what may be empty but must be there, and what only the file's own header says."""
    for keyword in _MAY_BE_EMPTY:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    dataset.SOPClassUID, dataset.SOPInstanceUID = s.header.sop_class, s.header.sop_instance


def _name_source_frames(seg: hd.seg.Segmentation, numbers: Sequence[int]) -> None:
    """Give the references to source frames the numbers that these have in the whole file."""
    # The frames of several segments at one place share their reference: each must be changed once only.
    sources = {
        id(source): source
        for groups in seg.PerFrameFunctionalGroupsSequence
        for derivation in groups.get("DerivationImageSequence") or ()
        for source in derivation.SourceImageSequence
    }
    for source in sources.values():
        source.ReferencedFrameNumber = numbers[int(source.ReferencedFrameNumber) - 1]
