"""DICOM instances as they are served: where their frames lie in the file, and orders to the process that parses.

Only nouns: nothing here loads a DICOM library, so that the process that answers requests may use them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotate_server.imaging.wire import sendable

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

Ranges = tuple[tuple[int, int], ...]
"""Parts of a file as (offset, length), in order."""


@sendable
@dataclass(frozen=True)
class FramePlaces:
    """Where the frames of a file lie, so that they can be sent without a parser.

    Frames that were not compressed follow each other from `start`, each of `frame_bytes`; of compressed ones `ranges`
    has the fragments of each. Both are empty where only a decoder can tell the frames apart.
    """

    start: int = 0
    frame_bytes: int = 0
    ranges: tuple[Ranges, ...] = ()

    def of(self, number: int) -> Ranges:
        """Return the parts of the file that are frame `number` (from 0); none where it has to be decoded."""
        if self.ranges:
            return self.ranges[number]
        return ((self.start + number * self.frame_bytes, self.frame_bytes),) if self.frame_bytes else ()


@sendable
@dataclass(frozen=True)
class FileInstance:
    """An instance in a file; size and time tell whether the file is still the one that was described.

    `syntax` is the transfer syntax of its frames as they lie in the file, `file_syntax` that of the file itself;
    `frames` is how many there are.
    """

    path: Path
    size_bytes: int
    mtime_ns: int
    sop_class: str
    sop_instance: str
    syntax: str
    file_syntax: str
    frames: int
    places: FramePlaces = FramePlaces()


@sendable
@dataclass(frozen=True)
class DescribedInstance:
    """An instance and its attributes as DICOM JSON (PS3.18 F), a JSON object as text, without voxels."""

    instance: FileInstance
    attributes: str


@sendable
@dataclass(frozen=True)
class PartSlices:
    """Which frame (from 0) of which instance is slice k of a volume.

    `shifts` says for each slice how far, in voxels (j, i), its first voxel lies from the grid's. It is empty where
    every slice lies on the grid, so not for a tilted gantry.
    """

    slices: tuple[tuple[str, int], ...] = ()
    shifts: tuple[tuple[float, float], ...] = ()


@sendable
@dataclass(frozen=True)
class MetadataPlace:
    """A file with the metadata of a series as DICOM JSON, and the folder where its instances will lie as files.

    `part` names one volume of the series, where one is asked for.
    """

    path: Path
    folder: Path
    part: str = ""


@sendable
@dataclass(frozen=True)
class FramesOrder:
    """Frames (from 0) of a file to be decoded."""

    path: Path
    frames: tuple[int, ...]


@sendable
@dataclass(frozen=True)
class ComposeOrder:
    """A DICOM file to be made of attributes (DICOM JSON as text) and the voxels of one slice (j, i)."""

    attributes: str
    voxels: NDArray[np.generic]


@sendable
@dataclass(frozen=True)
class Look:
    """How a picture shall look: the most pixels (columns, rows), the window (centre, width) where it is named."""

    columns: int
    rows: int
    window: tuple[float, float] | None = None
    media_type: str = "image/jpeg"
    quality: int = 85


@sendable
@dataclass(frozen=True)
class PictureOrder:
    """A picture to be made: of a frame (from 0) of a file, or of intensities (j, i)."""

    look: Look
    path: Path | None = None
    frame: int = 0
    intensities: NDArray[np.generic] | None = None
