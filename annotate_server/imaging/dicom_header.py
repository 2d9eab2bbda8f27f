"""What the header of a DICOM file says, judged as far as one file can be: no voxel is read."""

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.config import IGNORE
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from annotate_server.domain.errors import UnreadableFile, about
from annotate_server.imaging.dicom_classes import may_hold_volume
from annotate_server.imaging.dicom_frames import FRAME_TAGS, Frame, frames_of
from annotate_server.imaging.dicom_values import count, first_number, plain, text
from annotate_server.imaging.prescreen import prescreen_dicom
from annotate_server.imaging.wire import sendable

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
"""A DICOMDIR: the table of contents of a disc, and no object."""

_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("PatientID", "IssuerOfPatientID", "SeriesDescription", "BodyPartExamined", "InstanceNumber"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "LossyImageCompression"),
    "ModalityLUTSequence",
]

HEADER_TAGS: list[int] = [*map(Tag, _TAGS), *map(Tag, FRAME_TAGS)]
"""All that a header is made of."""

_DAMAGE = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, OverflowError),
    *(struct.error, EOFError, RuntimeError, zlib.error, InvalidDicomError, BytesLengthException),
)
"""What pydicom raises over damaged bytes."""


@sendable
@dataclass(frozen=True)
class DicomHeader:
    """The facts of one file; an empty text or 0 stands for what the file does not say.

    `frames` are its planes, in the order of the file; none where it holds no image. `defect` is a sentence about bytes
    that are wrong although the header can be read (voxels that are not there).
    """

    path: Path
    sop_class: str = ""
    sop_instance: str = ""
    modality: str = ""
    study: str = ""
    series: str = ""
    frame_of_reference: str = ""
    patient: str = ""
    issuer: str = ""
    description: str = ""
    body_part: str = ""
    instance: int = 0
    rows: int = 0
    columns: int = 0
    samples: int = 1
    photometric: str = ""
    is_lossy: bool = False
    has_lut: bool = False
    frames: tuple[Frame, ...] = ()
    defect: str = ""

    @property
    def kind(self) -> str:
        """Return what sort of object it is: the name of its SOP class, or its modality for a class without a name."""
        name = UID(self.sop_class, IGNORE).name
        return name if name and name != self.sop_class else f"{plain(self.modality) or 'unknown'} object"


def read_header(path: Path) -> DicomHeader:
    """Return what a file's header says; `defect` where its bytes are damaged behind a header that can be read.

    Raises UnreadableFile for what is no DICOM, is damaged, or holds no number where there must be one; TooLarge for a
    file that a parser must not see.
    """
    damaged = None
    try:
        prescreen_dicom(path)
    except UnreadableFile as error:
        # A slice that was cut off still says which series it spoils.
        damaged = error
    try:
        header = _parsed(path)
    except UnreadableFile as error:
        raise damaged or error from error
    return replace(header, defect=damaged.detail) if damaged else header


def _parsed(path: Path) -> DicomHeader:
    with open_dicom(path) as (dataset, bytes_left):
        sop_class = text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID")
        header = header_of(dataset, path, sop_class)
        return replace(
            header,
            sop_instance=header.sop_instance or text(dataset.file_meta, "MediaStorageSOPInstanceUID"),
            defect="it holds no voxels" if header.frames and bytes_left == 0 else "",
        )


def header_of(dataset: Dataset, path: Path, sop_class: str) -> DicomHeader:
    """Return what a dataset says, which is that of `path`; raises UnreadableFile for what is no number."""
    rows, columns = count(dataset, "Rows"), count(dataset, "Columns")
    modality = text(dataset, "Modality")
    is_image = rows > 0 and columns > 0 and may_hold_volume(sop_class, modality)
    return DicomHeader(
        path=path,
        sop_class=sop_class,
        sop_instance=text(dataset, "SOPInstanceUID"),
        modality=modality,
        study=text(dataset, "StudyInstanceUID"),
        series=text(dataset, "SeriesInstanceUID"),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
        patient=text(dataset, "PatientID"),
        issuer=text(dataset, "IssuerOfPatientID"),
        description=text(dataset, "SeriesDescription"),
        body_part=text(dataset, "BodyPartExamined"),
        instance=int(first_number(dataset.get("InstanceNumber")) or 0),
        rows=rows,
        columns=columns,
        samples=count(dataset, "SamplesPerPixel") or 1,
        photometric=text(dataset, "PhotometricInterpretation"),
        is_lossy=text(dataset, "LossyImageCompression") == "01",
        has_lut="ModalityLUTSequence" in dataset,
        frames=frames_of(dataset) if is_image else (),
    )


@contextmanager
def open_dicom(path: Path) -> Iterator[tuple[FileDataset, int | None]]:
    """Give the dataset of a file without voxels, and how many bytes follow its header (None: unknown).

    Whatever pydicom raises over damaged bytes, here or while the caller looks at the dataset, becomes UnreadableFile.
    """
    with warnings.catch_warnings(), as_unreadable(path), path.open("rb") as file:
        warnings.simplefilter("ignore")  # pydicom warns of each odd value; here they are judged
        head = file.read(_HEAD_BYTES)
        if not looks_like_dicom(head):
            raise UnreadableFile("it is no DICOM file", source=str(path))
        file.seek(0)
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=HEADER_TAGS)
        yield dataset, _bytes_left(file, dataset)


@contextmanager
def as_unreadable(path: Path) -> Iterator[None]:
    """Turn what a parser raises over damaged bytes into UnreadableFile; its message may quote the file: left out."""
    try:
        with about(str(path)):
            yield
    except OSError as error:
        raise UnreadableFile(f"it cannot be read ({os.strerror(error.errno or 0)})", source=str(path)) from error
    except _DAMAGE as error:
        detail = f"the DICOM file is damaged ({type(error).__name__} while it was read)"
        raise UnreadableFile(detail, source=str(path), remedy="Export it again from where it came.") from error


_HEAD_BYTES = 132


def looks_like_dicom(head: bytes) -> bool:
    """Say whether the first 132 bytes of a file are DICOM's: with the preamble, or of a dataset that lacks it.

    Without preamble the first element is of group 2 or 8, with a VR that exists or, in implicit VR, with a short, even
    length.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 16:
        return False
    if head[:2] in (b"\x02\x00", b"\x08\x00"):
        length = struct.unpack("<I", head[4:8])[0]
        implicit = head[:2] == b"\x08\x00" and head[3] == 0 and length <= 256 and length % 2 == 0
        return head[4:6] in _FIRST_VRS or implicit
    return head[:2] == b"\x00\x08" and head[4:6] in _FIRST_VRS


_FIRST_VRS = frozenset({b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"LO", b"SH"})


def transfer_syntax(dataset: FileDataset) -> UID:
    """Return how a dataset is encoded, from how it was read where the file has no word of it."""
    stated = dataset.file_meta.get("TransferSyntaxUID")
    if stated:
        return UID(str(stated))
    is_implicit, is_little_endian = dataset.original_encoding
    if not is_little_endian:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian


def _bytes_left(file: BinaryIO, dataset: FileDataset) -> int | None:
    """Return how many bytes the file has after its header; None where the dataset was inflated elsewhere."""
    if transfer_syntax(dataset) == DeflatedExplicitVRLittleEndian:
        return None
    return os.fstat(file.fileno()).st_size - file.tell()
