"""What single files are: their DICOM headers, or the volume that one file is."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.errors import AnnotateError, NotMadeFor
from annotate_server.imaging.dicom_header import MEDIA_DIRECTORY, DicomHeader
from annotate_server.imaging.isolation import Isolated

_NOBODY = PatientKey("", "", known=False)
_SEGMENTATION_SUFFIX = ".seg.nrrd"


@dataclass
class Look:
    """What was found in files: `series` says for each name which series it belongs to, empty for what is no volume.

    `headers` are those of DICOM files by series; `single` are volumes of one file, and files with a problem of their
    own, under a series for each.
    """

    series: dict[str, str] = field(default_factory=dict)
    headers: dict[str, list[DicomHeader]] = field(default_factory=lambda: defaultdict(list))
    single: dict[str, StoredVolume] = field(default_factory=dict)

    def add_header(self, name: str, header: DicomHeader) -> None:
        """Take in a DICOM file; the table of contents of a disc is no object."""
        if header.sop_class == MEDIA_DIRECTORY:
            self.series[name] = ""
            return
        # A file that names no series belongs to the others of its folder.
        key = f"{header.study}|{header.series or PurePosixPath(name).parent}"
        self.series[name] = key
        self.headers[key].append(header)

    def add_single(self, name: str, path: Path, kind: Format, error: AnnotateError | None) -> None:
        """Take in a file that is a volume by itself, or that has a problem."""
        problem = type(error)(error.detail, remedy=error.remedy).problem() if error else None
        self.series[name] = f"file:{name}"
        self.single[self.series[name]] = StoredVolume("", kind, (path,), _NOBODY, problem=problem)


def look_into(names: Sequence[str], folder: Path, isolated: Isolated) -> Look:
    """Return what files of a folder are; a parser that crashes or hangs costs the file that made it do so."""
    look = Look()
    paths = {folder / name: name for name in names}
    dicom: list[Path] = []
    for outcome in isolated.each("identify", paths):
        name = paths[outcome.item]
        if outcome.error is not None:
            look.add_single(name, outcome.item, _format_by_name(name), outcome.error)
        elif outcome.answer is Format.DICOM:
            dicom.append(outcome.item)
        elif isinstance(outcome.answer, Format):
            look.add_single(name, outcome.item, outcome.answer, _not_drawn_on(name))
        else:
            look.series[name] = ""
    for header in isolated.each("dicom header", dicom):
        name = paths[header.item]
        if isinstance(header.answer, DicomHeader):
            look.add_header(name, header.answer)
        else:
            look.add_single(name, header.item, Format.DICOM, header.error)
    return look


def _not_drawn_on(name: str) -> NotMadeFor | None:
    """Return why a file is no volume although its format could hold one."""
    if name.lower().endswith(_SEGMENTATION_SUFFIX):
        return NotMadeFor("it is a segmentation, no volume")
    return None


def _format_by_name(name: str) -> Format:
    lower = name.lower()
    if lower.endswith((".nii", ".nii.gz", ".hdr", ".img")):
        return Format.NIFTI
    if lower.endswith((".mha", ".mhd")):
        return Format.METAIMAGE
    return Format.NRRD if lower.endswith((".nrrd", ".nhdr")) else Format.DICOM
