"""Begin: what a session opens with, and which volume it is about."""

import uuid
from dataclasses import dataclass

from annotate_server.domain.annotation import Session
from annotate_server.domain.case import StoredVolume
from annotate_server.domain.compute import Compute, VolumePlace
from annotate_server.domain.errors import InputError, InvalidRequest, NotFound, StateError
from annotate_server.domain.person import Person
from annotate_server.domain.project import CaseStatus, Project
from annotate_server.domain.stored import KnownCase, StoredLayer, VolumeFacts
from annotate_server.workflows.merging import matched
from annotate_server.workflows.reception import Reception
from annotate_server.workflows.records import Records


@dataclass(frozen=True)
class Opening:
    """Who opens which case of which project; `layer` is that of the newest label that is corrected."""

    project_id: str
    case_id: str
    person: Person
    layer: int = 0


def begin_session(opening: Opening, records: Records, compute: Compute, reception: Reception) -> Session:
    """Return a new session on a case: its newest label, else the newest prediction, else an empty draft.

    Raises StateError for a case that was put aside, InvalidRequest for a layer that its label does not have, NotFound
    where its files are gone, and the errors of reading it.
    """
    project, case = records.projects.get(opening.project_id), records.cases.get(opening.case_id)
    item = records.projects.item(project.id, case.id, reception.clock())
    if item.status is CaseStatus.PUT_ASIDE:
        raise StateError(f"the case was put aside: {item.reason}", remedy="Take it back first.")
    if case.is_missing:
        raise _gone(case.case.reference)
    facts = facts_of(case, records, compute)
    start, parent, version = _start(project, case, facts, opening.layer, records)
    return Session(
        id=uuid.uuid4().hex,
        project_id=project.id,
        case_id=case.id,
        person=opening.person.name,
        geometry=facts.geometry,
        start=start,
        segments=matched(start.segments, project.segments)[1] if start else project.segments,
        parent=parent,
        layer=opening.layer,
        model_version=version,
        opened_at=reception.clock(),
        lease_until=reception.lease_end(),
    )


def facts_of(case: KnownCase, records: Records, compute: Compute) -> VolumeFacts:
    """Return what reading a case's volume tells; it is read where nobody has done so."""
    if case.facts is not None:
        return case.facts
    stored = case.case.reference
    try:
        facts = compute.facts(VolumePlace(stored, case.declared))
    except InputError as error:
        if not all(path.exists() for path in stored.files):
            raise _gone(stored) from error  # and no scan has noticed it yet
        raise
    records.cases.learn(case.id, facts)
    return facts


def volume_of(session: Session, records: Records) -> VolumePlace:
    """Return where a worker finds the volume of a session's case."""
    case = records.cases.get(session.case_id)
    return VolumePlace.of(case)


def _start(
    project: Project, case: KnownCase, facts: VolumeFacts, layer: int, records: Records
) -> tuple[StoredLayer | None, str | None, str | None]:
    """Return a layer to begin with, the label that it is of, and the model version that drafted it."""
    labels = records.labels.of_case(project.id, case.id)
    if layer not in range(len(labels[-1].layers) if labels else 1):
        raise InvalidRequest(f"the case has no layer {layer} to correct")
    if labels:
        return labels[-1].layers[layer], labels[-1].id, labels[-1].model_version
    prediction = records.predictions.newest(case.id, project.apps) if project.apps else None
    if prediction is not None and prediction.layer.geometry.matches(facts.geometry):
        return prediction.layer, None, f"{prediction.model}@{prediction.version}"
    return None, None, None


def _gone(stored: StoredVolume) -> NotFound:
    """Return the error of a case without files."""
    remedy = "Put them back where they were: what was done on the case is kept."
    return NotFound("the case's files are not there any more", source=stored.key, remedy=remedy)
