"""What the files of a DICOM series hold, as a scan lists it: no voxel is read, no decoder is loaded."""

import math
from collections.abc import Sequence
from dataclasses import replace

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.errors import Problem, TooLarge, UnreadableFile, UntrustedGeometry, about
from annotate_server.imaging.dicom_geometry import Stack
from annotate_server.imaging.dicom_header import DicomHeader, read_header
from annotate_server.imaging.dicom_kind import modality_of
from annotate_server.imaging.dicom_parts import Part, parts_of
from annotate_server.imaging.prescreen import MAX_VOXELS


def stored_volumes(headers: Sequence[DicomHeader], key: str) -> tuple[StoredVolume, ...]:
    """Return a stored volume for each part of a series, unusable ones with their problem; `key` names the series."""
    return tuple(with_key(stored, key) for stored in unnamed_volumes(headers))


def unnamed_volumes(headers: Sequence[DicomHeader]) -> tuple[StoredVolume, ...]:
    """Return the same without keys: what depends on the files of the series only, and not on its neighbours."""
    return tuple(_stored(part) for part in parts_of(headers))


def with_key(stored: StoredVolume, series_key: str) -> StoredVolume:
    """Return a volume named after its series, `series_key`, and its part; its problem then says so."""
    key = f"{series_key}#{stored.part}" if stored.part else series_key
    problem, patient = stored.problem, stored.patient
    return replace(
        stored,
        key=key,
        patient=patient if patient.identifier else replace(patient, identifier=key),
        problem=Problem(problem.type, problem.title, f"{key}: {problem.detail}") if problem else None,
    )


def readable_part(stored: StoredVolume) -> tuple[Part, Stack]:
    """Return the slices of a stored volume and their grid, from the headers; raises the reason why there is none."""
    with about(stored.key):
        return part_with_grid([read_header(path) for path in stored.files], stored.part)


def part_with_grid(headers: Sequence[DicomHeader], name: str) -> tuple[Part, Stack]:
    """Return the slices of a part of a series and their grid; raises the reason why there is none."""
    parts = parts_of(headers)
    # The files of a part alone may be one volume: nothing is left to tell it from.
    chosen = parts if len(parts) == 1 else [part for part in parts if part.name == name]
    if len(chosen) != 1:
        raise UnreadableFile("its files have changed since the scan", remedy="Scan again.")
    part = chosen[0]
    if part.problem is not None:
        raise part.problem
    if part.stack is None:
        raise UntrustedGeometry("its slices form no grid")
    if math.prod(part.stack.geometry.shape) > MAX_VOXELS:
        size = " x ".join(map(str, part.stack.geometry.shape))
        raise TooLarge(f"it has {size} voxels, more than the limit of {MAX_VOXELS}")
    return part, part.stack


def _stored(part: Part) -> StoredVolume:
    header = part.header
    return StoredVolume(
        key="",
        format=Format.DICOM,
        files=tuple(dict.fromkeys(s.header.path for s in part.slices)),
        patient=PatientKey(header.issuer, header.patient or header.study, known=bool(header.patient)),
        modality=modality_of(header),
        description=header.description,
        image_type=part.slices[0].frame.image_type,
        part=part.name,
        study_uid=header.study or None,
        series_uid=header.series or None,
        frame_of_reference=header.frame_of_reference or None,
        problem=part.problem.problem() if part.problem else None,
    )
