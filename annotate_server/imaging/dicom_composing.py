"""DICOM files and frames for who asked for them in a form that they are not stored in."""

import io
import json
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from annotate_server.imaging.dicom_header import as_unreadable
from annotate_server.imaging.dicom_instances import ComposeOrder, FramesOrder
from annotate_server.imaging.dicom_values import count
from annotate_server.imaging.dicom_voxels import read_voxels
from annotate_server.imaging.prescreen import prescreen_dicom

Bytes = NDArray[np.uint8]


def decoded_frames(order: FramesOrder) -> tuple[NDArray[np.generic], ...]:
    """Return stored values (rows, columns) as the header announces them: little endian, all bits allocated."""
    prescreen_dicom(order.path)
    dataset, planes = read_voxels(order.path, order.frames)
    return tuple(_as_announced(dataset, plane) for plane in planes)


def plain_file(path: Path) -> Bytes:
    """Return a DICOM file decompressed, as explicit little endian."""
    prescreen_dicom(path)
    dataset, planes = read_voxels(path)
    with as_unreadable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of each odd value
        for tag in [each for each in dataset.keys() if each.group == 0x7FE0]:  # noqa: SIM118  no mapping
            del dataset[tag]
        _set_voxels(dataset, b"".join(_as_announced(dataset, plane).tobytes() for plane in planes))
        return _written(dataset)


def composed_file(order: ComposeOrder) -> Bytes:
    """Return the DICOM file of attributes and voxels."""
    dataset = Dataset.from_json(json.loads(order.attributes))
    voxels = np.ascontiguousarray(order.voxels, order.voxels.dtype.newbyteorder("<"))
    _set_voxels(dataset, voxels.tobytes())
    dataset.pop("AvailableTransferSyntaxUID", None)
    return _written(dataset)


def _as_announced(dataset: Dataset, plane: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return values in the type that the header announces: decoders answer in what the compressed stream says."""
    kind = "i" if count(dataset, "PixelRepresentation") == 1 else "u"
    announced = np.dtype(f"<{kind}{max(1, (count(dataset, 'BitsAllocated') or 16) // 8)}")
    return plane.astype(announced, copy=False)


def _set_voxels(dataset: Dataset, voxels: bytes) -> None:
    dataset.PixelData = voxels + b"\0" * (len(voxels) % 2)
    dataset["PixelData"].VR = "OW" if count(dataset, "BitsAllocated") > 8 else "OB"


def _written(dataset: Dataset) -> Bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    plain = Dataset()
    plain.update(dataset)
    plain.file_meta = meta
    buffer = io.BytesIO()
    plain.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return np.frombuffer(buffer.getvalue(), np.uint8)
