"""What NIfTI, MetaImage and NRRD have in common: a judged header, and numbers at an offset of a file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import UnreadableFile, UnsupportedInput, UntrustedGeometry
from annotate_server.domain.geometry import Shape
from annotate_server.domain.volume import Acquisition, Modality, Volume
from annotate_server.imaging.intensities import Scale, intensities
from annotate_server.imaging.packed_bytes import EXPORT_AGAIN, SLACK_BYTES, opened
from annotate_server.imaging.prescreen import check_ratio
from annotate_server.imaging.shear import straightened

FARTHEST_MM = 1e6
"""A kilometre: coordinates of scanners and of atlases stay within metres."""
SMALLEST_VOXEL_MM = 1e-6
"""A nanometre: below the resolution of any microscope."""


@dataclass(frozen=True)
class GridFile:
    """A header that was found possible, and where its numbers are.

    `shape` is (k, j, i); `layers` is how many numbers each voxel has, which lie next to each other. `affine` maps
    (k, j, i, 1) to LPS mm. The numbers begin at `offset` of `data`, or behind the first `skip` inflated bytes;
    `offset` None means that they are its last bytes. `is_packed` is None where the first bytes of `data` tell.
    `scale` is None where the numbers are the intensities. `words` are what the format lets a writer add.
    """

    data: Path
    offset: int | None
    shape: Shape
    dtype: np.dtype[np.generic]
    affine: NDArray[np.float64]
    is_packed: bool | None = None
    skip: int = 0
    layers: int = 1
    scale: Scale | None = None
    warnings: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a place that no scanner and no program has."""
        check_affine(self.affine)

    @property
    def size_bytes(self) -> int:
        """Return how many bytes the numbers take."""
        return math.prod(self.shape) * self.layers * self.dtype.itemsize


def volume_of(grid: GridFile, stored: StoredVolume) -> Volume:
    """Return the volume of a file, voxels (k, j, i), with all that was odd about it as warnings."""
    if grid.layers > 1:
        raise UnsupportedInput(
            f"it holds {grid.layers} numbers for each voxel (colours, a vector field or a time series)",
            remedy="Save the volume that is to be annotated as a file of its own.",
        )
    values, remarks = intensities(numbers_of(grid), grid.scale)
    voxels, geometry, tilt = straightened(values, grid.affine)
    unit = "HU" if stored.modality is Modality.CT else "1"
    warnings = (*grid.warnings, *remarks, *tilt)
    acquisition = Acquisition(stored.description, stored.image_type, part=stored.part, warnings=warnings)
    return Volume(voxels, geometry, stored.modality, unit, acquisition)


def numbers_of(grid: GridFile, *, may_be_empty: bool = False) -> NDArray[np.generic]:
    """Return the numbers as they are in the file, in its byte order: (k, j, i), or (k, j, i, layers).

    `may_be_empty` is for labelmaps, which compress a thousandfold; intensities that do are refused as a bomb. Raises
    UnreadableFile where there are fewer or more than the header promises.
    """
    size = size_bytes(grid.data)
    offset = max(0, size - grid.size_bytes) if grid.offset is None else grid.offset
    with opened(grid.data, offset, is_packed=grid.is_packed) as source:
        if source.is_packed and not may_be_empty:
            check_ratio(grid.size_bytes, size)
        if not source.is_packed and size < offset + grid.skip + grid.size_bytes:
            raise UnreadableFile(
                f"its header promises {grid.size_bytes} bytes of voxels and {max(0, size - offset - grid.skip)} are "
                "there: the file was cut off",
                remedy=EXPORT_AGAIN,
            )
        source.skip_to(grid.skip)
        shape = grid.shape if grid.layers == 1 else (*grid.shape, grid.layers)
        slack = min(SLACK_BYTES, grid.size_bytes // grid.shape[0] - 1)
        return source.take_array(math.prod(shape), grid.dtype, slack).reshape(shape)


def check_affine(affine: NDArray[np.float64]) -> None:
    """Refuse an affine (4, 4) in mm that is not finite, out of all proportion or flat; raises UntrustedGeometry."""
    if not np.isfinite(affine).all():
        raise UntrustedGeometry("its position in space holds a number that is not finite", remedy=EXPORT_AGAIN)
    if np.abs(affine).max() > FARTHEST_MM:
        raise UntrustedGeometry(f"its position in space is {np.abs(affine).max():.3g} mm off", remedy=EXPORT_AGAIN)
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if sides.min() < SMALLEST_VOXEL_MM or abs(np.linalg.det(affine[:3, :3] / sides)) < 1e-6:
        raise UntrustedGeometry("its position in space maps the volume to a plane or a point", remedy=EXPORT_AGAIN)


def size_bytes(path: Path) -> int:
    """Return a file's size; raises UnreadableFile."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise UnreadableFile(f"the file {path.name} cannot be read ({error.strerror})") from error


def neighbour(header: Path, name: str) -> Path:
    """Return the file with the voxels that a header names: it must lie in the same folder, under a plain name.

    Raises UnsupportedInput for anything else: a header must not make this program read another file.
    """
    plain = name.replace("\\", "/")
    if plain.startswith("./"):
        plain = plain[2:]
    if not plain or "/" in plain or "\0" in plain or plain in (".", "..") or plain == header.name:
        raise UnsupportedInput(
            "its header says that the voxels are in another folder", remedy="Put both files into one folder."
        )
    if not (header.parent / plain).is_file():
        raise UnreadableFile("the file with its voxels is not beside it", remedy="Put both files into one folder.")
    return header.parent / plain


def affine_of(axes: NDArray[np.float64], origin: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine (k, j, i, 1) to LPS mm; `axes` (3, 3) are the steps along i, j and k, one in each row."""
    affine = np.eye(4)
    affine[:3, :3] = axes[::-1].T
    affine[:3, 3] = origin
    return affine
