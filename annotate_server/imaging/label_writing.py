"""Labelmaps out, in the process that does the work: see `labelmap_files`."""

from pathlib import Path

import numpy as np

from annotate_server.domain.errors import InvalidLabelmap, UnsupportedInput, about
from annotate_server.domain.labelmap import Labelmap, LabelVoxels, labelmap_dtype
from annotate_server.imaging.labelmap_orders import LabelmapFormat, LabelmapWriting, StoredWriting
from annotate_server.imaging.layer_file import read_layer_into
from annotate_server.imaging.nifti_labels import write_nifti_labels
from annotate_server.imaging.seg_nrrd_writing import write_seg_nrrd
from annotate_server.imaging.whole_file import whole_file


def write_labelmap_from(writing: LabelmapWriting) -> None:
    """Write a labelmap; see `labelmap_files.write_labelmap`."""
    if not writing.layers:
        raise InvalidLabelmap("there is no labelmap to write", source=str(writing.path))
    if writing.kind is LabelmapFormat.NIFTI and len(writing.layers) > 1:
        raise InvalidLabelmap(
            f"its segments overlap ({len(writing.layers)} layers), which {writing.kind} cannot hold",
            source=str(writing.path),
            remedy="Write NRRD or DICOM SEG instead.",
        )
    with about(str(writing.path)), whole_file(writing.path) as temporary:
        match writing.kind:
            case LabelmapFormat.NRRD:
                write_seg_nrrd(writing.layers, temporary)
            case LabelmapFormat.NIFTI:
                write_nifti_labels(writing.layers[0], temporary)
            case LabelmapFormat.DICOM_SEG:
                _write_dicom_seg(writing, temporary)


def write_stored_labels(writing: StoredWriting) -> None:
    """Write layers of the store to a file: the process that stores labels need not load their voxels."""
    layers = []
    for path, stored in zip(writing.paths, writing.layers, strict=True):
        voxels: LabelVoxels = np.empty(stored.geometry.shape, labelmap_dtype(stored.segments))
        read_layer_into(path, voxels)
        layers.append(Labelmap(voxels, stored.geometry, stored.segments))
    how = (writing.path, writing.kind, writing.source, writing.algorithm, writing.uids)
    write_labelmap_from(LabelmapWriting(tuple(layers), *how))


def _write_dicom_seg(writing: LabelmapWriting, temporary: Path) -> None:
    """Write a DICOM SEG of the series that was drawn on."""
    from annotate_server.imaging.dicom_seg import write_seg  # noqa: PLC0415  loads highdicom

    if writing.source is None:
        raise UnsupportedInput("a DICOM SEG needs the DICOM series that it refers to", remedy="Write NIfTI or NRRD.")
    write_seg(writing.layers, writing.source, temporary, writing.algorithm, writing.uids)
