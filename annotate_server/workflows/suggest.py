"""Suggest: the worklist of a project, and the next case for somebody who asks; two people never get the same one."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from annotate_server.domain.annotation import Session
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import CaseTaken, InputError, InvalidRequest, NotFound, StateError
from annotate_server.domain.person import Person
from annotate_server.domain.project import CaseStatus, WorkItem
from annotate_server.domain.store_ports import LabelStore, ProjectStore

log = logging.getLogger(__name__)

Open = Callable[[str, str, Person], Session]


@dataclass(frozen=True)
class Worklist:
    """Cases waiting for a person. `open_session` is `Annotator.open`."""

    projects: ProjectStore
    labels: LabelStore
    open_session: Open
    clock: Clock = now

    def items(self, project_id: str) -> tuple[WorkItem, ...]:
        """Return where every case of a project stands, in the order in which they are suggested."""
        return ranked(self.projects.items(project_id, self.clock()))

    def next_case(self, project_id: str, person: Person) -> Session | None:
        """Open the next case for a person and return its session; None where nothing is left.

        What was returned to them comes first, then what a model has drafted, then the rest, oldest first. A case that
        cannot be read is passed over.
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

    def _is_by(self, item: WorkItem, person: Person) -> bool:
        return item.label_id is not None and self.labels.get(item.label_id).author == person.name


def ranked(items: tuple[WorkItem, ...]) -> tuple[WorkItem, ...]:
    """Return items in the order of suggestion: returned ones, open ones with a draft, open ones, then the rest."""
    order = {CaseStatus.RETURNED: 0, CaseStatus.OPEN: 1}
    return tuple(sorted(items, key=lambda i: (order.get(i.status, 2), i.predicted_by is None)))
