"""Stored volumes as JSON: one spelling for the database and for the index of a scan."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.errors import Problem
from annotate_server.domain.volume import Modality


def stored_volume_as_json(stored: StoredVolume) -> dict[str, object]:
    """Return a stored volume as what JSON can hold; paths as they are."""
    return {
        "key": stored.key,
        "format": stored.format,
        "files": [str(path) for path in stored.files],
        "patient": [stored.patient.issuer, stored.patient.identifier, stored.patient.known],
        "modality": stored.modality,
        "description": stored.description,
        "image_type": stored.image_type,
        "part": stored.part,
        "study_uid": stored.study_uid,
        "series_uid": stored.series_uid,
        "frame_of_reference": stored.frame_of_reference,
        "problem": None if stored.problem is None else asdict(stored.problem),
    }


def stored_volume_of_json(parts: Mapping[str, Any], folder: Path = Path()) -> StoredVolume:
    """Return the stored volume of JSON values, relative paths below `folder`; a key and a problem may be left out."""
    problem, modality = parts.get("problem"), parts["modality"]
    return StoredVolume(
        key=parts.get("key", ""),
        format=Format(parts["format"]),
        files=tuple(folder / name for name in parts["files"]),
        patient=PatientKey(*parts["patient"]),
        modality=Modality(modality) if modality else None,
        description=parts["description"],
        image_type=tuple(parts["image_type"]),
        part=parts["part"],
        study_uid=parts["study_uid"],
        series_uid=parts["series_uid"],
        frame_of_reference=parts["frame_of_reference"],
        problem=Problem(**problem) if problem else None,
    )
