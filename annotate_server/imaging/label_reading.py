"""Labelmaps in, in the process that does the work: see `labelmap_files`."""

import math

from annotate_server.domain.case import Format
from annotate_server.domain.errors import InvalidLabelmap, UnsupportedInput, about
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.imaging.file_kind import identify
from annotate_server.imaging.grid_file import GridFile, numbers_of
from annotate_server.imaging.label_grid import FoundLabels, label_voxels, on_grid, with_unnamed
from annotate_server.imaging.labelmap_orders import LabelmapPlace
from annotate_server.imaging.metaimage import read_metaimage_header
from annotate_server.imaging.nifti import read_nifti_header
from annotate_server.imaging.nifti_labels import segments_in
from annotate_server.imaging.nrrd import read_nrrd_header
from annotate_server.imaging.seg_nrrd import is_segmentation, read_seg_nrrd

_LARGEST_BLOCK = 8
"""How many times the volume's voxels a segmentation may have: a margin around it is kept by some programs."""


def read_labelmap_from(place: LabelmapPlace) -> tuple[Labelmap, ...]:
    """Return the labelmaps of a file on a grid; see `labelmap_files.read_labelmap`."""
    with about(str(place.path)):
        match identify(place.path):
            case Format.DICOM:
                from annotate_server.imaging.dicom_seg import read_seg  # noqa: PLC0415  loads highdicom

                return read_seg(place.path, place.geometry)
            case Format.NIFTI:
                grid = read_nifti_header(place.path)
                return on_grid(_found(grid, place.geometry, segments_in(grid)), place.geometry)
            case Format.METAIMAGE:
                return on_grid(_found(read_metaimage_header(place.path), place.geometry), place.geometry)
            case Format.NRRD:
                grid = read_nrrd_header(place.path)
                return on_grid(_found(grid, place.geometry), place.geometry)
            case None:
                raise UnsupportedInput("it is no file of a format that labelmaps are read from")


def _found(grid: GridFile, reference: Geometry, named: tuple[Segment, ...] = ()) -> FoundLabels:
    """Return the labels of a file on its own grid; nothing is inflated that could not come onto the reference."""
    is_block = is_segmentation(grid)
    if not is_block and grid.layers > 1:
        raise InvalidLabelmap(f"it holds {grid.layers} numbers for each voxel; a labelmap has one")
    fits = math.prod(grid.shape) <= _LARGEST_BLOCK * math.prod(reference.shape)
    if not fits or not (is_block or sorted(grid.shape) == sorted(reference.shape)):
        theirs, ours = (" x ".join(map(str, shape[::-1])) for shape in (grid.shape, reference.shape))
        raise InvalidLabelmap(f"it has {theirs} voxels and the volume {ours}")
    if is_block:
        return read_seg_nrrd(grid)
    numbers = numbers_of(grid, may_be_empty=True)
    voxels = label_voxels(numbers if grid.scale is None else grid.scale.applied(numbers))
    geometry = Geometry.from_affine(grid.affine, grid.shape)
    return FoundLabels(geometry, (voxels,), (with_unnamed(voxels, named),))
