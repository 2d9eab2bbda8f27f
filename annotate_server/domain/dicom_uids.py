"""DICOM identifiers of what has none: a volume that came as NIfTI, NRRD or MetaImage, and its slices."""

import hashlib
import re
import uuid

from annotate_server.domain.case import Case, Format

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST = 64


def is_uid(text: str | None) -> bool:
    """Say whether a text can be an identifier (DICOM PS3.5 9.1; leading zeros pass, files have them)."""
    return text is not None and len(text) <= _LONGEST and _UID.fullmatch(text) is not None


def derived_uid(*words: str) -> str:
    """Return an identifier that the same words always give: below the root for UUIDs (DICOM PS3.5 B.2)."""
    digest = hashlib.sha256("\0".join(("annotate-server", *words)).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def study_uid(case: Case) -> str:
    """Return the study that a case belongs to: the file's, else one of its own."""
    stated = case.reference.study_uid
    return stated if stated is not None and is_uid(stated) else derived_uid(case.id, "study")


def series_uid(case: Case) -> str:
    """Return the series that a case is shown as: the file's, else one of its own."""
    stated = case.reference.series_uid
    is_stated = case.reference.format is Format.DICOM and stated is not None and is_uid(stated)
    return stated if is_stated and stated is not None else derived_uid(case.id, "series")


def slice_uid(case: Case, k: int) -> str:
    """Return the instance of slice k of a series that is made of a volume."""
    return derived_uid(case.id, "slice", str(k))


def segmentation_uids(label_id: str) -> tuple[str, str]:
    """Return series and instance of a label as DICOM SEG: always the same, so that it is never there twice."""
    return derived_uid(label_id, "segmentation series"), derived_uid(label_id, "segmentation")


def frame_of_reference_uid(case: Case) -> str:
    """Return the frame of reference of a volume whose file names none."""
    stated = case.reference.frame_of_reference
    return stated if stated is not None and is_uid(stated) else derived_uid(case.id, "frame of reference")
