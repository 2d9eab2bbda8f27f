"""Reading the volume of a DICOM series."""

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import about
from annotate_server.domain.volume import Acquisition, Volume
from annotate_server.imaging.dicom_intensities import intensities, is_hounsfield
from annotate_server.imaging.dicom_kind import modality_of
from annotate_server.imaging.dicom_listing import readable_part


def read_series(stored: StoredVolume) -> Volume:
    """Return the volume of a series: slices in order along the normal, in HU for CT.

    `stored` names the files, and the part where a series holds several. Raises the error that says what is wrong: the
    geometry is judged before a voxel is read.
    """
    part, grid = readable_part(stored)
    with about(stored.key):
        voxels, remarks = intensities(part.slices, grid)
    header, frame, modality = part.header, part.slices[0].frame, modality_of(part.header)
    acquisition = Acquisition(
        description=header.description,
        image_type=frame.image_type,
        body_part=header.body_part,
        part=stored.part,
        warnings=(*grid.warnings, *remarks),
    )
    unit = "HU" if is_hounsfield(modality, frame.rescale_type) else "1"
    return Volume(voxels, grid.geometry, modality, unit, acquisition)
