"""Suggest: the worklist of a project, and the next case for somebody who asks; two people never get the same one."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from annotate_server.domain.annotation import Session
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import CaseTaken, InputError, InvalidRequest, NotFound, StateError
from annotate_server.domain.person import Person
from annotate_server.domain.project import DEFAULT_STRATEGY, CaseStatus, Project, WorkItem
from annotate_server.domain.store_ports import LabelStore, ProjectStore
from annotate_server.domain.strategy import Chance, Strategy
from annotate_server.workflows.outlooks import Outlooks
from annotate_server.workflows.strategies import BUILT_IN

log = logging.getLogger(__name__)

Open = Callable[[str, str, Person], Session]


@dataclass(frozen=True)
class Worklist:
    """Cases waiting for a person. `open_session` is `Annotator.open`.

    Without `outlooks` nothing is known of the cases, and the oldest comes first; with them the project's strategy
    orders those that are open.
    """

    projects: ProjectStore
    labels: LabelStore
    open_session: Open
    clock: Clock = now
    outlooks: Outlooks | None = None
    strategies: Mapping[str, Strategy] = field(default_factory=lambda: BUILT_IN)
    seed: int = 0

    def items(self, project_id: str, strategy: str | None = None) -> tuple[WorkItem, ...]:
        """Return where every case of a project stands, in the order in which they are suggested.

        `strategy` orders them by another rule than the project's own.
        """
        items = self.projects.items(project_id, self.clock())
        if self.outlooks is None:
            return ranked(items)
        project = self.projects.get(project_id)
        known = self.outlooks.of(project, items)
        waiting = [known[item.case_id] for item in items if item.status is CaseStatus.OPEN]
        chance = Chance(project_id, self.seed, sum(item.label_id is not None for item in items))
        ordered = self._strategy(project, strategy or project.strategy).order(waiting, chance)
        told = tuple(replace(item, difficulty=known[item.case_id].difficulty) for item in items)
        return ranked(told, {case.id: place for place, case in enumerate(ordered)})

    def next_case(self, project_id: str, person: Person) -> Session | None:
        """Open the next case for a person and return its session; None where nothing is left.

        What was returned to them comes first, then what a model has drafted, then the rest, each in the order of the
        project's strategy. A case that cannot be read is passed over.
        """
        items = self.items(project_id)
        mine = [i for i in items if i.status is CaseStatus.RETURNED and self._is_by(i, person)]
        free = [i for i in items if i.status is CaseStatus.OPEN]
        for item in (*mine, *free):
            try:
                return self.open_session(project_id, item.case_id, person)
            except CaseTaken:
                continue
            except (InputError, NotFound) as error:
                log.warning("case %s was passed over: %s", item.case_id, error.type, extra={"action": "next_case"})
        return None

    def put_aside(self, project_id: str, case_id: str, reason: str, person: Person) -> WorkItem:
        """Put a case aside as unusable, with the reason; StateError while somebody works on it."""
        if not reason.strip():
            raise InvalidRequest("a case is put aside with a reason")
        item = self.projects.item(project_id, case_id, self.clock())
        if item.session_id is not None and item.person != person.name:
            raise CaseTaken(f"{item.person} works on the case")
        self.projects.mark(item, CaseStatus.PUT_ASIDE, reason, person)
        return self.projects.item(project_id, case_id, self.clock())

    def take_back(self, project_id: str, case_id: str, person: Person) -> WorkItem:
        """Bring a case back that was put aside."""
        item = self.projects.item(project_id, case_id, self.clock())
        if item.status is not CaseStatus.PUT_ASIDE:
            raise StateError(f"the case is {item.status}; only one that was put aside is taken back")
        self.projects.mark(item, CaseStatus.OPEN, "", person)
        return self.projects.item(project_id, case_id, self.clock())

    def _strategy(self, project: Project, name: str) -> Strategy:
        """Return a rule by its name; the default where its plug-in is not installed (any more)."""
        found = self.strategies.get(name)
        if found is None:
            log.warning("project %s has an unknown strategy", project.id, extra={"action": "strategy"})
            found = BUILT_IN[DEFAULT_STRATEGY]
        return found

    def _is_by(self, item: WorkItem, person: Person) -> bool:
        return item.label_id is not None and self.labels.get(item.label_id).author == person.name


def ranked(items: tuple[WorkItem, ...], places: Mapping[str, int] | None = None) -> tuple[WorkItem, ...]:
    """Return items in the order of suggestion: returned ones, open ones with a draft, open ones, then the rest.

    Among equals those with the lower place come first, then the oldest; a draft that is there saves a person a wait.
    """
    order, place = {CaseStatus.RETURNED: 0, CaseStatus.OPEN: 1}, places or {}
    return tuple(sorted(items, key=lambda i: (order.get(i.status, 2), i.predicted_by is None, place.get(i.case_id, 0))))
