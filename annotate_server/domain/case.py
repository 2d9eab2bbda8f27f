"""A case: the unit of annotation work, and the stored volumes that it is made of."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from annotate_server.domain.errors import Problem
from annotate_server.domain.volume import Modality


class Format(StrEnum):
    """How a volume is stored."""

    DICOM = "dicom"
    NIFTI = "nifti"
    METAIMAGE = "metaimage"
    NRRD = "nrrd"


@dataclass(frozen=True, slots=True)
class PatientKey:
    """Whose volume it is, as far as the files say: the unit that a training split keeps together.

    `known` is False where every file had to be taken for a patient of its own.
    """

    issuer: str
    identifier: str
    known: bool = True

    def pseudonym(self) -> str:
        """Return what may be shown and logged in its place."""
        return hashlib.sha256(f"{self.issuer}\0{self.identifier}".encode()).hexdigest()[:12]


@dataclass(frozen=True)
class StoredVolume:
    """A volume as a scan found it: headers only, no voxels.

    `key` names it to people and in manifests: the path of the file or folder below what was scanned, `#` and the
    part where one series holds several volumes. `files` are in the order of the slices for DICOM (one for the other
    formats). `problem` says why it cannot be read as a volume; such a one is listed, never silently left out.
    """

    key: str
    format: Format
    files: tuple[Path, ...]
    patient: PatientKey
    modality: Modality | None = None
    description: str = ""
    image_type: tuple[str, ...] = ()
    part: str = ""
    study_uid: str | None = None
    series_uid: str | None = None
    frame_of_reference: str | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class Case:
    """A reference volume and its companions in the same frame of reference, by role.

    `id` is the digest of the SeriesInstanceUID (and part) for DICOM, else of the reference volume's geometry and
    voxels: never of a path, so that a renamed file is the same case. The first role is the reference.
    """

    id: str
    patient: PatientKey
    volumes: Mapping[str, StoredVolume] = field(default_factory=dict)

    @property
    def reference(self) -> StoredVolume:
        """Return the volume on whose grid labels are drawn."""
        return next(iter(self.volumes.values()))


def case_id(stored: StoredVolume, volume_digest: str) -> str:
    """Return the identity of the case whose reference is `stored`; `volume_digest` is that of its voxels."""
    return _id(f"{stored.series_uid}#{stored.part}") if stored.series_uid else case_id_of_voxels(volume_digest)


def case_id_of_voxels(volume_digest: str) -> str:
    """Return the identity of a case that no series names: it is known by its voxels."""
    return _id(volume_digest)


def _id(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:32]
