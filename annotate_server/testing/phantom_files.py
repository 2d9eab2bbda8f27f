"""Phantoms as files: DICOM series and NIfTI, the same bytes on every run and machine.

Nothing is compressed (zlib's output differs between versions), identifiers and dates are fixed.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from annotate_server.domain.geometry import Geometry
from annotate_server.domain.volume import Modality, Volume

_NAMESPACE = uuid.UUID("5f9d2f0e-6a0e-5d57-9d3b-6a3c1f6a8c11")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_DATE, _TIME = "20200101", "120000"


@dataclass(frozen=True)
class SeriesWords:
    """What a phantom's series says of itself; `name` also makes its identifiers."""

    name: str
    patient_name: str
    patient_id: str
    description: str
    body_part: str


def phantom_uid(name: str) -> UID:
    """Return a fixed identifier below the root 2.25 for a name."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")


def write_series(folder: Path, volume: Volume, words: SeriesWords) -> list[Path]:
    """Write a volume as single-frame CT or MR instances and return their paths in the order of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for k in range(volume.geometry.shape[0]):
        path = folder / f"{k + 1:04d}.dcm"
        instance = FileDataset(path, {}, file_meta=_file_meta(volume, words, k), preamble=b"\0" * 128)
        instance.update(_who_and_when(words))
        instance.update(_image(volume, words, k))
        instance.save_as(path, enforce_file_format=True)
        written.append(path)
    return written


def write_nifti(path: Path, voxels: NDArray[np.generic], geometry: Geometry) -> Path:
    """Write an array (k, j, i) as uncompressed NIfTI, RAS as the format wants it, with sform and qform."""
    affine = _LPS_TO_RAS @ geometry.affine @ np.eye(4)[[2, 1, 0, 3]]
    file = nibabel.Nifti1Image(np.ascontiguousarray(voxels.T), affine)
    file.set_sform(affine, 1)
    file.set_qform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.to_bytes())
    return path


def _file_meta(volume: Volume, words: SeriesWords, k: int) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = CTImageStorage if volume.modality is Modality.CT else MRImageStorage
    meta.MediaStorageSOPInstanceUID = phantom_uid(f"{words.name}/{k}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = phantom_uid("implementation")
    meta.ImplementationVersionName = "PHANTOM_1"
    return meta


def _who_and_when(words: SeriesWords) -> Dataset:
    """Return the patient, study, series, frame of reference and equipment."""
    part = Dataset()
    part.SpecificCharacterSet = "ISO_IR 192"
    part.PatientName = words.patient_name
    part.PatientID = words.patient_id
    part.PatientBirthDate = ""
    part.PatientSex = "O"
    part.StudyInstanceUID = phantom_uid(f"{words.patient_id}/study")
    part.SeriesInstanceUID = phantom_uid(f"{words.name}/series")
    part.FrameOfReferenceUID = phantom_uid(f"{words.name}/frame")
    part.PositionReferenceIndicator = ""
    part.StudyID, part.AccessionNumber, part.ReferringPhysicianName = "1", "", ""
    part.StudyDate = part.SeriesDate = part.AcquisitionDate = part.ContentDate = _DATE
    part.StudyTime = part.SeriesTime = part.AcquisitionTime = part.ContentTime = _TIME
    part.StudyDescription = "Phantom"
    part.SeriesDescription = words.description
    part.BodyPartExamined = words.body_part
    part.SeriesNumber = 1
    part.Laterality = ""
    part.PatientPosition = "HFS"
    part.Manufacturer = "annotate-server"
    part.ManufacturerModelName = "Phantom"
    return part


def _image(volume: Volume, words: SeriesWords, k: int) -> Dataset:
    """Return image plane, pixels and what the modality asks for, of slice k."""
    geometry, is_ct = volume.geometry, volume.modality is Modality.CT
    part = Dataset()
    part.SOPClassUID = CTImageStorage if is_ct else MRImageStorage
    part.SOPInstanceUID = phantom_uid(f"{words.name}/{k}")
    part.Modality = "CT" if is_ct else "MR"
    part.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if is_ct else "M"]
    part.InstanceNumber = k + 1
    part.AcquisitionNumber = 1
    part.ImagePositionPatient = [_decimal(x) for x in geometry.world([[k, 0, 0]])[0]]
    part.ImageOrientationPatient = [_decimal(x) for axis in (2, 1) for x in geometry.direction[axis]]
    part.PixelSpacing = [_decimal(s) for s in geometry.spacing_mm[1:]]
    part.SliceThickness = _decimal(geometry.spacing_mm[0])
    part.SamplesPerPixel, part.PhotometricInterpretation = 1, "MONOCHROME2"
    part.Rows, part.Columns = geometry.shape[1:]
    part.BitsAllocated, part.BitsStored, part.HighBit, part.PixelRepresentation = 16, 12, 11, 0
    if is_ct:
        part.RescaleIntercept, part.RescaleSlope, part.RescaleType = "-1024", "1", "HU"
        part.KVP = "120"
    else:
        part.ScanningSequence, part.SequenceVariant, part.ScanOptions = "GR", "SP", ""
        part.MRAcquisitionType, part.RepetitionTime, part.EchoTime, part.EchoTrainLength = "3D", "9", "4", "1"
    stored = volume.voxels[k].astype(np.int32) + (1024 if is_ct else 0)
    part.PixelData = np.ascontiguousarray(stored, dtype="<u2").tobytes()
    part["PixelData"].VR = "OW"
    return part


def _decimal(value: float) -> str:
    """Return a DICOM decimal string: eight decimals, no negative zero."""
    return f"{round(float(value), 8) + 0.0:.8f}".rstrip("0").rstrip(".")
