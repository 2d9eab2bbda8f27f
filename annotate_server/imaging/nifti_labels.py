"""NIfTI labelmaps: out with the names of the segments in a header extension, and those names in again."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header

from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.imaging.grid_file import GridFile
from annotate_server.imaging.packed_bytes import opened
from annotate_server.imaging.segment_words import segments_from_json, segments_to_json

_COMMENT = 6
"""The code of plain text in NIfTI's list of extensions: readers that do not know the content pass over it."""
_HEADER_BYTES = 348
_MAX_EXTENSION_BYTES = 4 << 20


def write_nifti_labels(labelmap: Labelmap, path: Path) -> None:
    """Write a labelmap as NIfTI-1, gzip if the name ends in .gz: sform and qform the same, voxels exact.

    The same labels make the same bytes: no time of writing is stored.
    """
    note = _extension(segments_to_json(labelmap.segments))
    header = _header(labelmap.geometry, labelmap.voxels.dtype)
    header["vox_offset"] = _HEADER_BYTES + 4 + len(note)
    content = [header.binaryblock, b"\1\0\0\0", note]
    values = labelmap.voxels.astype(labelmap.voxels.dtype.newbyteorder("<"), copy=False)
    with path.open("wb") as file:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=1, mtime=0) as packed:
                packed.writelines([*content, *(plane.tobytes() for plane in values)])
        else:
            file.writelines([*content, *(plane.tobytes() for plane in values)])


def segments_in(grid: GridFile) -> tuple[Segment, ...]:
    """Return the segments that `write_nifti_labels` put into the extension of a NIfTI-1 file; none for other files."""
    for text in _comments(grid):
        segments = segments_from_json(text)
        if segments is not None:
            return segments
    return ()


def _header(geometry: Geometry, dtype: np.dtype[np.generic]) -> Nifti1Header:
    """Return the header of a grid; here LPS (k, j, i) becomes RAS (i, j, k)."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine[:, [2, 1, 0, 3]]
    header = Nifti1Header(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(geometry.shape[::-1])
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["magic"] = b"n+1"
    return header


def _extension(text: str) -> bytes:
    """Return a text as a header extension: its size, a multiple of 16, its code, the text filled up with zeros."""
    content = text.encode()
    size = -(-(len(content) + 8) // 16) * 16
    return np.array([size, _COMMENT], "<i4").tobytes() + content.ljust(size - 8, b"\0")


def _comments(grid: GridFile) -> Iterator[str]:
    """Yield the texts of the extensions between header and voxels."""
    if not _HEADER_BYTES + 4 < grid.skip <= _MAX_EXTENSION_BYTES:
        return
    with opened(grid.data) as source:
        content = source.take(grid.skip)[_HEADER_BYTES:]
    at = 4
    while content[:1] == b"\1" and at + 8 <= len(content):
        size, code = (int(n) for n in np.frombuffer(content, "<i4", 2, at))
        if size < 8 or at + size > len(content):
            return
        if code == _COMMENT:
            yield content[at + 8 : at + size].rstrip(b"\0").decode("utf-8", "replace")
        at += size
