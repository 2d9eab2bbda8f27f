"""WADO-RS: metadata, frames, files and pictures of studies, series and instances."""

import re
from collections.abc import Iterator

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from annotate_server.api.dicomweb.answers import etag, json_response, payloads_response, picture_response, unchanged
from annotate_server.api.dicomweb.media_types import check_json, form_of_files, form_of_frames, one_of
from annotate_server.api.who import Anybody, Served
from annotate_server.domain.errors import NotFound
from annotate_server.imaging.dicom_instances import Look
from annotate_server.workflows.dicom_payload import Payload
from annotate_server.workflows.dicom_serving import ServedSeries, joined_metadata, one_metadata

router = APIRouter(include_in_schema=False)

_STUDY = "/dicomweb/studies/{study}"
_SERIES = f"{_STUDY}/series/{{series}}"
_INSTANCE = f"{_SERIES}/instances/{{instance}}"
_MOST_FRAMES = 1000
_THUMBNAIL, _MOST_PIXELS = 128, 4096
_PICTURES = ("image/jpeg", "image/png")


@router.get(f"{_STUDY}/metadata")
def study_metadata(study: str, request: Request, services: Served, person: Anybody) -> Response:
    """Return the attributes of all instances of a study."""
    check_json(request)
    every = tuple(services.dicom.study(study))
    tag = etag("metadata", request.headers.get("accept-encoding"), *(each.tag for each in every))
    return unchanged(request, tag) or json_response(request, joined_metadata(every), tag)


@router.get(f"{_SERIES}/metadata")
def series_metadata(study: str, series: str, request: Request, services: Served, person: Anybody) -> Response:
    """Return the attributes of all instances of a series."""
    check_json(request)
    found = services.dicom.series(study, series)
    tag = etag("metadata", request.headers.get("accept-encoding"), found.tag)
    return unchanged(request, tag) or json_response(request, found.metadata(), tag)


@router.get(f"{_INSTANCE}/metadata")
def instance_metadata(
    study: str, series: str, instance: str, request: Request, services: Served, person: Anybody
) -> Response:
    """Return the attributes of an instance, in a list of one."""
    check_json(request)
    found = services.dicom.series(study, series)
    tag = etag("metadata", request.headers.get("accept-encoding"), found.tag, instance)
    return unchanged(request, tag) or json_response(request, one_metadata(found, instance), tag)


@router.get(f"{_INSTANCE}/frames/{{frames}}")
def instance_frames(  # noqa: PLR0913, PLR0917  the address has four parts
    study: str, series: str, instance: str, frames: str, request: Request, services: Served, person: Anybody
) -> Response:
    """Return frames of an instance, as they are stored or as plain little endian."""
    found = services.dicom.series(study, series)
    numbers = frame_numbers(frames, found.frame_count(instance))
    form = form_of_frames(request, found.syntax(instance))
    tag = etag("frames", found.tag, instance, numbers, form)
    known = unchanged(request, tag)
    if known is not None:
        return known
    if not form.is_multipart and len(numbers) > 1:
        raise HTTPException(406, "Several frames are sent in parts: multipart/related.")
    return payloads_response(found.frames(instance, numbers, is_as_stored=form.is_as_stored), form, tag)


@router.get(_INSTANCE)
def instance_file(
    study: str, series: str, instance: str, request: Request, services: Served, person: Anybody
) -> Response:
    """Return an instance as a DICOM file."""
    found = services.dicom.series(study, series)
    return _files(request, [(found, instance)])


@router.get(_SERIES)
def series_files(study: str, series: str, request: Request, services: Served, person: Anybody) -> Response:
    """Return the instances of a series as DICOM files."""
    found = services.dicom.series(study, series)
    return _files(request, [(found, uid) for uid in found.uids])


@router.get(_STUDY)
def study_files(study: str, request: Request, services: Served, person: Anybody) -> Response:
    """Return the instances of a study as DICOM files."""
    return _files(request, [(each, uid) for each in services.dicom.study(study) for uid in each.uids])


@router.get(f"{_INSTANCE}/rendered")
@router.get(f"{_INSTANCE}/thumbnail")
def instance_picture(
    study: str, series: str, instance: str, request: Request, services: Served, person: Anybody
) -> Response:
    """Return a picture of an instance: of its middle frame where it has several."""
    found = services.dicom.series(study, series)
    return _picture(request, found, instance, found.frame_count(instance) // 2)


@router.get(f"{_INSTANCE}/frames/{{frames}}/rendered")
@router.get(f"{_INSTANCE}/frames/{{frames}}/thumbnail")
def frame_picture(  # noqa: PLR0913, PLR0917  the address has four parts
    study: str, series: str, instance: str, frames: str, request: Request, services: Served, person: Anybody
) -> Response:
    """Return a picture of a frame."""
    found = services.dicom.series(study, series)
    return _picture(request, found, instance, frame_numbers(frames, found.frame_count(instance))[0])


@router.get(f"{_SERIES}/rendered")
@router.get(f"{_SERIES}/thumbnail")
def series_picture(study: str, series: str, request: Request, services: Served, person: Anybody) -> Response:
    """Return a picture of the instance in the middle of a series."""
    found = services.dicom.series(study, series)
    middle = found.uids[len(found.uids) // 2]
    return _picture(request, found, middle, found.frame_count(middle) // 2)


@router.get(f"{_STUDY}/rendered")
@router.get(f"{_STUDY}/thumbnail")
def study_picture(study: str, request: Request, services: Served, person: Anybody) -> Response:
    """Return a picture of the first series of a study."""
    found = next(services.dicom.study(study))
    middle = found.uids[len(found.uids) // 2]
    return _picture(request, found, middle, found.frame_count(middle) // 2)


def frame_numbers(text: str, count: int) -> tuple[int, ...]:
    """Return the frames of a list like `1,2,3`, from 0; a 400 for what is no such list, NotFound beyond the last."""
    if not re.fullmatch(r"[0-9]{1,7}(,[0-9]{1,7})*", text):
        raise HTTPException(400, "Frames are a list of numbers from 1: 1,2,3")
    numbers = tuple(int(word) - 1 for word in text.split(","))
    if len(numbers) > _MOST_FRAMES:
        raise HTTPException(400, f"At most {_MOST_FRAMES} frames are sent at once.")
    if not all(0 <= number < count for number in numbers):
        raise NotFound(f"the instance has {count} frames, counted from 1")
    return numbers


def _files(request: Request, chosen: list[tuple[ServedSeries, str]]) -> Response:
    if not chosen:
        raise NotFound("there is no instance here")
    stored = [series.file_syntax(uid) for series, uid in chosen]
    form = form_of_files(request, stored)
    if not form.is_multipart and len(chosen) > 1:
        raise HTTPException(406, "Several files are sent in parts: multipart/related.")
    tag = etag("files", form, *((series.tag, uid) for series, uid in chosen))
    return unchanged(request, tag) or payloads_response(_payloads(chosen, is_as_stored=form.is_as_stored), form, tag)


def _payloads(chosen: list[tuple[ServedSeries, str]], *, is_as_stored: bool) -> Iterator[Payload]:
    for series, uid in chosen:
        yield series.file(uid, is_as_stored=is_as_stored)


def _picture(request: Request, series: ServedSeries, uid: str, frame: int) -> Response:
    kind = one_of(request, _PICTURES)
    look = _look(request, kind)
    tag = etag("picture", series.tag, uid, frame, look)
    known = unchanged(request, tag)
    return known or picture_response(series.picture(uid, frame, look), kind, tag)


def _look(request: Request, kind: str) -> Look:
    """Return how the picture shall look (PS3.18 section 8.3.5): viewport=w,h and window=centre,width,function."""
    most = _THUMBNAIL if request.url.path.endswith("/thumbnail") else _MOST_PIXELS
    columns, rows = most, most
    size = _numbers(request, "viewport")
    if size:
        columns, rows = (int(max(1, min(number, _MOST_PIXELS))) for number in size[:2])
    window = _numbers(request, "window")
    quality = _numbers(request, "quality", least=1) or (85.0,)
    return Look(
        columns,
        rows,
        (window[0], max(window[1], 1e-9)) if window else None,
        kind,
        int(max(1, min(quality[0], 95))),
    )


def _numbers(request: Request, name: str, least: int = 2) -> tuple[float, ...]:
    """Return the numbers of a parameter; none where it is not there. Raises a 400."""
    text = request.query_params.get(name)
    if text is None:
        return ()
    words = text.split(",")[:least]
    if len(words) < least or not all(re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", word) for word in words):
        raise HTTPException(400, f"{name} takes {least} numbers.")
    return tuple(float(word) for word in words)
