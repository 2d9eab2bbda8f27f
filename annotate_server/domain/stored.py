"""What is kept on disk, by name: labelmaps as blobs, predictions, and what is known of a case's voxels."""

from dataclasses import dataclass
from datetime import datetime

from annotate_server.domain.case import Case, Format
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.volume import Modality


@dataclass(frozen=True)
class StoredLayer:
    """A labelmap on disk: the SHA-256 of its `.seg.nrrd` file, its grid and its segments."""

    blob: str
    geometry: Geometry
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class StoredPrediction:
    """A whole draft by a model version, made at any time, for nobody in particular."""

    id: str
    case_id: str
    model: str
    version: str
    layer: StoredLayer
    made_at: datetime
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VolumeFacts:
    """What reading a case's reference volume told: the digest of its voxels, grid, unit and warnings."""

    digest: str
    geometry: Geometry
    modality: Modality | None
    unit: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownCase:
    """A case as the server knows it.

    `facts` is None until its voxels were read. `declared` is the modality that a person named where the file names
    none. `is_missing` says that its files were not there at the last scan; its labels stay.
    """

    case: Case
    added_at: datetime
    facts: VolumeFacts | None = None
    declared: Modality | None = None
    is_uploaded: bool = False
    is_missing: bool = False

    @property
    def id(self) -> str:
        """Return the case's id."""
        return self.case.id

    @property
    def name(self) -> str:
        """Return what people know it by: its description where it is DICOM, whose folders name patients."""
        reference = self.case.reference
        if self.is_uploaded or reference.format is Format.DICOM:
            return reference.description or f"Case {self.id[:8]}"
        return reference.key

    @property
    def modality(self) -> Modality | None:
        """Return the modality that the file names, or else that a person declared."""
        return self.case.reference.modality or self.declared
