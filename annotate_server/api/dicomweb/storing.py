"""STOW-RS: instances that are sent to be kept, split into files while they come."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import APIRouter, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from annotate_server.api.bodies import check_length
from annotate_server.api.dicomweb.answers import listed
from annotate_server.api.dicomweb.media_types import DICOM, RELATED, check_json, parameters
from annotate_server.api.services import Limits
from annotate_server.api.uploads import check_space, part_folder, poured, settled
from annotate_server.api.who import Anybody, Served
from annotate_server.domain.errors import TooLarge
from annotate_server.workflows.dicom_storing import Refusal, Sent

router = APIRouter(include_in_schema=False)
_MOST_PARTS = 20_000


@router.post("/dicomweb/studies")
async def store_instances(request: Request, services: Served, person: Anybody) -> Response:
    """Keep instances of any study."""
    return await _stored(request, services, None)


@router.post("/dicomweb/studies/{study}")
async def store_instances_of_study(study: str, request: Request, services: Served, person: Anybody) -> Response:
    """Keep instances of one study."""
    return await _stored(request, services, study)


class PartFiles:
    """Writes each part of a body into a file of its own while it comes; names are ours."""

    def __init__(self, folder: Path, boundary: str) -> None:
        """Expect parts between these boundaries."""
        self.files: list[Path] = []
        self.refused = 0
        self._folder = folder
        self._sink: BinaryIO | None = None
        self._header = bytearray()
        self._kind = bytearray()
        self._is_ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_begin": self._header.clear,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": self._value,
                "on_headers_finished": self._open,
                "on_part_data": self._write,
                "on_part_end": self.close,
                "on_end": self._end,
            },
        )

    def write(self, content: bytes) -> None:
        """Take the next bytes of the body; raises a 400 for what is not in parts."""
        try:
            self._parser.write(content)
        except FormParserError as error:
            self.close()
            raise HTTPException(400, "The body is not in parts as its Content-Type says.") from error

    def finish(self) -> None:
        """Raise a 400 for a body that ended before its last part did."""
        self.close()
        if not self._is_ended:
            raise HTTPException(400, "The body ended before its last part did.")

    def _begin(self) -> None:
        self._kind.clear()
        if len(self.files) + self.refused >= _MOST_PARTS:
            raise TooLarge(f"the body has more than {_MOST_PARTS} parts")

    def _value(self, data: bytes, start: int, end: int) -> None:
        if self._header.lower() == b"content-type":
            self._kind.extend(data[start:end])

    def _open(self) -> None:
        kind = parameters(self._kind.decode("latin-1"))[0] if self._kind else DICOM
        if kind != DICOM:
            self.refused += 1
            return
        path = self._folder / f"{len(self.files):06d}.dcm"
        self.files.append(path)
        self._sink = path.open("xb")

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._sink is not None:
            self._sink.write(data[start:end])

    def close(self) -> None:
        """Close the file that is being written, if there is one."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def _end(self) -> None:
        self._is_ended = True


async def _stored(request: Request, services: Served, study: str | None) -> Response:
    check_json(request)
    boundary = _boundary(request)
    limits: Limits = request.app.state.options.limits
    declared = request.headers.get("content-length")
    check_length(declared, limits.upload_bytes)
    check_space(services.uploads, int(declared or 0))
    async with part_folder(services.uploads) as folder:
        parts = PartFiles(folder, boundary)
        try:
            await poured(request, parts.write, limits)
        except BaseException:
            parts.close()
            raise
        await run_in_threadpool(parts.finish)
        sent = await run_in_threadpool(services.storing.store, parts.files, study, lambda: settled(folder))
    every = (*sent, *[Sent(refusal=Refusal.NOT_UNDERSTOOD)] * parts.refused)
    if not every:
        raise HTTPException(400, "There is no instance in the body.")
    return listed(request, _report(every, f"{request.base_url}dicomweb"), (), _status(every))


def _boundary(request: Request) -> str:
    """Return what the parts are parted by; raises a 415 for what is no DICOM in parts."""
    kind, words = parameters(request.headers.get("content-type", ""))
    if kind != RELATED or words.get("type", DICOM).lower() != DICOM:
        raise HTTPException(415, f'Instances are sent as {RELATED}; type="{DICOM}".')
    boundary = words.get("boundary", "")
    if not 1 <= len(boundary) <= 70 or not boundary.isascii():
        raise HTTPException(400, "The Content-Type names no boundary.")
    return boundary


def _status(sent: Sequence[Sent]) -> int:
    """Return 200 where all were kept, 202 where some were, 409 where none was (PS3.18 table 10.5.3-1)."""
    kept = sum(each.refusal is None for each in sent)
    if kept == len(sent):
        return 200
    return 202 if kept else 409


def _report(sent: Sequence[Sent], root: str) -> Mapping[str, Any]:
    """Return what became of the instances (PS3.18 table I.2-1)."""
    report: dict[str, Any] = {}
    studies = sorted({each.study for each in sent if each.refusal is None})
    if len(studies) == 1:
        report["00081190"] = _value("UR", f"{root}/studies/{studies[0]}")
    kept = [_kept(each, root) for each in sent if each.refusal is None]
    failed = [{**_reference(each), **_reason(each)} for each in sent if each.refusal is not None and each.sop_instance]
    other = [_reason(each) for each in sent if each.refusal is not None and not each.sop_instance]
    for tag, items in (("00081198", failed), ("00081199", kept), ("0008119A", other)):
        if items:
            report[tag] = {"vr": "SQ", "Value": items}
    return report


def _kept(sent: Sent, root: str) -> Mapping[str, Any]:
    address = f"{root}/studies/{sent.study}/series/{sent.series}/instances/{sent.sop_instance}"
    return {**_reference(sent), "00081190": _value("UR", address)}


def _reference(sent: Sent) -> Mapping[str, Any]:
    return {"00081150": _value("UI", sent.sop_class), "00081155": _value("UI", sent.sop_instance)}


def _reason(sent: Sent) -> Mapping[str, Any]:
    return {"00081197": _value("US", int(sent.refusal or 0))}


def _value(vr: str, value: object) -> Mapping[str, Any]:
    return {"vr": vr, "Value": [value]}
