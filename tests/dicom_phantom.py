"""DICOM files for tests, written with pydicom: a sound series, to which each test does one wrong."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from annotate_server.domain.geometry import Geometry

CLASSES = {
    "CT": UID("1.2.840.10008.5.1.4.1.1.2"),
    "MR": UID("1.2.840.10008.5.1.4.1.1.4"),
    "PT": UID("1.2.840.10008.5.1.4.1.1.128"),
}
ENHANCED = {"CT": UID("1.2.840.10008.5.1.4.1.1.2.1"), "MR": UID("1.2.840.10008.5.1.4.1.1.4.1")}

Change = Callable[[int, Dataset], None]


def phantom_voxels(shape: tuple[int, int, int]) -> NDArray[np.int16]:
    """Return stored values in which every voxel differs from its neighbours, -1000 to about 2000."""
    k, j, i = np.indices(shape)
    return ((k * 97 + j * 31 + i * 7) % 3000 - 1000).astype(np.int16)


def same(_: int, dataset: Dataset) -> None:
    """Change nothing."""


def write_series(
    folder: Path,
    geometry: Geometry,
    voxels: NDArray[np.generic] | None = None,
    *,
    modality: str = "CT",
    change: Change = same,
    uid: str = "1.2.3.4",
    syntax: UID = ExplicitVRLittleEndian,
) -> list[Path]:
    """Write a file for each slice, named in no order; `change` is called with (k, dataset) before a file is written."""
    values = phantom_voxels(geometry.shape) if voxels is None else voxels
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, plane in enumerate(values):
        dataset = slice_dataset(geometry, k, plane, modality, uid)
        change(k, dataset)
        paths.append(folder / f"IM{(k * 7919) % 1000:03d}{k}.dcm")
        save(dataset, paths[-1], syntax)
    return paths


def slice_dataset(geometry: Geometry, k: int, plane: NDArray[np.generic], modality: str, uid: str) -> Dataset:
    """Return one slice of a grid as a dataset, voxels included."""
    dataset = common_dataset(geometry, plane, modality, uid)
    dataset.SOPClassUID = CLASSES[modality]
    dataset.SOPInstanceUID = f"{uid}.{k + 1}"
    dataset.InstanceNumber = k + 1
    dataset.ImagePositionPatient = decimals(geometry.world([[k, 0, 0]])[0])
    dataset.ImageOrientationPatient = decimals([*geometry.direction[2], *geometry.direction[1]])
    dataset.PixelSpacing = decimals(geometry.spacing_mm[1:])
    dataset.SliceThickness = decimals([geometry.spacing_mm[0]])[0]
    if modality == "CT":
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"
    return dataset


def common_dataset(geometry: Geometry, plane: NDArray[np.generic], modality: str, uid: str) -> Dataset:
    """Return what all images share."""
    dataset = Dataset()
    dataset.Modality = modality
    dataset.PatientID, dataset.PatientName = "P1", "Phantom^One"
    dataset.PatientBirthDate, dataset.PatientSex = "", ""
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20260101", "120000", "1", ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", uid
    dataset.SeriesNumber, dataset.SeriesDescription = 3, "phantom"
    if geometry.frame_of_reference:
        dataset.FrameOfReferenceUID = geometry.frame_of_reference
        dataset.PositionReferenceIndicator = ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    set_voxels(dataset, plane)
    return dataset


def set_voxels(dataset: Dataset, values: NDArray[np.generic]) -> None:
    """Put voxels, (rows, columns) or (frames, rows, columns), into a dataset."""
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = values.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = values.astype(values.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"


def write_enhanced(
    path: Path,
    geometry: Geometry,
    stacks: Sequence[NDArray[np.generic]],
    *,
    modality: str = "MR",
    group: Change = same,
    change: Change = same,
) -> Path:
    """Write a multi-frame file of one or more volumes on a grid: all frames of one place, then those of the next.

    `group` is called with (number of the stack, functional groups of a frame), `change` once with the whole dataset.
    """
    frames = [stack[k] for k in range(geometry.shape[0]) for stack in stacks]
    dataset = common_dataset(geometry, np.stack(frames), modality, "1.2.3.4.5")
    dataset.SOPClassUID, dataset.SOPInstanceUID = ENHANCED[modality], "1.2.3.4.5.1"
    dataset.NumberOfFrames = len(frames)
    dataset.PerFrameFunctionalGroupsSequence = Items()
    for number in range(len(frames)):
        k, stack = divmod(number, len(stacks))
        groups = Dataset()
        groups.PlanePositionSequence = [Dataset()]
        groups.PlanePositionSequence[0].ImagePositionPatient = decimals(geometry.world([[k, 0, 0]])[0])
        groups.FrameContentSequence = [Dataset()]
        groups.FrameContentSequence[0].StackID = "1"
        group(stack, groups)
        dataset.PerFrameFunctionalGroupsSequence.append(groups)
    dataset.SharedFunctionalGroupsSequence = [shared_groups(geometry)]
    change(0, dataset)
    save(dataset, path, ExplicitVRLittleEndian)
    return path


def shared_groups(geometry: Geometry) -> Dataset:
    """Return orientation, spacing and rescale of a multi-frame file."""
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = decimals(
        [*geometry.direction[2], *geometry.direction[1]]
    )
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = decimals(geometry.spacing_mm[1:])
    shared.PixelMeasuresSequence[0].SliceThickness = decimals([geometry.spacing_mm[0]])[0]
    shared.PixelValueTransformationSequence = [Dataset()]
    shared.PixelValueTransformationSequence[0].RescaleSlope = "1"
    shared.PixelValueTransformationSequence[0].RescaleIntercept = "0"
    shared.PixelValueTransformationSequence[0].RescaleType = "US"
    return shared


def save(dataset: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> None:
    """Write a dataset in a transfer syntax; the voxels are compressed where it is encapsulated."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_encapsulated else syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID") or CLASSES["CT"]
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or generate_uid()
    if syntax.is_encapsulated:
        dataset.compress(syntax, generate_instance_uid=False)
    if not syntax.is_little_endian:
        words = np.frombuffer(dataset.PixelData, dtype="<i2").astype(">i2")
        dataset.PixelData = words.tobytes()
    dataset.save_as(path, enforce_file_format=True)


def decimals(values: Sequence[float] | NDArray[np.float64]) -> list[str]:
    """Return numbers as DICOM writes them: at most 16 characters."""
    return [f"{value:.10f}"[:16] for value in values]
