"""`/datastore`: cases are images, labels are versions of which `final` is the newest; nothing here is overwritten."""

from typing import Annotated, Literal

from fastapi import HTTPException, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from annotate_server.api.files import file_response
from annotate_server.api.monailabel.answers import Inferred, inferred_response
from annotate_server.api.monailabel.desk import AtDesk, Desk, both_ways, named, new_router
from annotate_server.api.monailabel.listing import Listing
from annotate_server.api.monailabel.parts import Form, received_form
from annotate_server.api.monailabel.ranges import asked_span, has_checksum
from annotate_server.api.monailabel.translate import (
    EXTENSION,
    FINAL,
    ORIGINAL,
    Json,
    numbered,
    params_of,
    renumbering,
)
from annotate_server.api.monailabel.words import (
    check_tag,
    draft_words,
    image_words,
    label_words,
    modality_of,
    names_of_values,
    pair_words,
    tagged,
    verdict_of,
)
from annotate_server.api.uploads import named_label, received_as_parts
from annotate_server.api.who import Admin, Anybody, Reviewer
from annotate_server.domain.annotation import Label
from annotate_server.domain.errors import AnnotateError, InvalidRequest, NotFound, StateError
from annotate_server.domain.model import ModelCard
from annotate_server.domain.person import Person
from annotate_server.domain.stored import KnownCase, StoredPrediction
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.labelmap_orders import LabelmapFormat
from annotate_server.imaging.plain_nrrd import PlainGrid, nrrd_bytes, nrrd_parts
from annotate_server.workflows.named_labels import Handed, import_named

router = new_router()
_OCTETS = "application/octet-stream"
Name = Annotated[str, Query(max_length=200)]
_NOT_DELETED = "Nothing is deleted here: cases and labels stay. Put a case aside in the worklist instead."


# The list


def show(
    request: Request, desk: AtDesk, person: Anybody, output: Literal["stats", "all", "train", ""] = "stats"
) -> Response:
    """Return how many cases and labels there are, or the list of them."""
    if output == "all":
        listing: Listing = request.app.state.listing
        return Response(listing.json(), media_type="application/json")
    if output == "train":
        return JSONResponse([pair_words(case_id) for case_id in desk.newest_labels()])
    return JSONResponse(desk.standing().words())


# Images


async def add_image(request: Request, desk: AtDesk, person: Anybody, image: Name = "") -> Response:
    """Take an image in; its id is the case's, and for who sent it the name that the client wished for means it too."""
    async with received_form(request, desk.services) as form:
        sender = named(person, params_of(form.fields.get("params", "")))
        known = await take_in(form, "file", request, desk)
        for name in {person.name, sender.name}:
            desk.wished.remember(name, image, known.id)
        return JSONResponse({"image": known.id})


async def take_in(form: Form, field: str, request: Request, desk: Desk) -> KnownCase:
    """Take the one volume in that came in a field; raises InvalidRequest where there is none, or several."""
    files = form.files.get(field, [])
    if not files:
        raise InvalidRequest(f"a volume is sent as the part `{field}`")
    known = await received_as_parts(files, desk.services, request.app.state.options.limits)
    if len(known) > 1:
        raise InvalidRequest("the file holds several volumes; all of them are cases now", remedy="Take the next case.")
    return known[0]


@router.head("/datastore/image")
def has_image(desk: AtDesk, person: Anybody, image: Name = "", check_sum: Name = "") -> Response:
    """Say whether an image is there, and where a checksum is named, whether its download has it."""
    known = desk.case(image, person)
    if check_sum and not has_checksum(nrrd_parts(grid_of(desk.services.dicom.volumes.volume(known))), check_sum):
        raise NotFound("the image has another checksum", source=known.id)
    return Response(headers={"Accept-Ranges": "bytes"})


@router.get("/datastore/image")
def get_image(desk: AtDesk, person: Anybody, request: Request, image: Name = "") -> Response:
    """Return a volume as NRRD, on the grid that its labels have, or a part of the file."""
    return image_response(desk, desk.case(image, person), request)


def image_response(desk: Desk, known: KnownCase, request: Request) -> Response:
    """Return the volume of a case as a file; a part that is asked for of another version of it is not cut out."""
    volume = desk.services.dicom.volumes.volume(known)
    grid = grid_of(volume)
    tag, length = f'"{volume.digest}"', nrrd_bytes(grid)
    headers = {
        "Content-Disposition": f'attachment; filename="{known.id}{EXTENSION}"',
        "Accept-Ranges": "bytes",
        "ETag": tag,
    }
    is_same = request.headers.get("if-range", tag) == tag
    span = asked_span(request.headers.get("range"), length) if is_same else None
    parts = nrrd_parts(grid)
    if span is None:
        headers["Content-Length"] = str(length)
        return StreamingResponse(parts, media_type=_OCTETS, headers=headers)
    headers |= {"Content-Length": str(span.stop - span.start), "Content-Range": span.header()}
    return StreamingResponse(span.cut(parts), 206, media_type=_OCTETS, headers=headers)


def grid_of(volume: Volume) -> PlainGrid:
    """Return a volume as it is written for clients: on the very grid that labels lie on."""
    return PlainGrid(volume.geometry, volume.voxels.dtype, volume.voxels)


@router.put("/datastore/image/info")
async def update_image_info(request: Request, desk: AtDesk, person: Anybody, image: Name = "") -> Response:
    """Keep the modality of an image whose file names none; there is no place for other words about an image."""
    async with received_form(request, desk.services) as form:
        said = params_of(form.fields.get("info") or form.fields.get("params") or "")
    await run_in_threadpool(_declare, desk, image, modality_of(said), person)
    return JSONResponse(None)


def _declare(desk: Desk, image: str, modality: Modality, person: Person) -> None:
    known = desk.case(image, person)
    if known.case.reference.modality is not None:
        raise StateError("the file names its modality itself", source=known.id)
    desk.services.cases.declare(known.id, modality, person)


@router.get("/datastore/image/info")
def get_image_info(desk: AtDesk, person: Anybody, image: Name = "") -> Response:
    """Return what is said of an image; `{}` for one that is not there, as clients expect."""
    try:
        return JSONResponse(image_words(desk.case(image, person)))
    except NotFound:
        return JSONResponse({})


# Labels


def _label_of(desk: Desk, known: KnownCase, tag: str) -> Label | StoredPrediction:
    """Return what a tag means for a case; raises NotFound."""
    found: Label | StoredPrediction | None
    if tag == ORIGINAL:
        found = desk.services.predictions.newest(known.id)
    else:
        found = tagged(tag, desk.services.labels.of_every_project(known.id))
    if found is None:
        raise NotFound(f"the case has no label {tag[:100]!r}", source=known.id)
    return found


@router.get("/datastore/label")
def get_label(desk: AtDesk, person: Anybody, label: Name = "", tag: Name = FINAL) -> Response:
    """Return a label with its names as `.seg.nrrd`; a model's draft as numbers from 1, in the order of its names."""
    known = desk.case(label, person)
    found = _label_of(desk, known, tag)
    if isinstance(found, Label):
        kind = LabelmapFormat.NRRD
        return file_response(desk.services.downloads.label_file(found.id, kind), kind, known.id)
    table = renumbering(found.layer.segments)
    with desk.prompts.layer(found.layer) as voxels:
        grid = PlainGrid(found.layer.geometry, table.dtype, (table[plane] for plane in voxels))
    return inferred_response(Inferred(grid, {"label_names": numbered(found.layer.segments)}), "image")


@router.head("/datastore/label")
def has_label(desk: AtDesk, person: Anybody, image: Name = "", tag: Name = FINAL) -> Response:
    """Say whether a label is there."""
    _label_of(desk, desk.case(image, person), tag)
    return Response()


@router.get("/datastore/label/info")
def get_label_info(desk: AtDesk, person: Anybody, label: Name = "", tag: Name = FINAL) -> Response:
    """Return what is said of a label."""
    found = _label_of(desk, desk.case(label, person), tag)
    return JSONResponse(label_words(found) if isinstance(found, Label) else draft_words(found))


@router.put("/datastore/label")
async def add_label(request: Request, desk: AtDesk, person: Anybody, image: Name = "", tag: Name = "") -> Response:
    """Take a label in, as one more version by its author."""
    check_tag(tag)
    async with received_form(request, desk.services) as form:
        params = params_of(form.fields.get("params", ""))
        return await run_in_threadpool(_add_label, desk, image, (form, params), named(person, params))


def _add_label(desk: Desk, image: str, sent: tuple[Form, Json], author: Person) -> Response:
    form, params = sent
    known = desk.case(image, author)
    files = form.files.get("label", [])
    if len(files) != 1:
        raise InvalidRequest("one label is sent, as the part `label`")
    model = params.get("model") if isinstance(params.get("model"), str) else ""
    project = desk.project_of(known, str(model), params.get("project"))
    card = _card(desk, str(model))
    handed = Handed(project.id, known.id, named_label(files[0]), lambda values: names_of_values(params, card, values))
    kept = import_named(desk.services.downloads, handed, author)
    return JSONResponse({"image": known.id, "label": known.id, "project": project.id, "version": kept.id})


def _card(desk: Desk, model: str) -> ModelCard | None:
    try:
        return desk.services.registry.app(model).card
    except AnnotateError:
        return None  # what Slicer calls a model may be one of another server: names decide then


def review(desk: AtDesk, person: Reviewer, form: Json, label: str, tag: str) -> Response:
    """Keep what Slicer's reviewer module says of a label: approved, or returned with a comment."""
    verdict, comment = verdict_of(form)
    found = _label_of(desk, desk.case(label, person), tag)
    if not isinstance(found, Label):
        raise StateError("a model's draft is not reviewed")
    if found.state is not verdict:
        desk.services.reviewing.review(found.id, person, verdict, comment)
    return JSONResponse(None)


@router.put("/datastore/updatelabelinfo")
@router.put("/datastore/label/info")
async def update_label_info(
    request: Request, desk: AtDesk, person: Reviewer, label: Name = "", tag: Name = FINAL
) -> Response:
    """Keep a verdict; other words about a label have no place here."""
    async with received_form(request, desk.services) as form:
        said = params_of(form.fields.get("params") or form.fields.get("info") or "")
    return await run_in_threadpool(review, desk, person, said, label, tag)


# What is not done


async def delete(person: Admin) -> Response:
    """Say that nothing is deleted."""
    raise HTTPException(409, _NOT_DELETED)


for _path in both_ways("/datastore/"):
    router.get(_path)(show)
    router.put(_path)(add_image)
    router.delete(_path)(delete)
router.put("/datastore/image")(add_image)
router.delete("/datastore/image")(delete)
router.delete("/datastore/label")(delete)
