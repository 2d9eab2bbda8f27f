"""Labelmaps and volumes as files; a temporary one is sent when its name is gone already: nothing is left behind."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

from annotate_server.domain.volume import Volume
from annotate_server.imaging.labelmap_orders import LabelmapFormat
from annotate_server.imaging.plain_nrrd import PART_BYTES, PlainGrid, nrrd_bytes, nrrd_parts

_SUFFIX = {LabelmapFormat.NIFTI: ".nii.gz", LabelmapFormat.NRRD: ".seg.nrrd", LabelmapFormat.DICOM_SEG: ".dcm"}


def file_response(written: AbstractContextManager[Path], kind: LabelmapFormat, name: str) -> Response:
    """Return a temporary file as a download."""
    with written as path:
        size, stream = path.stat().st_size, path.open("rb")
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{name}{_SUFFIX[kind]}"',
    }
    return StreamingResponse(parts_of(stream), media_type="application/octet-stream", headers=headers)


def volume_response(volume: Volume, name: str) -> Response:
    """Return a volume as NRRD, on the very grid that labels lie on."""
    grid = PlainGrid(volume.geometry, volume.voxels.dtype, volume.voxels)
    headers = {"Content-Disposition": f'attachment; filename="{name}.nrrd"', "Content-Length": str(nrrd_bytes(grid))}
    return StreamingResponse(nrrd_parts(grid), media_type="application/octet-stream", headers=headers)


def parts_of(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what a stream holds, in parts to be sent one by one, and close it at the end."""
    with stream:
        while part := stream.read(PART_BYTES):
            yield part
