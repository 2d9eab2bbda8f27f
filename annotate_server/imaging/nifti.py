"""NIfTI in: NIfTI-1 and -2, one file or a .hdr/.img pair; the header is judged before a voxel is read.

RAS ends here: what comes out of this module is (k, j, i) and LPS.

Rules: the NIfTI-1 standard (nifti1.h, "3D image orientation and location in space", "scl_slope").
"""

import math
from pathlib import Path
from typing import Literal

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.quaternions import quat2mat
from numpy.typing import NDArray

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import UnreadableFile, UnsupportedInput, UntrustedGeometry, about
from annotate_server.domain.geometry import Shape
from annotate_server.domain.volume import Volume
from annotate_server.imaging.grid_file import GridFile, check_affine, volume_of
from annotate_server.imaging.intensities import Scale
from annotate_server.imaging.packed_bytes import EXPORT_AGAIN, opened
from annotate_server.imaging.prescreen import check_voxels

_NUMBERS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_NO_INTENSITIES = {
    1: "single bits",
    32: "complex numbers",
    1792: "complex numbers",
    2048: "complex numbers",
    128: "colours (RGB)",
    2304: "colours (RGBA)",
    1536: "128-bit numbers",
}
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""How many millimetres the unit of length is (xyzt_units, lower three bits); 0 is unknown and means millimetres."""
AGREE_MM, AGREE_DEG = 0.01, 0.1
"""Where sform and qform differ by less, they say the same: float32 quaternions round below a thousandth of it."""


def read_nifti(stored: StoredVolume) -> Volume:
    """Return the volume of a NIfTI file, voxels (k, j, i), with what was odd about it as warnings.

    Raises an InputError that names the file and the defect.
    """
    with about(stored.key):
        return volume_of(read_nifti_header(stored.files[0]), stored)


@np.errstate(invalid="ignore")  # a signalling NaN is refused below, like any other
def read_nifti_header(path: Path) -> GridFile:
    """Return the header of a NIfTI file.

    Raises UnreadableFile where it contradicts itself, UnsupportedInput for what is no volume of intensities,
    UntrustedGeometry for a position that is none, TooLarge for more voxels than the limit.
    """
    header, is_pair = _parsed(path)
    shape = _shape(header)
    dtype = _dtype(header)
    scale, doubts = _scale(header)
    affine, remarks = _affine(header)
    offset = _offset(header, is_pair)
    return GridFile(
        data=_partner(path) if is_pair else path,
        offset=0,
        skip=offset,
        shape=shape,
        dtype=dtype,
        scale=scale,
        affine=np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]],
        warnings=(*doubts, *remarks),
    )


def _parsed(path: Path) -> tuple[Nifti1Header, bool]:
    """Return the fields of the header, not yet judged, and whether the voxels are in a file of their own."""
    with opened(path) as source:
        head = source.take(540)
    order: Literal["little", "big"] = "little" if head[2:4] == b"\0\0" else "big"
    size = int.from_bytes(head[:4], order)
    if size == 348 and len(head) >= 348:
        magic = head[344:348]
        if magic in (b"n+1\0", b"ni1\0"):
            return Nifti1Header(head[:348], order, check=False), magic == b"ni1\0"
        raise UnsupportedInput(
            "it is an ANALYZE 7.5 file, which cannot say what is left and right", remedy="Convert it to NIfTI."
        )
    if size == 540 and len(head) == 540 and head[4:8] in (b"n+2\0", b"ni2\0"):
        return Nifti2Header(head, order, check=False), head[4:8] == b"ni2\0"
    raise UnreadableFile("it is no NIfTI file or its header was cut off", remedy=EXPORT_AGAIN)


def _shape(header: Nifti1Header) -> Shape:
    """Return the shape (k, j, i) of the one volume in the file."""
    dim = [int(n) for n in header["dim"]]
    if not 1 <= dim[0] <= 7:
        raise UnreadableFile(f"its header declares {dim[0]} dimensions; 1 to 7 are possible", remedy=EXPORT_AGAIN)
    sides = dim[1 : dim[0] + 1]
    check_voxels(tuple(sides))
    if dim[0] < 3:
        raise UnsupportedInput(f"it holds no volume but a picture of {' x '.join(map(str, sides))} points")
    if math.prod(sides[4:]) > 1:
        raise UnsupportedInput(
            f"it holds {math.prod(sides[4:])} values for each voxel, as a vector field does",
            remedy="Save one component as a volume of its own.",
        )
    if math.prod(sides[3:]) > 1:
        raise UnsupportedInput(
            f"it holds {math.prod(sides[3:])} volumes (a time series, or several contrasts)",
            remedy="Save the one to be annotated as a file of its own, for example with nibabel's `four_to_three`.",
        )
    return sides[2], sides[1], sides[0]


def _dtype(header: Nifti1Header) -> np.dtype[np.generic]:
    """Return the type of the voxels, in the file's byte order."""
    code, bits = int(header["datatype"]), int(header["bitpix"])
    if code in _NO_INTENSITIES:
        raise UnsupportedInput(f"its voxels are {_NO_INTENSITIES[code]} and no intensities")
    if code not in _NUMBERS:
        raise UnreadableFile(f"its header names the voxel type {code}, which there is not", remedy=EXPORT_AGAIN)
    dtype: np.dtype[np.generic] = np.dtype(_NUMBERS[code]).newbyteorder(header.endianness)
    if bits != dtype.itemsize * 8:
        raise UnreadableFile(
            f"its header declares voxels of {bits} bits and of the type {dtype.name}", remedy=EXPORT_AGAIN
        )
    return dtype


def _offset(header: Nifti1Header, is_pair: bool) -> int:
    """Return where the voxels begin."""
    offset, least = float(header["vox_offset"]), 0 if is_pair else int(header["sizeof_hdr"]) + 4
    if not offset == int(offset if math.isfinite(offset) else -1) or (offset < least and offset != 0):
        raise UnreadableFile(f"its header lets the voxels begin at byte {offset:g}, within itself", remedy=EXPORT_AGAIN)
    return max(int(offset), least)


def _scale(header: Nifti1Header) -> tuple[Scale | None, tuple[str, ...]]:
    """Return slope and intercept of the intensities; the standard says that a slope of 0 means none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isnan(slope):
        return None, ("The intensity scale (scl_slope) is no number and was left out.",)
    if slope == 0 or (slope, intercept) == (1, 0):
        return None, ()
    if not math.isfinite(slope) or not math.isfinite(intercept):
        raise UnreadableFile(f"its intensity scale is {slope:g} and its intercept {intercept:g}", remedy=EXPORT_AGAIN)
    return Scale(slope, intercept), ()


def _affine(header: Nifti1Header) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the affine (i, j, k) to RAS mm and what a person should know about how it was found."""
    scale = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    pixdim = np.array(header["pixdim"][1:4], dtype=np.float64)
    if int(header["sform_code"]) > 0:
        affine, remarks = _sform(header), _doubts_about_sform(header, pixdim)
    else:
        if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
            spacing = " x ".join(f"{value:g}" for value in pixdim)
            raise UntrustedGeometry(f"its voxel spacing is {spacing} mm", remedy=EXPORT_AGAIN)
        has_qform = int(header["qform_code"]) > 0
        affine = _qform(header) if has_qform else np.diag([*pixdim, 1.0])
        remarks = () if has_qform else (_NO_FORM,)
    affine[:3] *= scale
    return affine, remarks


_NO_FORM = (
    "The file has neither a qform nor an sform: the position in the patient is not known, and left and right are as "
    "the order of the voxels suggests."
)


def _sform(header: Nifti1Header) -> NDArray[np.float64]:
    """Return the sform; raises UntrustedGeometry where it maps voxels to nowhere."""
    affine = np.eye(4)
    affine[:3] = [header["srow_x"], header["srow_y"], header["srow_z"]]
    check_affine(affine)
    return affine


def _qform(header: Nifti1Header) -> NDArray[np.float64]:
    """Return the qform; raises UntrustedGeometry for a quaternion that is no rotation."""
    b, c, d = (float(header[f"quatern_{axis}"]) for axis in "bcd")
    offset = [float(header[f"qoffset_{axis}"]) for axis in "xyz"]
    square = 1.0 - (b * b + c * c + d * d)
    if not all(map(math.isfinite, (square, *offset))) or square < -1e-3:
        raise UntrustedGeometry("its position in space (qform) is no rotation", remedy=EXPORT_AGAIN)
    pixdim = np.array(header["pixdim"][:4], dtype=np.float64)
    affine = np.eye(4)
    affine[:3, :3] = quat2mat([math.sqrt(max(0.0, square)), b, c, d]) * pixdim[1:]
    affine[:3, 2] *= -1.0 if pixdim[0] == -1 else 1.0
    affine[:3, 3] = offset
    check_affine(affine)
    return affine


def _doubts_about_sform(header: Nifti1Header, pixdim: NDArray[np.float64]) -> tuple[str, ...]:
    """Return what speaks against the sform, which is used all the same: it is the standard's first choice."""
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
        return ("The voxel spacing (pixdim) is not positive; spacing and position are those of the sform.",)
    if int(header["qform_code"]) <= 0:
        return ()
    try:
        other = _qform(header)
    except UntrustedGeometry:
        return ("The qform is no rotation; the sform was used.",)
    sform = _sform(header)
    sides, other_sides = (np.linalg.norm(affine[:3, :3], axis=0) for affine in (sform, other))
    cosines = np.sum(sform[:3, :3] / sides * other[:3, :3] / other_sides, axis=0)
    angle = float(np.degrees(np.arccos(np.clip(cosines.min(), -1, 1))))
    distance = float(max(np.abs(sides - other_sides).max(), np.abs(sform[:3, 3] - other[:3, 3]).max()))
    if distance <= AGREE_MM and angle <= AGREE_DEG:
        return ()
    return (f"The sform and the qform differ by {distance:.3g} mm and {angle:.3g} degrees; the sform was used.",)


def _partner(path: Path) -> Path:
    """Return the file beside a .hdr that holds the voxels."""
    stem = path.name.removesuffix(".gz").removesuffix(".hdr")
    for name in (f"{stem}.img", f"{stem}.img.gz"):
        if (path.parent / name).is_file():
            return path.parent / name
    raise UnreadableFile("it is the header of a pair, and its .img is not beside it")
