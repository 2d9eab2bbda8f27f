"""From the stored values of a series to intensities: HU for CT, the scanner's own for the rest."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from annotate_server.domain.errors import UnreadableFile
from annotate_server.domain.volume import Modality
from annotate_server.imaging.dicom_frames import Frame
from annotate_server.imaging.dicom_geometry import Stack
from annotate_server.imaging.dicom_kind import modality_of
from annotate_server.imaging.dicom_shear import upright
from annotate_server.imaging.dicom_slices import Slice
from annotate_server.imaging.dicom_values import first_number, plain
from annotate_server.imaging.dicom_voxels import read_voxels

Voxels = NDArray[np.generic]

AIR_HU = -1024
_INT16 = np.iinfo(np.int16)
_HU_TYPES = frozenset({"", "HU", "HU_MOD", "US"})


def is_hounsfield(modality: Modality, rescale_type: str) -> bool:
    """Say whether rescaled values are Hounsfield units: a CT may also hold an effective density or an iodine map.

    An unspecified type (`US`) or none is HU: single-frame CT says so by default (DICOM PS3.3 C.8.2.1).
    """
    return modality is Modality.CT and rescale_type.upper() in _HU_TYPES


def intensities(slices: Sequence[Slice], grid: Stack) -> tuple[Voxels, tuple[str, ...]]:
    """Return the voxels (k, j, i) of slices in order on their grid, and sentences on what was done to them.

    CT: voxels that the scanner marked as padding become air (-1024 HU); MONOCHROME1 is how to show it, not what it is.
    Other modalities have no absolute scale: MONOCHROME1 is turned round, so that bright is bright.
    """
    header, modality = slices[0].header, modality_of(slices[0].header)
    stored, empty = _stored(slices)
    voxels = rescaled(stored, [s.frame for s in slices])
    if modality is Modality.CT:
        for k, where in enumerate(empty):
            if where is not None:
                voxels[k][where] = AIR_HU
    elif header.photometric == "MONOCHROME1":
        voxels = _turned_round(voxels)
    remarks = _remarks(slices[0], modality, lowest=float(voxels.min()))
    if grid.shifts is not None:
        outside = float(AIR_HU if modality is Modality.CT else voxels.min())
        moved = upright(voxels, grid.shifts, grid.geometry.shape, outside)
        voxels = np.rint(moved).astype(np.int16) if voxels.dtype == np.int16 else moved
    return voxels, remarks


def _stored(slices: Sequence[Slice]) -> tuple[list[Voxels], list[NDArray[np.bool_] | None]]:
    """Return for each slice its stored values and where it has no image; each file is read once."""
    of_file: dict[Path, list[int]] = defaultdict(list)
    for k, s in enumerate(slices):
        of_file[s.header.path].append(k)
    stored: list[Voxels] = [np.empty(0)] * len(slices)
    empty: list[NDArray[np.bool_] | None] = [None] * len(slices)
    for path, numbers in of_file.items():
        dataset, planes = read_voxels(path, [slices[k].frame.number for k in numbers])
        for k, plane in zip(numbers, planes, strict=True):
            if plane.shape != (slices[k].header.rows, slices[k].header.columns):
                raise UnreadableFile(f"its voxels have the shape {plane.shape}", source=str(path))
            stored[k], empty[k] = plane, padding(dataset, plane)
    return stored, empty


def _turned_round(voxels: Voxels) -> Voxels:
    """Return intensities with the brightest and the darkest exchanged."""
    ends = voxels.max().item() + voxels.min().item()
    turned: Voxels = np.subtract(ends, voxels, dtype=np.float64).astype(voxels.dtype)
    return turned


def _remarks(first: Slice, modality: Modality, lowest: float) -> tuple[str, ...]:
    """Return what a person should know about the intensities."""
    header, kind = first.header, first.frame.rescale_type
    is_ct = modality is Modality.CT
    remarks = {
        "The voxels were compressed with loss.": header.is_lossy,
        "MONOCHROME1: the Hounsfield units were kept as they are.": is_ct and header.photometric == "MONOCHROME1",
        "MONOCHROME1: the intensities were turned round.": not is_ct and header.photometric == "MONOCHROME1",
        f"The values of this CT are {plain(kind)}, no Hounsfield units.": is_ct and not is_hounsfield(modality, kind),
        "No intensity lies below 0: these may be no Hounsfield units.": is_ct and lowest >= 0,
    }
    return tuple(sentence for sentence, applies in remarks.items() if applies)


def rescaled(stored: list[Voxels], frames: Sequence[Frame]) -> Voxels:
    """Return slope x value + intercept of each slice as one array (k, j, i): int16 where that is exact, else float32.

    Empties `stored` on the way, so that a long series is not held twice. Raises UnreadableFile where a value is not
    finite.
    """
    shape = (len(stored), *stored[0].shape)
    if _fits_int16(stored, frames):
        exact = np.empty(shape, dtype=np.int16)
        for k in reversed(range(len(frames))):
            exact[k] = stored.pop().astype(np.int32) * int(frames[k].slope) + int(frames[k].intercept)
        return exact
    result = np.empty(shape, dtype=np.float32)
    for k in reversed(range(len(frames))):
        result[k] = stored.pop().astype(np.float64) * frames[k].slope + frames[k].intercept
    if not np.isfinite(result).all():
        raise UnreadableFile("rescaling gives intensities that are not finite")
    return result


def _fits_int16(stored: Sequence[Voxels], frames: Sequence[Frame]) -> bool:
    """Say whether every rescaled value is a whole number that int16 holds."""
    for plane, frame in zip(stored, frames, strict=True):
        if plane.dtype.kind not in "iu" or frame.slope != int(frame.slope) or frame.intercept != int(frame.intercept):
            return False
        ends = [float(end) * frame.slope + frame.intercept for end in (plane.min(), plane.max())]
        if min(ends) < _INT16.min or max(ends) > _INT16.max:
            return False
    return True


def padding(dataset: Dataset, stored: Voxels) -> NDArray[np.bool_] | None:
    """Return where a slice has no image (PixelPaddingValue and its range); None where it does not say.

    Scanners write the number as unsigned although voxels are signed, and the other way round: it is taken modulo the
    bits of a voxel.
    """
    value = first_number(dataset.get("PixelPaddingValue"))
    if value is None or stored.dtype.kind not in "iu":
        return None
    limit = first_number(dataset.get("PixelPaddingRangeLimit"))
    ends = sorted(_in_range(end, stored.dtype) for end in (value, value if limit is None else limit))
    empty = np.greater_equal(stored, ends[0]) & np.less_equal(stored, ends[1])
    return empty if empty.any() else None


def _in_range(value: float, dtype: np.dtype[np.generic]) -> int:
    """Return a whole number wrapped into what a type of integers holds."""
    bits = dtype.itemsize * 8
    wrapped = int(value) % (1 << bits)
    return wrapped - (1 << bits) if dtype.kind == "i" and wrapped >= 1 << (bits - 1) else wrapped
