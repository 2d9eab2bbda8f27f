"""Labelmaps out, in the process that does the work: see `labelmap_files`."""

from pathlib import Path

from annotate_server.domain.errors import InvalidLabelmap, UnsupportedInput, about
from annotate_server.imaging.labelmap_orders import LabelmapFormat, LabelmapWriting
from annotate_server.imaging.nifti_labels import write_nifti_labels
from annotate_server.imaging.seg_nrrd import write_seg_nrrd
from annotate_server.imaging.whole_file import whole_file


def write_labelmap_from(writing: LabelmapWriting) -> None:
    """Write a labelmap; see `labelmap_files.write_labelmap`."""
    if not writing.layers:
        raise InvalidLabelmap("there is no labelmap to write", source=str(writing.path))
    if writing.kind is not LabelmapFormat.NRRD and len(writing.layers) > 1:
        raise InvalidLabelmap(
            f"its segments overlap ({len(writing.layers)} layers), which {writing.kind} cannot hold",
            source=str(writing.path),
            remedy="Write NRRD instead.",
        )
    with about(str(writing.path)), whole_file(writing.path) as temporary:
        match writing.kind:
            case LabelmapFormat.NRRD:
                write_seg_nrrd(writing.layers, temporary)
            case LabelmapFormat.NIFTI:
                write_nifti_labels(writing.layers[0], temporary)
            case LabelmapFormat.DICOM_SEG:
                _write_dicom_seg(writing, temporary)


def _write_dicom_seg(writing: LabelmapWriting, temporary: Path) -> None:
    """Write a DICOM SEG of the series that was drawn on."""
    from annotate_server.imaging.dicom_seg import SegAlgorithm, write_seg  # noqa: PLC0415  loads highdicom

    if writing.source is None:
        raise UnsupportedInput("a DICOM SEG needs the DICOM series that it refers to", remedy="Write NIfTI or NRRD.")
    algorithm = SegAlgorithm(writing.algorithm.name, writing.algorithm.version)
    write_seg(writing.layers[0], writing.source, temporary, algorithm)
