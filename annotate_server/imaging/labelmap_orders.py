"""What may be asked of labelmap files, as values: they cross to the process that parses."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.stored import StoredLayer
from annotate_server.imaging.wire import sendable


@sendable
class LabelmapFormat(StrEnum):
    """How a labelmap is written."""

    NIFTI = "nifti"
    NRRD = "nrrd"
    DICOM_SEG = "dicom-seg"


@sendable
class AlgorithmKind(StrEnum):
    """How much of a segment a machine drew (DICOM Segment Algorithm Type)."""

    AUTOMATIC = "AUTOMATIC"
    SEMIAUTOMATIC = "SEMIAUTOMATIC"
    MANUAL = "MANUAL"


@sendable
@dataclass(frozen=True)
class Algorithm:
    """What drew a labelmap: a model's name and version, for the formats that keep it, and how much of it."""

    name: str
    version: str
    kind: AlgorithmKind = AlgorithmKind.AUTOMATIC


PLAIN = Algorithm("annotate-server", "unknown")


@sendable
@dataclass(frozen=True)
class LabelmapPlace:
    """A file of labels and the grid that they shall come onto."""

    path: Path
    geometry: Geometry


@sendable
@dataclass(frozen=True)
class StoredWriting:
    """Layers of the store that shall be written to a file: where each lies (`paths`), and what it is.

    `uids` are series and instance of a DICOM SEG; empty for new ones.
    """

    paths: tuple[Path, ...]
    layers: tuple[StoredLayer, ...]
    path: Path
    kind: LabelmapFormat
    source: StoredVolume | None
    algorithm: Algorithm
    uids: tuple[str, str] | tuple[()] = ()


@sendable
@dataclass(frozen=True)
class LabelmapWriting:
    """What shall be written where."""

    layers: tuple[Labelmap, ...]
    path: Path
    kind: LabelmapFormat
    source: StoredVolume | None
    algorithm: Algorithm
    uids: tuple[str, str] | tuple[()] = ()
