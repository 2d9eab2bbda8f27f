"""Draft: a model's whole draft as a job, for a person who waits, or ahead of them; what it gives is kept for anyone."""

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from annotate_server.domain.annotation import Session
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.compute import Drafted, DraftOrder, VolumePlace
from annotate_server.domain.errors import AnnotateError, NotFound, NotMadeFor
from annotate_server.domain.job import Job, JobKind, Priority
from annotate_server.domain.person import Person, Role
from annotate_server.domain.ports import ModelRegistry
from annotate_server.domain.project import CaseStatus, WorkItem
from annotate_server.domain.store_ports import JobQueue
from annotate_server.domain.stored import StoredPrediction
from annotate_server.workflows.annotate import Annotator
from annotate_server.workflows.queueing import queued_once
from annotate_server.workflows.records import Records
from annotate_server.workflows.suggest import ranked
from annotate_server.workflows.suitability import check_stored

log = logging.getLogger(__name__)


@dataclass
class Drafting:
    """Orders drafts and keeps what they give; a draft's order holds `case`, `model` and, for who waits, `session`.

    `ordered` are told of every new job. `suggested` gives the worklist of a project in the order of its strategy.
    """

    records: Records
    registry: ModelRegistry
    queue: JobQueue
    annotator: Annotator
    ordered: list[Callable[[Job], None]] = field(default_factory=list)
    clock: Clock = now
    suggested: Callable[[str], tuple[WorkItem, ...]] | None = None

    def order(
        self,
        case_id: str,
        model: str,
        person: Person,
        session_id: str | None = None,
        priority: Priority = Priority.PERSON,
    ) -> Job:
        """Queue a draft and return its job; a draft of the same that waits or runs already is returned as it is.

        Raises NotMadeFor where headers and card already tell that it makes no sense, WeightsMissing, NotFound; and the
        errors of the session, where one is named.
        """
        case = self.records.cases.get(case_id)
        version = self.registry.champion(model)
        if not version.app.card.drafts:
            raise NotMadeFor(f"{model} answers prompts and drafts nothing by itself")
        if case.is_missing:
            raise NotFound("the case's files are not there any more", source=case.case.reference.key)
        check_stored(case.case.reference, version.app)
        order = {"case": case_id, "model": model}
        if session_id is not None:
            session = self.annotator.session(session_id, person)
            if session.case_id != case_id:
                raise NotFound("the session is on another case")
            order |= {"session": session_id, "person": person.name}
        job = Job(uuid.uuid4().hex, JobKind.DRAFT, order, priority, person.name, made_at=self.clock())
        return queued_once(job, self.queue, self.ordered)

    def order_ahead(self, session: Session) -> Job | None:
        """Queue the draft of the case that will be suggested next, while somebody works on this one."""
        project = self.records.projects.get(session.project_id)
        drafters = [name for name in project.apps if self._drafts(name)]
        if not drafters:
            return None
        suggested = self.suggested or (lambda one: ranked(self.records.projects.items(one, self.clock())))
        for item in suggested(project.id):
            if item.status is not CaseStatus.OPEN or item.case_id == session.case_id:
                continue
            if item.predicted_by is not None and not self._is_by_former(item.case_id, project.apps):
                return None
            try:
                return self.order(item.case_id, drafters[0], _person_of(session), priority=Priority.AHEAD)
            except AnnotateError as error:
                log.info("case %s is not drafted ahead: %s", item.case_id, error.type, extra={"action": "ahead"})
        return None

    def order_of(self, job: Job) -> DraftOrder:
        """Return what a draft's job asks a worker for."""
        case = self.records.cases.get(job.order["case"])
        place = VolumePlace.of(case)
        return DraftOrder(job.order["model"], place)

    def keep(self, job: Job, drafted: Drafted) -> dict[str, str]:
        """Keep what a worker drafted, apply it to the session that waits for it, and return the job's result."""
        case_id = job.order["case"]
        if self.records.cases.get(case_id).facts is None:
            self.records.cases.learn(case_id, drafted.facts)
        prediction = StoredPrediction(
            uuid.uuid4().hex,
            case_id,
            drafted.model,
            drafted.version,
            drafted.layer,
            self.clock(),
            drafted.notes,
        )
        self.records.predictions.add(prediction)
        result = {"prediction": prediction.id}
        if "session" in job.order:
            result |= self._applied(job, prediction)
        return result

    def _applied(self, job: Job, prediction: StoredPrediction) -> dict[str, str]:
        """Apply a draft to the session that asked for it; where that is not possible the draft is kept all the same."""
        session = self.records.sessions.get(job.order["session"])
        try:
            frame = self.annotator.take_prediction(session.id, _person_of(session), prediction.id)
        except AnnotateError as error:
            return {"not_applied": str(error)}
        return {"revision": str(frame.revision)}

    def _is_by_former(self, case_id: str, apps: tuple[str, ...]) -> bool:
        """Say whether what is drafted of a case is by a version of a model that has learned more since."""
        newest = self.records.predictions.newest(case_id, apps)
        if newest is None or not self.registry.is_learned(newest.model):
            return False
        return self.registry.champion(newest.model).id != newest.version

    def _drafts(self, name: str) -> bool:
        try:
            return self.registry.champion(name).app.card.drafts
        except AnnotateError:
            return False


def _person_of(session: Session) -> Person:
    """Return whose session it is, as far as a draft needs to know."""
    return Person(session.person, Role.ANNOTATOR)
