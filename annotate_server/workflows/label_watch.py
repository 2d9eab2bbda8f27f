"""Who wants to hear of approved labels: a store of labels that tells them, by whatever door a label came."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from annotate_server.domain.annotation import Label, LabelState, Session
from annotate_server.domain.case_changes import CaseChanges
from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.person import Person
from annotate_server.domain.store_ports import LabelStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WatchedLabels:
    """Fulfils `store_ports.LabelStore` over another one; `approved` are told of every label once it is approved.

    They are called after the label is on the disk, in the thread of who submitted or approved it, and must be quick:
    what fails there is logged, and the label stays.
    """

    labels: LabelStore
    approved: list[Callable[[Label], None]] = field(default_factory=list)

    @property
    def changed(self) -> CaseChanges:
        """Return which cases got a label or a verdict."""
        return self.labels.changed

    def accept(self, label: Label, session: Session | None, person: Person) -> None:
        """Keep a label, and tell of it where it counts as approved at once."""
        self.labels.accept(label, session, person)
        self._tell(label)

    def review(self, label: Label, person: Person) -> None:
        """Keep a verdict, and tell of an approval."""
        self.labels.review(label, person)
        self._tell(label)

    def get(self, label_id: str) -> Label:
        """Return a label; raises NotFound."""
        return self.labels.get(label_id)

    def of_case(self, project_id: str, case_id: str) -> tuple[Label, ...]:
        """Return the labels of a case in a project, oldest first."""
        return self.labels.of_case(project_id, case_id)

    def of_state(self, project_id: str, state: LabelState) -> tuple[Label, ...]:
        """Return the newest label of every case of a project where it is in this state, oldest first."""
        return self.labels.of_state(project_id, state)

    def of_every_project(self, case_id: str | None = None) -> tuple[Label, ...]:
        """Return the labels of a case in all projects, or those of all cases, oldest first."""
        return self.labels.of_every_project(case_id)

    def of_cases(self, case_ids: Collection[str]) -> tuple[Label, ...]:
        """Return the labels of these cases in all projects, oldest first."""
        return self.labels.of_cases(case_ids)

    def labelled(self) -> int:
        """Return how many cases have a label in some project."""
        return self.labels.labelled()

    def _tell(self, label: Label) -> None:
        if label.state is not LabelState.APPROVED:
            return
        for listener in self.approved:
            try:
                listener(label)
            except AnnotateError as error:
                log.warning("label %s: %s", label.id, error, extra={"action": "label_approved"})
