"""NIfTI out: voxels as they are on their grid, and nothing else in the header."""

import gzip
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray

from annotate_server.domain.geometry import Geometry

HEADER_BYTES = 348


def write_nifti(voxels: NDArray[np.generic], geometry: Geometry, path: Path, extensions: bytes = b"") -> None:
    """Write voxels (k, j, i) as NIfTI-1, gzip if the name ends in .gz: sform and qform the same, voxels exact.

    `extensions` are header extensions, ready to be written. The same voxels make the same bytes: no time of writing is
    stored. Truth values become bytes, and half precision becomes single, since NIfTI has neither.
    """
    values = _storable(voxels)
    header = _header(geometry, values.dtype)
    header["vox_offset"] = HEADER_BYTES + 4 + len(extensions)
    content = [header.binaryblock, b"\1\0\0\0" if extensions else b"\0\0\0\0", extensions]
    with path.open("wb") as file:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=1, mtime=0) as packed:
                packed.writelines([*content, *(plane.tobytes() for plane in values)])
        else:
            file.writelines([*content, *(plane.tobytes() for plane in values)])


def _storable(voxels: NDArray[np.generic]) -> NDArray[np.generic]:
    dtype = voxels.dtype
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    elif dtype == np.float16:
        dtype = np.dtype(np.float32)
    stored: NDArray[np.generic] = voxels.astype(dtype.newbyteorder("<"), copy=False)
    return stored


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
