"""The sheet: a segmentation node that shows a draft, beside a copy of what the server has of it.

Where the two differ is what the host drew and the server does not know yet. All segments share one labelmap whose
values are the server's indices; the host crops it to what is drawn, takes it apart and renumbers it as it likes, and
the sheet puts it together again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
import slicer

from AnnotateServerLib import labelmaps
from AnnotateServerLib import segments as words
from AnnotateServerLib.draft_file import read_draft
from AnnotateServerLib.frame import Box, Frame
from AnnotateServerLib.places import Grid
from AnnotateServerLib.segments import Segment

SESSION_ATTRIBUTE = "AnnotateServer.Session"


class Drawn(NamedTuple):
    """A box that the host drew in, and its voxels as the host has them."""

    box: Box
    voxels: np.ndarray


class Sheet:
    """Shows a draft. `grid` is that of the case; `copy` is the draft (k, j, i) as the server has it."""

    def __init__(
        self, node: object, grid: Grid, copy: np.ndarray, segments: tuple[Segment, ...], image: object | None = None
    ) -> None:
        self.node, self.grid, self.copy = node, grid, copy
        self.segments: tuple[Segment, ...] = segments
        self.ids: dict = {}
        self._is_writing = False
        self._share(image or labelmaps.oriented(grid, copy))

    @property
    def is_there(self) -> bool:
        """Say whether the node is still in the scene."""
        return slicer.mrmlScene.IsNodePresent(self.node) != 0

    @property
    def is_writing(self) -> bool:
        """Say whether what changes right now is the sheet's own doing."""
        return self._is_writing

    @property
    def segmentation(self) -> object:
        """Return the vtkSegmentation."""
        return self.node.GetSegmentation()

    # From the server

    def take(self, frame: Frame) -> None:
        """Show a box as the server has it; what the host drew and nobody sent yet stays as it is drawn."""
        with self._writing():
            if frame.segments is not None:
                self._list(frame.segments)
            if frame.box.is_empty:
                return
            self._widen(frame.voxels.dtype)
            there = self._window(frame.box)
            kept = self.copy[frame.box.slices]
            is_ours = there != kept
            changed = (kept != frame.voxels) & ~is_ours
            kept[...] = frame.voxels
            if changed.any():
                np.copyto(there, frame.voxels, where=changed, casting="unsafe")
                self._touched()

    def revert(self, locked: tuple[int, ...]) -> None:
        """Undo what the host drew of or over locked segments."""
        drawn = labelmaps.at_once(self.drawn())
        if drawn is None:
            return
        kept = self.copy[drawn.box.slices]
        wrong = (drawn.voxels != kept) & (np.isin(drawn.voxels, locked) | np.isin(kept, locked))
        self.write(drawn.box, np.where(wrong, kept, drawn.voxels))

    def write(self, box: Box, voxels: np.ndarray) -> None:
        """Show voxels in a box, as the host would draw them: they differ from the copy then."""
        with self._writing():
            self._window(box)[...] = voxels
            self._touched()

    def sent(self, drawn: Drawn) -> None:
        """Note that the server has what was drawn."""
        self._widen(drawn.voxels.dtype)
        self.copy[drawn.box.slices] = drawn.voxels

    # From the host

    def drawn(self) -> Generator:
        """Return, in steps, what the host drew since the server last heard; None where it drew nothing."""
        self._tidy()
        box = yield from labelmaps.differing(self.copy, self._shared)
        return None if box is None else Drawn(box, labelmaps.read(self._shared, box, self.copy.dtype))

    def added(self) -> tuple[str, ...]:
        """Return the ids of segments that the server does not know: the host, or a person, added them."""
        known = set(self.ids.values())
        return tuple(name for name in _ids(self.segmentation) if name not in known)

    def removed(self) -> tuple[int, ...]:
        """Return the indices of segments that the host removed."""
        there = set(_ids(self.segmentation))
        return tuple(index for index, name in self.ids.items() if name not in there)

    def altered(self) -> tuple[Segment, ...]:
        """Return segments to which the host gave another name, colour or code."""
        found = []
        for segment in self.segments:
            host = self.segmentation.GetSegment(self.ids.get(segment.index, ""))
            if host is None:
                continue
            now = words.described(host, segment.index)
            if (now.name, now.colour, now.codes) != (segment.name, segment.colour, segment.codes):
                category = now.category if now.codes != segment.codes else segment.category
                found.append(now._replace(category=category))
        return tuple(found)

    def describe(self, name: str) -> Segment:
        """Return a segment that the host added, with the next free index."""
        index = max([0, *self.ids]) + 1
        return words.described(self.segmentation.GetSegment(name), index)

    def adopt(self, name: str, segment: Segment) -> None:
        """Note that a segment of the host is one of the server's from now on."""
        self.ids[segment.index] = name
        with self._writing():
            self.segmentation.GetSegment(name).SetTag(words.INDEX_TAG, str(segment.index))

    def forget(self, index: int) -> None:
        """Note that a segment that the host removed is the server's no more."""
        self.ids.pop(index, None)

    def count(self, index: int) -> int:
        """Return how many voxels the server has of a segment."""
        return int(np.count_nonzero(self.copy == index))

    # The node

    def has_grid(self) -> bool:
        """Say whether the node's labelmap still lies on the grid of the case: a person may have moved it."""
        hosts = (self.segmentation.GetSegment(name) for name in self.ids.values())
        images = [host.GetRepresentation(labelmaps.representation()) for host in hosts if host is not None]
        return all(image is None or image.IsEmpty() or labelmaps.lies_on(image, self.grid) for image in images[:1])

    def _list(self, segments: tuple[Segment, ...]) -> None:
        """Have just these segments in the node."""
        kept = {segment.index for segment in segments}
        for index in [index for index in self.ids if index not in kept]:
            name = self.ids.pop(index)
            if self.segmentation.GetSegment(name) is not None:
                voxels, _ = labelmaps.view_of(self._shared)
                voxels[voxels == index] = 0
                self.segmentation.RemoveSegment(name)
        for segment in segments:
            host = self.segmentation.GetSegment(self.ids.get(segment.index, ""))
            if host is None:
                self.ids[segment.index] = self._add(segment)
            else:
                words.write(segment, host)
        self.segments = segments

    def _add(self, segment: Segment) -> str:
        """Add a segment that shares the labelmap; return its id."""
        host = slicer.vtkSegment()
        words.write(segment, host)
        host.SetLabelValue(segment.index)
        host.AddRepresentation(labelmaps.representation(), self._shared)
        name = self.segmentation.GenerateUniqueSegmentID(f"Segment_{segment.index}")
        self.segmentation.AddSegment(host, name)
        return name

    def _share(self, image: object) -> None:
        """Let all segments share a labelmap, whose values are the server's indices."""
        with self._writing():
            self._shared = image
            if not self.ids:
                self.ids = words.matched(self.segments, self.segmentation)
            for index, name in self.ids.items():
                host = self.segmentation.GetSegment(name)
                if host is not None:
                    host.SetTag(words.INDEX_TAG, str(index))
                    host.SetLabelValue(index)
                    host.AddRepresentation(labelmaps.representation(), image)
            for segment in self.segments:
                if segment.index not in self.ids:
                    self.ids[segment.index] = self._add(segment)
            self._touched()

    def _tidy(self) -> None:
        """Put the labelmap together again where the host took it apart or renumbered it."""
        if not self._is_tidy():
            self._share(labelmaps.oriented(self.grid, self._composed()))

    def _is_tidy(self) -> bool:
        """Say whether every segment still shares the labelmap, by its own index."""
        for index, name in self.ids.items():
            host = self.segmentation.GetSegment(name)
            if host is None:
                continue
            image = host.GetRepresentation(labelmaps.representation())
            if image is not self._shared or host.GetLabelValue() != index:
                return False
        return labelmaps.lies_on(self._shared, self.grid)

    def _composed(self) -> np.ndarray:
        """Return the draft as the host shows it, from whatever it made of the labelmap.

        Where segments overlap, the one that is new there has the voxel: a draft has one segment a voxel.
        """
        found = np.zeros(self.grid.shape, self.copy.dtype)
        for index, name in self.ids.items():
            host = self.segmentation.GetSegment(name)
            image = host.GetRepresentation(labelmaps.representation()) if host is not None else None
            if image is None or image.IsEmpty():
                continue
            voxels, box = labelmaps.placed(image, self.grid)
            there, kept = found[box.slices], self.copy[box.slices]
            mine = voxels == host.GetLabelValue()
            there[mine & ((there == 0) | (kept != index))] = index
        return found

    def _window(self, box: Box) -> np.ndarray:
        """Return a view of a box of the node's labelmap."""
        self._tidy()
        return labelmaps.window(self._shared, box)

    def _widen(self, dtype: np.dtype) -> None:
        """Make room for indices above 255 where they come."""
        if dtype.itemsize > self.copy.dtype.itemsize:
            self._tidy()
            self.copy = self.copy.astype(np.uint16)
            whole = Box((0, 0, 0), self.grid.shape)
            self._share(labelmaps.oriented(self.grid, labelmaps.read(self._shared, whole, np.dtype(np.uint16))))

    def _touched(self) -> None:
        """Let the views draw anew, and forget surfaces of what was."""
        self._shared.GetPointData().GetScalars().Modified()
        self._shared.Modified()
        self.segmentation.InvalidateNonSourceRepresentations()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        was, self._is_writing = self._is_writing, True
        modified = self.node.StartModify()
        try:
            yield
        finally:
            self.node.EndModify(modified)
            self._is_writing = was


def sheet_of_draft(content: bytes, name: str, grid: Grid) -> Generator:
    """Return, in steps, a sheet with a draft that came as `.seg.nrrd`, and its revision."""
    draft = yield from read_draft(content, grid)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    extent = [end for length in grid.shape[::-1] for end in (0, length - 1)]
    converter = slicer.vtkSegmentationConverter
    geometry = converter.SerializeImageGeometry(labelmaps.matrix_of(grid), extent)
    node.GetSegmentation().SetSourceRepresentationName(labelmaps.representation())
    node.GetSegmentation().SetConversionParameter(converter.GetReferenceImageGeometryParameterName(), geometry)
    return Sheet(node, grid, draft.voxels, draft.segments, draft.image), draft.revision


def _ids(segmentation: object) -> tuple[str, ...]:
    return tuple(segmentation.GetNthSegmentID(at) for at in range(segmentation.GetNumberOfSegments()))
