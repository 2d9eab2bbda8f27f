"""`/infer`: a model's whole draft of a case, or what it makes of clicks."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from fastapi import Depends, Query, Request
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from annotate_server.api.files import file_response
from annotate_server.api.monailabel.answers import Inferred, inferred_response
from annotate_server.api.monailabel.desk import AtDesk, Desk, both_ways, named, new_router
from annotate_server.api.monailabel.parts import Form, received_form
from annotate_server.api.monailabel.scribbles import Stroke, strokes_of
from annotate_server.api.monailabel.translate import (
    SCRIBBLES,
    InferWords,
    Json,
    infer_words,
    is_series,
    is_turned,
    model_type,
    numbered,
    params_of,
    prompts_about,
    renumbering,
    turned,
)
from annotate_server.api.monailabel.words import names_of_values
from annotate_server.api.uploads import named_label, received_as_parts
from annotate_server.api.v1.documented import ModelName
from annotate_server.api.who import Anybody
from annotate_server.domain.errors import InputError, InvalidPrompt, InvalidRequest
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import LabelVoxels, Segment
from annotate_server.domain.model import ModelCard
from annotate_server.domain.person import Person
from annotate_server.domain.stored import KnownCase, StoredPrediction
from annotate_server.imaging.labelmap_orders import LabelmapFormat
from annotate_server.imaging.plain_nrrd import PlainGrid
from annotate_server.imaging.unnamed_segments import distinct_colour
from annotate_server.workflows.loose_prompts import Asked
from annotate_server.workflows.named_labels import named_segments

router = new_router()
Output = Annotated[Literal["image", "json", "all", "dicom_seg", ""], Query()]
ImageName = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True)
class _Address:
    """What the address of an inference says besides the model."""

    image: ImageName = ""
    session_id: ImageName = ""
    output: Output = ""


async def infer(
    model: ModelName, request: Request, desk: AtDesk, person: Anybody, address: Annotated[_Address, Depends()]
) -> Response:
    """Answer a model's name, an image and parameters with labels; both forms of the answer are known."""
    async with received_form(request, desk.services) as form:
        params = params_of(form.fields.get("params", ""))
        asked = model.removesuffix(SCRIBBLES)
        desk.services.registry.app(asked)  # one that is not there is refused before a volume is taken in
        name = await _sent(form, request, desk) or address.session_id or address.image
        question = _Question(asked, name, params, named(person, params))
        strokes = await run_in_threadpool(_strokes, desk, question, form)
    return await run_in_threadpool(_answer, desk, replace(question, strokes=strokes), address.output)


for _path in both_ways("/infer/{model}/"):
    router.post(_path)(infer)


async def _sent(form: Form, request: Request, desk: Desk) -> str:
    """Take an image in that was sent along, and return its id; nothing where none was."""
    files = form.files.get("file", [])
    if not files:
        return ""
    known = await received_as_parts(files, desk.services, request.app.state.options.limits)
    if len(known) > 1:
        raise InvalidRequest("several volumes were sent", remedy="Upload them first, and name one.")
    return known[0].id


@dataclass(frozen=True)
class _Question:
    """Who asks which model what about which image."""

    model: str
    image: str
    params: Json
    person: Person
    strokes: tuple[Stroke, ...] = ()

    @property
    def is_shown_as_dicom(self) -> bool:
        """Say whether a viewer of DICOM asks: it counts slices along their normal."""
        return is_series(self.image)


def _strokes(desk: Desk, question: _Question, form: Form) -> tuple[Stroke, ...]:
    """Return the scribbles that were sent along as a file of labels; none where there is no such file."""
    files = form.files.get("label", [])
    if not files:
        return ()
    geometry = desk.prompts.geometry(desk.case(question.image, question.person))
    try:
        layers = desk.services.downloads.parser.read_labelmap(named_label(files[0]), geometry)
    except InputError as error:
        error.source = None  # it lies under a name of ours, which tells nobody anything
        raise
    return strokes_of(
        (layer, named_segments(layer, lambda values: names_of_values(question.params, None, values)))
        for layer in layers
    )


def _answer(desk: Desk, question: _Question, output: str) -> Response:
    began = time.perf_counter()
    known = desk.case(question.image, question.person)
    card = desk.services.registry.app(question.model).card
    words = infer_words(question.params, _clickable(desk, card))
    if (words.has_prompts or question.strokes) and card.prompts:
        inferred = _prompted(desk, question, known, words)
    elif not card.drafts:
        raise InvalidPrompt(f"{question.model} answers clicks", remedy="Click into the structure first.")
    else:
        prediction = _drafted(desk, question, known)
        if output == "dicom_seg":
            kind = LabelmapFormat.DICOM_SEG
            written = desk.services.downloads.prediction_file(prediction.id, kind)
            return file_response(written, kind, f"draft-{prediction.id}")
        inferred = _of_draft(desk, question, prediction, words)
    seconds = round(time.perf_counter() - began, 3)
    inferred.words.update({"latencies": {"total": seconds}, "model": question.model, "type": model_type(card)})
    return inferred_response(inferred, output)


def _of_draft(desk: Desk, question: _Question, prediction: StoredPrediction, words: InferWords) -> Inferred:
    layer = prediction.layer
    with desk.prompts.layer(layer) as voxels:
        grid = _grid(voxels, layer.geometry, renumbering(layer.segments), question)
    return Inferred(grid, {"label_names": numbered(layer.segments)}, words.is_packed)


def _clickable(desk: Desk, card: ModelCard) -> Iterator[str]:
    """Yield the names that may be clicked at: the model's own, or any that the server has told of."""
    if not card.prompts:
        return
    cards = (card,) if card.segments else desk.models().values()
    yield from (segment.name for each in cards for segment in each.segments)


def _drafted(desk: Desk, question: _Question, known: KnownCase) -> StoredPrediction:
    """Return a model's draft of a case: the one that this very version has made, else a new one, waited for."""
    services = desk.services
    version = services.registry.champion(question.model)
    kept = services.predictions.newest(known.id, (question.model,))
    if kept is not None and kept.version == version.id and _is_on_grid_of(known, kept):
        return kept
    job = services.drafting.order(known.id, question.model, question.person)
    return services.predictions.get(desk.awaiting.ended(job.id).result["prediction"])


def _is_on_grid_of(known: KnownCase, kept: StoredPrediction) -> bool:
    return known.facts is not None and kept.layer.geometry.matches(known.facts.geometry)


def _prompted(desk: Desk, question: _Question, known: KnownCase, words: InferWords) -> Inferred:
    """Return what a model makes of clicks; the voxels of each name have its number."""
    geometry = desk.prompts.geometry(known)
    seen = turned(geometry) if question.is_shown_as_dicom and is_turned(geometry) else geometry
    card = desk.services.registry.app(question.model).card
    mentioned = [*words.clicks, *([words.name] if words.roi or question.strokes else ())]
    numbers = numbered(card.segments) or {name: n for n, name in enumerate(dict.fromkeys(mentioned), 1)}
    unknown = sorted(set(mentioned) - set(numbers))
    if unknown:
        raise InvalidPrompt(f"{question.model} has no segment {unknown[0]!r}")
    asked = []
    for name in dict.fromkeys(mentioned):
        segment = Segment(numbers[name], name, distinct_colour(numbers[name]))
        prompts = prompts_about(name, words, seen, segment.index)
        if name == words.name:
            prompts = (*prompts, *(stroke.prompt(geometry, segment.index) for stroke in question.strokes))
        asked.append(Asked(segment, prompts))
    with desk.prompts.answered(known, question.model, asked) as voxels:
        table = np.arange(256, dtype=np.uint8) if voxels.dtype == np.uint8 else np.arange(65536, dtype=np.uint16)
        grid = _grid(voxels, geometry, table, question)
    return Inferred(grid, {"label_names": numbers}, words.is_packed)


def _grid(voxels: LabelVoxels, geometry: Geometry, table: NDArray[np.generic], question: _Question) -> PlainGrid:
    """Return voxels with a client's numbers, slices in the order in which the client counts them."""
    is_backwards = question.is_shown_as_dicom and is_turned(geometry)
    slices = voxels[::-1] if is_backwards else voxels
    drawn = np.flatnonzero(table)
    is_same = table.dtype == voxels.dtype and bool((table[drawn] == drawn).all())
    planes = slices if is_same else (table[plane] for plane in slices)
    return PlainGrid(turned(geometry) if is_backwards else geometry, table.dtype, planes)


@router.post("/infer/{model}/{rest:path}")
async def wsi(model: str, rest: str, person: Anybody) -> Response:
    """Say that there is no pathology here."""
    raise HTTPException(501, "Whole-slide images are not annotated here: volumes of CT, MR and PET are.")
