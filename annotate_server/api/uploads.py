"""Uploads: streamed to disk under a name of ours, unpacked, taken in whole or not at all."""

import errno
import logging
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from annotate_server.api.bodies import check_length, chunks
from annotate_server.api.services import Limits, Services
from annotate_server.domain.annotation import Label
from annotate_server.domain.case import Format
from annotate_server.domain.errors import NoSpace, StorageFailed, UnsupportedInput
from annotate_server.domain.stored import KnownCase
from annotate_server.imaging.unpack import ZIP_MAGIC, UnpackLimits, unpack
from annotate_server.imaging.whole_file import sync_folder

_log = logging.getLogger(__name__)
PART_PREFIX = ".part-"
_WRITE_BYTES = 1 << 20
_SUFFIX = {Format.METAIMAGE: ".mha", Format.NRRD: ".nrrd", Format.DICOM: ".dcm"}


async def received(request: Request, services: Services) -> tuple[KnownCase, ...]:
    """Store the body of a request and return the cases in it; on any error nothing of it stays."""
    async with _stored(request, services) as body:
        await run_in_threadpool(_sort, body, request.app.state.options.limits)
        return await run_in_threadpool(_take_in, body.parent, services)


async def received_as_parts(files: Sequence[Path], services: Services, limits: Limits) -> tuple[KnownCase, ...]:
    """Take files in that came as parts of a body, and return the cases in them; they are moved.

    Several are those of one series, as an archive of them would be.
    """
    async with part_folder(services.uploads) as part:
        if len(files) == 1:
            await run_in_threadpool(_sort, files[0].rename(part / "body"), limits)
        else:
            moved = [file.rename(part / str(number)) for number, file in enumerate(files)]
            await run_in_threadpool(_check_named, moved)
        return await run_in_threadpool(_take_in, part, services)


def named_label(file: Path) -> Path:
    """Return an uploaded file of labels, alone in its folder, renamed after what it is; else UnsupportedInput."""
    if not _named(file):
        raise UnsupportedInput("the upload is no file of labels", remedy="Send NIfTI, .seg.nrrd or a DICOM SEG.")
    (renamed,) = file.parent.iterdir()
    return renamed


async def received_label(request: Request, services: Services, take: Callable[[Path], Label]) -> Label:
    """Store the body of a request as a file, let `take` read it, and keep nothing of the file."""
    async with _stored(request, services) as body:
        return await run_in_threadpool(take, await run_in_threadpool(named_label, body))


def sweep(uploads: Path) -> None:
    """Make the folder for uploads, and remove what a killed server left unfinished in it."""
    uploads.mkdir(parents=True, exist_ok=True)
    for left in uploads.glob(f"{PART_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
        _log.info("removed an unfinished upload", extra={"action": "upload-swept"})


@asynccontextmanager
async def part_folder(uploads: Path) -> AsyncIterator[Path]:
    """Give a new folder that is gone at the end, unless it was renamed."""
    part = uploads / f"{PART_PREFIX}{secrets.token_hex(8)}"
    part.mkdir(parents=True)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


@asynccontextmanager
async def _stored(request: Request, services: Services) -> AsyncIterator[Path]:
    """Give the body of a request as a file in a folder of its own, which is gone at the end, unless it was renamed."""
    limits: Limits = request.app.state.options.limits
    declared = request.headers.get("content-length")
    check_length(declared, limits.upload_bytes)
    check_space(services.uploads, int(declared or 0))
    async with part_folder(services.uploads) as part:
        body = part / "body"
        with body.open("xb") as sink:
            await poured(request, sink.write, limits)
            await run_in_threadpool(_write, lambda _: sink.flush(), b"")
        yield body


async def poured(request: Request, write: Callable[[bytes], object], limits: Limits) -> None:
    """Hand the body on as it comes, in threads: a slow disk holds nobody else up."""
    waiting = bytearray()
    async for chunk in chunks(request, limits.upload_bytes, limits):
        waiting += chunk
        if len(waiting) >= _WRITE_BYTES:
            await run_in_threadpool(_write, write, bytes(waiting))
            waiting.clear()
    await run_in_threadpool(_write, write, bytes(waiting))


def _write(write: Callable[[bytes], object], content: bytes) -> None:
    try:
        write(content)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NoSpace("there is no space for the upload", remedy="Free some, and upload it again.") from error
        raise StorageFailed(f"the upload could not be stored ({error.strerror})") from error


def _sort(body: Path, limits: Limits) -> None:
    """Leave in the folder of the body only volume files, named after what they are."""
    with body.open("rb") as stream:
        is_zip = stream.read(4) == ZIP_MAGIC
    if is_zip:
        files = unpack(body, body.parent, UnpackLimits(total_bytes=limits.unpacked_bytes))
        body.unlink()
    else:
        files = (body,)
    _check_named(files)


def _check_named(files: Sequence[Path]) -> None:
    """Name files after what they are, and remove what is no volume; UnsupportedInput where nothing is left."""
    if not sum(_named(file) for file in files):
        raise UnsupportedInput("there is no volume in the upload", remedy="DICOM, NIfTI, MetaImage and NRRD are read.")


def _named(file: Path) -> bool:
    """Rename a file after its format, or remove what is no volume; say whether it stayed."""
    from annotate_server.imaging.file_kind import identify  # noqa: PLC0415  the server starts without it

    kind = identify(file)
    if kind is None:
        file.unlink()
        return False
    with file.open("rb") as stream:
        is_packed = stream.read(2) == b"\x1f\x8b"
    suffix = _SUFFIX.get(kind, ".nii.gz" if is_packed else ".nii")
    file.rename(file.with_name(f"volume{'' if file.name == 'body' else f'-{file.name}'}{suffix}"))
    return True


def _take_in(part: Path, services: Services) -> tuple[KnownCase, ...]:
    """Give the folder its final name and take its cases in; it goes where that fails, or where it brings none."""
    final = settled(part)
    is_kept = False
    try:
        known = services.ingest.upload(final)
        if not known:
            raise UnsupportedInput("there is no volume in the upload that can be annotated")
        is_kept = any(file.is_relative_to(final) for each in known for file in each.case.reference.files)
        return known
    finally:
        if not is_kept:
            shutil.rmtree(final, ignore_errors=True)


def settled(part: Path) -> Path:
    """Put the folder of an upload on the disk, give it its final name, and return that."""
    final = part.with_name(part.name.removeprefix(PART_PREFIX))
    _settle(part)
    part.rename(final)
    sync_folder(final.parent)
    return final


def _settle(folder: Path) -> None:
    """Put an upload on the disk: what is answered for must be there after a power cut."""
    for path in (*(file for file in folder.rglob("*") if file.is_file()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_space(uploads: Path, size: int) -> None:
    """Raise NoSpace where there is none for so many bytes."""
    if size > shutil.disk_usage(uploads).free:
        raise NoSpace("there is no space for the upload", remedy="Free some, and upload it again.")
