"""Labelmaps of every format in, onto a volume's grid, and out: whole files or none."""

from collections.abc import Sequence
from pathlib import Path

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.volume import Volume
from annotate_server.imaging.labelmap_orders import PLAIN, Algorithm, LabelmapFormat, LabelmapPlace, LabelmapWriting

__all__ = ["PLAIN", "Algorithm", "LabelmapFormat", "read_labelmap", "write_labelmap"]


def read_labelmap(path: Path, reference: Volume | Geometry) -> tuple[Labelmap, ...]:
    """Return the labelmaps of a file on the reference's grid: one, or one a layer where segments overlap.

    NIfTI, MetaImage, NRRD, `.seg.nrrd` and DICOM SEG. The same grid in another order of axes is turned exactly; values
    without a name become `Segment N`. Raises InvalidLabelmap for another grid (saying how far off) and for values that
    are no labels, another InputError where the file cannot be read.
    """
    geometry = reference.geometry if isinstance(reference, Volume) else reference
    from annotate_server.imaging.label_reading import read_labelmap_from  # noqa: PLC0415  loads the parsers

    return read_labelmap_from(LabelmapPlace(path, geometry))


def write_labelmap(
    labelmap: Labelmap | Sequence[Labelmap],
    path: Path,
    kind: LabelmapFormat,
    source: StoredVolume | None = None,
    algorithm: Algorithm = PLAIN,
) -> None:
    """Write a labelmap, or layers of it, as a whole file: nothing half-written is ever seen under `path`.

    NRRD is Slicer's `.seg.nrrd` and holds layers; NIfTI keeps the names in a header extension; a DICOM SEG refers to
    the series `source` and names the `algorithm`. Raises InvalidLabelmap for what the format cannot hold,
    UnsupportedInput for a SEG without a series, StorageFailed where the disk refuses.
    """
    from annotate_server.imaging.label_writing import write_labelmap_from  # noqa: PLC0415  loads nibabel

    layers = (labelmap,) if isinstance(labelmap, Labelmap) else tuple(labelmap)
    write_labelmap_from(LabelmapWriting(layers, path, kind, source, algorithm))
