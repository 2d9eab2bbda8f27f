"""What the doors of this dialect ask for: who it is, which case and project are meant, over what there is already."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from annotate_server.api.monailabel.translate import (
    ANY_PROJECT,
    Json,
    Standing,
    is_series,
)
from annotate_server.api.monailabel.wished import WishedNames
from annotate_server.api.services import Services
from annotate_server.api.who import Served
from annotate_server.domain.annotation import Label
from annotate_server.domain.errors import InvalidRequest, NotFound, StateError
from annotate_server.domain.job import Job
from annotate_server.domain.model import ModelCard
from annotate_server.domain.person import Person
from annotate_server.domain.project import Project
from annotate_server.domain.store_ports import CaseFilter
from annotate_server.domain.stored import KnownCase
from annotate_server.workflows.awaiting import Awaiting
from annotate_server.workflows.loose_prompts import LoosePrompts


@dataclass(frozen=True)
class Desk:
    """The workflows of the server, as this dialect uses them."""

    services: Services
    wished: WishedNames = field(default_factory=WishedNames)

    @property
    def awaiting(self) -> Awaiting:
        """Return who waits for jobs."""
        return Awaiting(self.services.jobs, self.services.watchers)

    @property
    def prompts(self) -> LoosePrompts:
        """Return who answers prompts without a session."""
        files = self.services.downloads
        return LoosePrompts(files.records, files.compute)

    def models(self) -> Mapping[str, ModelCard]:
        """Return the cards of the models whose weights are there.

        Whether their backends can be loaded is not asked: that would load them into this process.
        """
        return {app.name: app.card for app in self.services.registry.ready()}

    def cancelled(self, jobs: Iterable[Job]) -> list[Job]:
        """Cancel jobs, but for those that end meanwhile, and return what became of them."""
        found = []
        for job in jobs:
            try:
                found.append(self.services.jobs.cancel(job.id))
            except StateError:
                continue
            self.services.watchers.tell(found[-1])
        return found

    def newest_labels(self) -> Mapping[str, Label]:
        """Return the newest label of every case that has one, by the case's id."""
        return {label.case_id: label for label in self.services.labels.of_every_project()}

    def standing(self) -> Standing:
        """Return how many cases there are and how many have a label."""
        total = self.services.cases.page(CaseFilter(), 1).total
        return Standing(total, self.services.labels.labelled())

    def case(self, name: str, person: Person) -> KnownCase:
        """Return the case of an image id; raises NotFound.

        It may be named by its SeriesInstanceUID, as viewers of DICOM do, or as the person called it who sent it in.
        """
        if not name:
            raise InvalidRequest("no image is named", remedy="Send image=ID.")
        wished = self.wished.find(person.name, name)
        if wished is not None:
            return self.services.cases.get(wished)
        if not is_series(name):
            return self.services.cases.get(name)
        return self._of_series(name)

    def _of_series(self, name: str) -> KnownCase:
        found = self.services.cases.page(CaseFilter(series_uid=name), 2)
        if found.total > 1:
            raise StateError("the series holds several volumes", remedy="Name the case by its id.")
        if found.total:
            return found.cases[0]
        for series in (each for study in self.services.dicom.shelf.studies() for each in study):
            if series.series == name:
                return self.services.cases.get(series.cases[0].case_id)
        raise NotFound("there is no such series here")

    def projects(self, model: str = "", chosen: object = None) -> Sequence[Project]:
        """Return the projects in the order in which they are asked: the chosen one, the model's, people's, the rest."""
        every = self.services.projects.all()
        if isinstance(chosen, str) and chosen not in ("", ANY_PROJECT):
            return (self.services.projects.get(chosen),)
        made = set(self.services.registry.names())
        return sorted(every, key=lambda p: (p.id != model, not (model and model in p.apps), p.id in made, p.id))

    def project_of(self, known: KnownCase, model: str, chosen: object) -> Project:
        """Return the project into which a label of a case goes; raises StateError where none takes it."""
        for project in self.projects(model, chosen):
            if not project.modalities or known.modality is None or known.modality in project.modalities:
                return project
        raise StateError("no project takes cases of this modality", remedy="Add one, or a modality to one.")


def named(person: Person, params: Json) -> Person:
    """Return who it is: where nobody signs in, the name that the client goes by counts as declared."""
    name = params.get("client_id")
    if person.verified or not isinstance(name, str):
        return person
    name = name.strip()
    is_name = 1 <= len(name) <= 64 and name.isprintable()
    return replace(person, name=name) if is_name else person


async def _desk(request: Request, services: Served) -> Desk:
    return Desk(services, request.app.state.wished)


AtDesk = Annotated[Desk, Depends(_desk)]


Every = Annotated[bool, Query(alias="all")]
"""Asks for a list of tasks where one is given otherwise."""


def both_ways(path: str) -> tuple[str, ...]:
    """Return a path with and without its last slash: stock clients follow no redirect."""
    return (path, path.rstrip("/")) if path.endswith("/") else (path,)


def new_router() -> APIRouter:
    """Return a router whose routes are in no description: they are others' contract."""
    return APIRouter(include_in_schema=False)
