"""Review: a second person approves a label or returns it with a comment."""

from dataclasses import dataclass, replace

from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.person import Person, Role
from annotate_server.domain.store_ports import LabelStore


@dataclass(frozen=True)
class Reviewing:
    """The labels that wait for a second person, and what that person said."""

    labels: LabelStore
    clock: Clock = now

    def queue(self, project_id: str) -> tuple[Label, ...]:
        """Return the labels that nobody has reviewed yet, oldest first."""
        return self.labels.of_state(project_id, LabelState.SUBMITTED)

    def review(self, label_id: str, person: Person, verdict: LabelState, comment: str = "") -> Label:
        """Approve a label or return it; raises NotAllowed for who is no reviewer, StateError for the author."""
        person.must_be(Role.REVIEWER)
        label = self.labels.get(label_id).reviewed(person.name, verdict, comment)
        label = replace(label, reviewed_at=self.clock())
        self.labels.review(label, person)
        return label
