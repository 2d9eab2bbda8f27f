"""QIDO-RS: what a query asks for, and the doors to search by."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from annotate_server.api.dicomweb.answers import listed
from annotate_server.api.dicomweb.media_types import check_json
from annotate_server.api.who import Anybody, Served
from annotate_server.workflows.dicom_search import SERIES, STUDY, Level, Search, found

router = APIRouter(include_in_schema=False)

_MOST_RESULTS = 5000
_MOST_PATTERN, _MOST_PARAMETERS = 1000, 50
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_OTHER = frozenset({"accept", "limit", "offset", "includefield", "fuzzymatching"})

TAGS: Mapping[str, str] = {
    "SOPClassUID": "00080016",
    "SOPInstanceUID": "00080018",
    "StudyDate": "00080020",
    "SeriesDate": "00080021",
    "StudyTime": "00080030",
    "SeriesTime": "00080031",
    "AccessionNumber": "00080050",
    "InstanceAvailability": "00080056",
    "Modality": "00080060",
    "ModalitiesInStudy": "00080061",
    "Manufacturer": "00080070",
    "InstitutionName": "00080080",
    "ReferringPhysicianName": "00080090",
    "StationName": "00081010",
    "StudyDescription": "00081030",
    "SeriesDescription": "0008103E",
    "ManufacturerModelName": "00081090",
    "PatientName": "00100010",
    "PatientID": "00100020",
    "IssuerOfPatientID": "00100021",
    "PatientBirthDate": "00100030",
    "PatientSex": "00100040",
    "PatientAge": "00101010",
    "PatientSize": "00101020",
    "PatientWeight": "00101030",
    "BodyPartExamined": "00180015",
    "SequenceName": "00180024",
    "ProtocolName": "00181030",
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "StudyID": "00200010",
    "SeriesNumber": "00200011",
    "InstanceNumber": "00200013",
    "FrameOfReferenceUID": "00200052",
    "NumberOfStudyRelatedSeries": "00201206",
    "NumberOfStudyRelatedInstances": "00201208",
    "NumberOfSeriesRelatedInstances": "00201209",
    "NumberOfFrames": "00280008",
    "Rows": "00280010",
    "Columns": "00280011",
    "BitsAllocated": "00280100",
    "PerformedProcedureStepStartDate": "00400244",
    "PerformedProcedureStepStartTime": "00400245",
}
"""The attributes that can be searched by, or asked for by name; any other is asked for by its tag."""


@dataclass(frozen=True)
class Asked:
    """A search, and sentences about what of the query is left out."""

    search: Search
    warnings: tuple[str, ...] = ()


def asked(request: Request, level: Level, place: Mapping[str, str]) -> Asked:
    """Return what a query asks for; `place` are the patterns that the address itself says. Raises a 400."""
    patterns, included, warnings = dict(place), set[str](), []
    if len(request.query_params.multi_items()) > _MOST_PARAMETERS:
        raise HTTPException(400, f"A query has at most {_MOST_PARAMETERS} parameters.")
    for name in dict.fromkeys(request.query_params.keys()):
        values = request.query_params.getlist(name)
        if name == "includefield":
            included |= {_tag(field) or field for value in values for field in value.split(",")}
        elif (tag := _tag(name)) is not None:
            patterns.setdefault(tag, "\\".join(values)[:_MOST_PATTERN])
        elif name not in _OTHER:
            warnings.append("A parameter that is not known was ignored")
    if request.query_params.get("fuzzymatching", "false").lower() == "true":
        warnings.append("The fuzzymatching parameter is not supported. Only literal matching has been performed.")
    limit = _number(request, "limit", _MOST_RESULTS)
    search = Search(level, patterns, frozenset(included), min(limit, _MOST_RESULTS), _number(request, "offset", 0))
    return Asked(search, tuple(dict.fromkeys(warnings)))


@router.get("/dicomweb/studies")
def search_studies(request: Request, services: Served, person: Anybody) -> Response:
    """Search for studies."""
    return _answer(request, services, Level.STUDIES, {})


@router.get("/dicomweb/series")
def search_series(request: Request, services: Served, person: Anybody) -> Response:
    """Search for series of all studies."""
    return _answer(request, services, Level.SERIES, {})


@router.get("/dicomweb/instances")
def search_instances(request: Request, services: Served, person: Anybody) -> Response:
    """Search for instances of all studies."""
    return _answer(request, services, Level.INSTANCES, {})


@router.get("/dicomweb/studies/{study}/series")
def search_series_of_study(study: str, request: Request, services: Served, person: Anybody) -> Response:
    """Search for series of a study."""
    return _answer(request, services, Level.SERIES, {STUDY: _literal(study)})


@router.get("/dicomweb/studies/{study}/instances")
def search_instances_of_study(study: str, request: Request, services: Served, person: Anybody) -> Response:
    """Search for instances of a study."""
    return _answer(request, services, Level.INSTANCES, {STUDY: _literal(study)})


@router.get("/dicomweb/studies/{study}/series/{series}/instances")
def search_instances_of_series(
    study: str, series: str, request: Request, services: Served, person: Anybody
) -> Response:
    """Search for instances of a series."""
    return _answer(request, services, Level.INSTANCES, {STUDY: _literal(study), SERIES: _literal(series)})


def _answer(request: Request, services: Served, level: Level, place: Mapping[str, str]) -> Response:
    check_json(request)
    query = asked(request, level, place)
    page = found(query.search, services.dicom)
    warnings = list(query.warnings)
    if page.has_more and "limit" not in request.query_params:
        warnings.append(
            "The number of results exceeded the maximum supported by the server. Additional results can be requested."
        )
    if not page.rows:
        response = Response(status_code=204)
        if warnings:
            response.headers["Warning"] = listed(request, [], warnings).headers["Warning"]
        return response
    root = f"{request.base_url}dicomweb"
    rows = [{**row, "00081190": {"vr": "UR", "Value": [_address(root, row)]}} for row in page.rows]
    return listed(request, rows, warnings)


def _address(root: str, row: Mapping[str, Mapping[str, list[str]]]) -> str:
    """Return where a row is retrieved from."""
    address = root
    for noun, tag in (("studies", STUDY), ("series", SERIES), ("instances", "00080018")):
        if values := row.get(tag, {}).get("Value"):
            address += f"/{noun}/{values[0]}"
    return address


def _literal(uid: str) -> str:
    """Return an identifier of an address; it is no pattern, and none that is one is ours."""
    return uid if re.fullmatch(r"[0-9.]{1,64}", uid) else "none"


def _tag(name: str) -> str | None:
    return name.upper() if _TAG.fullmatch(name) else TAGS.get(name)


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise HTTPException(400, f"{name} is a whole number.")
    return int(text)
