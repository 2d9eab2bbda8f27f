"""A labelmap: which voxel belongs to which segment."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import InvalidLabelmap
from annotate_server.domain.geometry import Box, Geometry

Colour = tuple[int, int, int]
LabelVoxels = NDArray[np.uint8] | NDArray[np.uint16]
"""(k, j, i): 0 is background, every other value the index of a segment."""


@dataclass(frozen=True, slots=True)
class CodedConcept:
    """A concept of a terminology: (78961009, SCT, Spleen)."""

    value: str
    scheme: str
    meaning: str


TISSUE = CodedConcept("85756007", "SCT", "Tissue")
ANATOMICAL_STRUCTURE = CodedConcept("123037004", "SCT", "Anatomical Structure")


@dataclass(frozen=True, slots=True)
class Segment:
    """One named structure of a labelmap.

    `index` is its value in the voxels, from 1. `kind` is what it is and `category` of what sort (DICOM's Segmented
    Property Type and Category), `colour` is sRGB 0 to 255. `laterality` is coded where the structure has a side.
    """

    index: int
    name: str
    colour: Colour
    kind: CodedConcept | None = None
    category: CodedConcept = ANATOMICAL_STRUCTURE
    laterality: CodedConcept | None = None

    def __post_init__(self) -> None:
        """Refuse an index or colour that no labelmap can hold."""
        if not 1 <= self.index <= 65535:
            raise InvalidLabelmap(f"segment {self.name!r} has the index {self.index}; 1 to 65535 are allowed")
        if not self.name.strip():
            raise InvalidLabelmap(f"segment {self.index} has no name")
        if any(not 0 <= c <= 255 for c in self.colour):
            raise InvalidLabelmap(f"segment {self.name!r} has the colour {self.colour}; 0 to 255 are allowed")


@dataclass(frozen=True)
class Labelmap:
    """An integer grid on a volume's geometry: 0 is background, every other value is the index of a segment.

    `voxels` is (k, j, i), uint8 while every segment's index fits, else uint16; made read-only here, not copied.
    A segment may be absent from the voxels; a value without a segment is refused.
    """

    voxels: NDArray[np.uint8] | NDArray[np.uint16]
    geometry: Geometry
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        """Check that voxels, grid and segments agree."""
        check_segments(self.segments)
        if self.voxels.dtype not in (np.uint8, np.uint16):
            raise InvalidLabelmap(f"a labelmap has voxels of uint8 or uint16, not {self.voxels.dtype}")
        if self.voxels.shape != self.geometry.shape:
            raise InvalidLabelmap(f"the labelmap has the shape {self.voxels.shape}, its volume {self.geometry.shape}")
        unknown = present_indices(self.voxels) - {s.index for s in self.segments}
        if unknown:
            raise InvalidLabelmap(f"the voxels hold {sorted(unknown)}, for which there is no segment")
        self.voxels.flags.writeable = False

    @classmethod
    def unscanned(cls, voxels: LabelVoxels, geometry: Geometry, segments: tuple[Segment, ...]) -> "Labelmap":
        """Return a labelmap over voxels that were checked before: a look at every one of them is saved."""
        if voxels.shape != geometry.shape:
            raise InvalidLabelmap(f"the labelmap has the shape {voxels.shape}, its volume {geometry.shape}")
        labelmap = object.__new__(cls)
        for name, value in (("voxels", voxels), ("geometry", geometry), ("segments", segments)):
            object.__setattr__(labelmap, name, value)
        voxels.flags.writeable = False
        return labelmap

    def segment(self, name: str) -> Segment:
        """Return the segment of a name."""
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise InvalidLabelmap(f"there is no segment {name!r}")

    def where(self, segment: Segment) -> NDArray[np.bool_]:
        """Return the voxels (k, j, i) that belong to a segment."""
        belongs: NDArray[np.bool_] = self.voxels == segment.index
        return belongs

    def cropped(self, box: Box) -> "Labelmap":
        """Return a block of the labelmap; a view."""
        return Labelmap(self.voxels[box.slices], self.geometry.cropped(box), self.segments)


def present_indices(voxels: NDArray[np.uint8] | NDArray[np.uint16]) -> set[int]:
    """Return the values above 0 that occur, counted slice by slice: no copy of the whole volume is made."""
    seen = np.zeros(int(np.iinfo(voxels.dtype).max) + 1, dtype=np.bool_)
    for plane in voxels:
        seen[_without_repeats(plane)] = True
    return {int(value) for value in np.flatnonzero(seen) if value}


def _without_repeats(plane: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return values among which every value of a slice is: most words of eight bytes are as the word before them."""
    if plane.nbytes % 8 or not plane.flags.c_contiguous or plane.size == 0:
        return plane
    words = plane.reshape(-1).view(np.uint64)
    first = np.concatenate(([True], words[1:] != words[:-1]))
    return words[first].view(plane.dtype)


def check_segments(segments: Iterable[Segment]) -> None:
    """Refuse two segments with one index or one name: code finds segments by name."""
    seen: set[int | str] = set()
    for segment in segments:
        for key in (segment.index, segment.name):
            if key in seen:
                raise InvalidLabelmap(f"two segments are called {key!r}")
            seen.add(key)


def labelmap_dtype(segments: Iterable[Segment]) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    """Return uint8 where every index fits into it, else uint16."""
    largest = max((s.index for s in segments), default=0)
    return np.dtype(np.uint8) if largest <= 255 else np.dtype(np.uint16)
