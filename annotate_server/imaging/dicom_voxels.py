"""The stored values of DICOM images, whatever transfer syntax they are in."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import (
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from annotate_server.domain.errors import UnsupportedInput
from annotate_server.imaging.dicom_header import as_unreadable, transfer_syntax

_ITK_SYNTAXES = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1})
"""JPEG with Huffman coding: pydicom's decoders for it are GPL, ITK's GDCM has its own."""

_PIXEL_MODULE = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelData"),
)


def read_voxels(path: Path, frames: Sequence[int] | None = None) -> tuple[Dataset, list[NDArray[np.generic]]]:
    """Return a file's dataset and the stored values (rows, columns) of its frames (from 0; None: all), not rescaled.

    Raises UnreadableFile for damaged bytes, UnsupportedInput for a compression without decoder.
    """
    with as_unreadable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of each odd value
        dataset = pydicom.dcmread(path, force=True)
        dataset.file_meta.TransferSyntaxUID = transfer_syntax(dataset)
        return dataset, _decoded(dataset, frames)


def _decoded(dataset: FileDataset, frames: Sequence[int] | None) -> list[NDArray[np.generic]]:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in _ITK_SYNTAXES:
        whole = _by_itk(dataset)
    elif dataset.BitsAllocated == 1:
        # pydicom unpacks a single frame wrongly where it begins or ends within a byte.
        whole = _decoder(syntax).as_array(dataset, raw=True)[0].reshape(-1, dataset.Rows, dataset.Columns)
    else:
        wanted = None if frames is None else list(frames)
        return [values for values, _ in _decoder(syntax).iter_array(dataset, indices=wanted, raw=True)]
    return [whole[number] for number in (range(len(whole)) if frames is None else frames)]


def _decoder(syntax: UID) -> Decoder:
    """Return pydicom's decoder of a transfer syntax; raises UnsupportedInput where there is none or it is missing."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise UnsupportedInput(f"there is no decoder for its compression ({syntax.name})") from error
    if not decoder.is_available:
        raise UnsupportedInput(f"no decoder for its compression ({syntax.name}) is installed")
    return decoder


def _by_itk(dataset: Dataset) -> NDArray[np.generic]:
    """Return all frames (frames, rows, columns) decoded by GDCM.

    GDCM sees a copy with nothing but the voxels, so that it can neither rescale them nor trip over the rest.
    """
    bare = Dataset()
    for keyword in _PIXEL_MODULE:
        if keyword in dataset:
            bare[keyword] = dataset[keyword]
    bare.PhotometricInterpretation = "MONOCHROME2"
    bare.SOPClassUID, bare.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "voxels.dcm"
        bare.save_as(path, enforce_file_format=True)
        try:
            array: NDArray[np.generic] = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
        except RuntimeError as error:
            raise ValueError("GDCM refused the voxels") from error
    return array.reshape(-1, *array.shape[-2:])
