"""Whole labelmaps as `.seg.nrrd`: a draft in steps, so that the window breathes; a label by Slicer's own reader."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import slicer

from AnnotateServerLib.labelmaps import allocated, view_of
from AnnotateServerLib.places import Grid
from AnnotateServerLib.problem import Problem
from AnnotateServerLib.segments import TERMINOLOGY_TAG, Segment, concepts_of

_AT_ONCE_BYTES = 8 << 20
_MOST_HEADER_BYTES = 8 << 20
_DTYPES = {"unsigned char": np.dtype("u1"), "unsigned short": np.dtype("<u2")}


class DraftFile(NamedTuple):
    """A draft: its voxels (k, j, i), the same as a labelmap of Slicer's, its segments, and its revision."""

    voxels: np.ndarray
    image: object
    segments: tuple[Segment, ...]
    revision: int


def read_draft(content: bytes, grid: Grid) -> Generator:
    """Return the draft of a file of the server; raises Problem for another file, or one of another grid."""
    end = content.find(b"\n\n", 0, _MOST_HEADER_BYTES)
    try:
        lines = content[: max(0, end)].decode("utf-8").splitlines()
        words = dict(line.split(":=", 1) for line in lines if ":=" in line)
        fields = dict(line.split(": ", 1) for line in lines if ": " in line and ":=" not in line)
        shape = tuple(int(size) for size in fields["sizes"].split())[::-1]
        dtype, revision = _DTYPES[fields["type"]], int(words["annotate_revision"])
        segments = _segments(words)
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise _unreadable(str(error)) from error
    if shape != grid.shape or fields["encoding"] != "gzip":
        raise _unreadable(f"{fields['encoding']} of {shape}")
    voxels, image = np.empty(shape, dtype), allocated(grid, dtype)
    yield from _inflated(content, end + 2, voxels.reshape(-1).view(np.uint8))
    there, _ = view_of(image)
    planes = max(1, _AT_ONCE_BYTES // voxels[0].nbytes)
    for first in range(0, len(voxels), planes):
        there[first : first + planes] = voxels[first : first + planes]
        yield None
    return DraftFile(voxels, image, segments, revision)


def read_label(content: bytes, name: str) -> object:
    """Return a new segmentation node of a label, as Slicer's own reader has it."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "label.seg.nrrd"
        path.write_bytes(content)
        storage.SetFileName(str(path))
        if not storage.ReadData(node):
            slicer.mrmlScene.RemoveNode(node)
            raise _unreadable("Slicer does not read it")
    node.CreateDefaultDisplayNodes()
    return node


def _inflated(content: bytes, begin: int, target: np.ndarray) -> Generator:
    """Inflate what follows a header into an array of bytes."""
    inflater, filled = zlib.decompressobj(zlib.MAX_WBITS + 16), 0
    waiting = memoryview(content)[begin:]
    try:
        while filled < len(target) and not inflater.eof:
            part = inflater.decompress(waiting, min(_AT_ONCE_BYTES, len(target) - filled))
            waiting = inflater.unconsumed_tail
            if not part:
                break
            target[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
            filled += len(part)
            yield None
    except zlib.error as error:
        raise _unreadable(str(error)) from error
    if filled < len(target):
        raise _unreadable("it was cut off")


def _segments(words: dict) -> tuple[Segment, ...]:
    """Return the segments of the header."""
    found, number = [], 0
    while f"Segment{number}_LabelValue" in words:
        told = {name: words.get(f"Segment{number}_{name}", "") for name in ("LabelValue", "Name", "Color", "Tags")}
        red, green, blue = (round(255 * float(part)) for part in told["Color"].split())
        tags = dict(part.split(":", 1) for part in told["Tags"].split("|") if ":" in part)
        category, kind, side = concepts_of(tags.get(TERMINOLOGY_TAG, ""))
        name = told["Name"].replace("\\n", "\n").replace("\\\\", "\\")
        found.append(Segment(int(told["LabelValue"]), name, (red, green, blue), kind, category, side))
        number += 1
    return tuple(found)


def _unreadable(why: str) -> Problem:
    return Problem(f"The draft that the server sent cannot be read ({why}).", "Try it again.")
