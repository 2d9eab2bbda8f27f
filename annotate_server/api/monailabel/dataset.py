"""Every labelled case as one archive, with the newest label of each, and the pairs as a list of addresses."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

from fastapi import Query
from starlette.responses import Response, StreamingResponse

from annotate_server.api.files import parts_of
from annotate_server.api.monailabel.archive import zipped
from annotate_server.api.monailabel.datastore import grid_of
from annotate_server.api.monailabel.desk import AtDesk, Desk, new_router
from annotate_server.api.monailabel.translate import EXTENSION, LABEL_EXTENSION, Json
from annotate_server.api.monailabel.words import image_entry, label_entries
from annotate_server.api.who import Anybody
from annotate_server.domain.annotation import Label
from annotate_server.domain.errors import AnnotateError, NotFound
from annotate_server.domain.stored import KnownCase
from annotate_server.imaging.labelmap_orders import LabelmapFormat
from annotate_server.imaging.plain_nrrd import nrrd_parts

router = new_router()
_Entry = tuple[str, Iterable[bytes]]


@router.get("/datastore/dataset")
def get_dataset(
    desk: AtDesk, person: Anybody, limit_cases: Annotated[int | None, Query(ge=1, le=1_000_000)] = None
) -> Response:
    """Return the volumes of labelled cases, their newest labels and what is said of both, as one archive."""
    newest = dict(list(desk.newest_labels().items())[:limit_cases])
    if not newest:
        raise NotFound("no case has a label yet")
    headers = {"Content-Disposition": 'attachment; filename="dataset.zip"'}
    return StreamingResponse(zipped(_entries(desk, newest)), media_type="application/zip", headers=headers)


def _entries(desk: Desk, newest: Mapping[str, Label]) -> Iterator[_Entry]:
    """Yield the files, the description last: it says what is left out because it could not be read."""
    objects: Json = {}
    left_out: Json = {}
    for case_id, label in newest.items():
        try:
            known = desk.services.cases.get(case_id)
            yield from _files(desk, known, label)
            objects[case_id] = {"image": image_entry(known), "labels": label_entries((label,), None)}
        except AnnotateError as error:
            left_out[case_id] = type(error).__name__
    words = {"name": "annotate-server", "objects": objects, "left_out": left_out}
    yield "metadata.json", (json.dumps(words, indent=1).encode(),)


def _files(desk: Desk, known: KnownCase, label: Label) -> Iterator[_Entry]:
    volume = desk.services.dicom.volumes.volume(known)
    with desk.services.downloads.label_file(label.id, LabelmapFormat.NRRD) as path, path.open("rb") as stream:
        yield f"image/{known.id}{EXTENSION}", nrrd_parts(grid_of(volume))
        yield f"label/{known.id}{LABEL_EXTENSION}", parts_of(stream)
