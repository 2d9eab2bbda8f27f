"""STOW-RS: instances that are sent to be kept, split into files while they come."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from annotate_server.api.bodies import check_length
from annotate_server.api.dicomweb.answers import listed
from annotate_server.api.dicomweb.media_types import check_json
from annotate_server.api.services import Limits
from annotate_server.api.uploads import check_space, part_folder, poured, settled
from annotate_server.api.who import Anybody, Served
from annotate_server.domain.errors import UnreadableFile
from annotate_server.imaging.related_parts import DICOM, RELATED, PartFiles, parameters
from annotate_server.workflows.dicom_storing import Refusal, Sent

router = APIRouter(include_in_schema=False)


@router.post("/dicomweb/studies")
async def store_instances(request: Request, services: Served, person: Anybody) -> Response:
    """Keep instances of any study."""
    return await _stored(request, services, None)


@router.post("/dicomweb/studies/{study}")
async def store_instances_of_study(study: str, request: Request, services: Served, person: Anybody) -> Response:
    """Keep instances of one study."""
    return await _stored(request, services, study)


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
            await run_in_threadpool(parts.finish)
        except UnreadableFile as error:
            raise HTTPException(400, str(error)) from error
        finally:
            parts.close()
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
