"""Which DICOM objects hold a volume, and why the others do not."""

from annotate_server.domain.errors import AnnotateError, NotMadeFor, UnreadableFile, UnsupportedInput
from annotate_server.domain.volume import Modality
from annotate_server.imaging.dicom_classes import MODALITY_OF_CLASS, may_hold_volume, takes_slices
from annotate_server.imaging.dicom_header import DicomHeader
from annotate_server.imaging.dicom_values import plain


def modality_of(header: DicomHeader) -> Modality:
    """Return what took the images, from the class of object where the file does not say."""
    return Modality.of(header.modality or MODALITY_OF_CLASS.get(header.sop_class, ""))


def holds_no_volume(header: DicomHeader) -> AnnotateError | None:
    """Return why an object is no part of a volume, or None where it may be.

    NotMadeFor is what nobody would draw on: a report, a segmentation, a projection, a screenshot; a batch skips it.
    UnsupportedInput is what holds a volume in a way that is not read here.
    """
    if not may_hold_volume(header.sop_class, header.modality):
        return NotMadeFor(f"it holds no volume ({header.kind})")
    if not header.rows:
        if header.defect:
            return None  # `damage` says it better
        return UnsupportedInput(f"it holds no image, although it should ({header.kind})")
    return _not_grey(header) or _not_placed(header) or _not_plain(header)


def damage(header: DicomHeader) -> UnreadableFile | None:
    """Return what is wrong with the bytes of an image, or None."""
    name = header.path.name
    if header.defect:
        return UnreadableFile(f"{name} is damaged: {header.defect}", remedy="Export it again from where it came.")
    for frame in header.frames:
        if not 1e-30 < abs(frame.slope) < 1e30 or not abs(frame.intercept) < 1e30:
            slope, intercept = f"rescale slope {frame.slope:g}", f"intercept {frame.intercept:g}"
            return UnreadableFile(f"the {slope} and {intercept} of {name} give no intensities")
    return None


def _not_grey(header: DicomHeader) -> NotMadeFor | None:
    """Return why the voxels are no intensities."""
    if header.samples == 1 and header.photometric in ("MONOCHROME1", "MONOCHROME2", ""):
        return None
    name = plain(header.photometric) or f"{header.samples} values a voxel"
    return NotMadeFor(f"it is a colour image ({name}), and a volume has one intensity a voxel")


def _not_placed(header: DicomHeader) -> NotMadeFor | None:
    """Return why an image that was never meant as a slice is none; a CT, MR or PET without a place is judged later."""
    is_slice = takes_slices(header.sop_class, header.modality)
    if not is_slice and any(frame.position_mm is None for frame in header.frames):
        return NotMadeFor("it is a picture, no slice: it has no position in the patient")
    return None


def _not_plain(header: DicomHeader) -> UnsupportedInput | None:
    """Return why the voxels cannot be taken as they are."""
    if header.has_lut:
        return UnsupportedInput("its intensities go through a lookup table (Modality LUT), which is not supported")
    if any("MOSAIC" in frame.image_type for frame in header.frames):
        detail = "each image is a mosaic of many slices, whose places only the scanner's maker knows"
        return UnsupportedInput(detail, remedy="Convert it with dcm2niix first.")
    return None
