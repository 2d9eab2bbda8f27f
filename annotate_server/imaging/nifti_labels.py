"""NIfTI labelmaps: out with the names of the segments in a header extension, and those names in again."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.imaging.grid_file import GridFile
from annotate_server.imaging.nifti_writing import HEADER_BYTES, write_nifti
from annotate_server.imaging.packed_bytes import opened
from annotate_server.imaging.segment_words import segments_from_json, segments_to_json

_COMMENT = 6
"""The code of plain text in NIfTI's list of extensions: readers that do not know the content pass over it."""
_MAX_EXTENSION_BYTES = 4 << 20


def write_nifti_labels(labelmap: Labelmap, path: Path) -> None:
    """Write a labelmap as NIfTI-1, gzip if the name ends in .gz: sform and qform the same, voxels exact.

    The same labels make the same bytes: no time of writing is stored.
    """
    note = _extension(segments_to_json(labelmap.segments))
    write_nifti(labelmap.voxels, labelmap.geometry, path, note)


def segments_in(grid: GridFile) -> tuple[Segment, ...]:
    """Return the segments that `write_nifti_labels` put into the extension of a NIfTI-1 file; none for other files."""
    for text in _comments(grid):
        segments = segments_from_json(text)
        if segments is not None:
            return segments
    return ()


def _extension(text: str) -> bytes:
    """Return a text as a header extension: its size, a multiple of 16, its code, the text filled up with zeros."""
    content = text.encode()
    size = -(-(len(content) + 8) // 16) * 16
    return np.array([size, _COMMENT], "<i4").tobytes() + content.ljust(size - 8, b"\0")


def _comments(grid: GridFile) -> Iterator[str]:
    """Yield the texts of the extensions between header and voxels."""
    if not HEADER_BYTES + 4 < grid.skip <= _MAX_EXTENSION_BYTES:
        return
    with opened(grid.data) as source:
        content = source.take(grid.skip)[HEADER_BYTES:]
    at = 4
    while content[:1] == b"\1" and at + 8 <= len(content):
        size, code = (int(n) for n in np.frombuffer(content, "<i4", 2, at))
        if size < 8 or at + size > len(content):
            return
        if code == _COMMENT:
            yield content[at + 8 : at + size].rstrip(b"\0").decode("utf-8", "replace")
        at += size
