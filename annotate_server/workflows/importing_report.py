"""What an import did: an item for each volume and label, and the tally."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from annotate_server.domain.errors import Problem


class ItemKind(StrEnum):
    """What something became, or would have: a model's labels become drafts."""

    VOLUME = "volume"
    LABEL = "label"
    DRAFT = "draft"


class Outcome(StrEnum):
    """What became of it."""

    IMPORTED = "imported"
    THERE = "there already"
    REFUSED = "refused"


@dataclass(frozen=True)
class ImportedItem:
    """A volume or a label of the other datastore, and what became of it.

    `name` is the volume's there, `tag` the label's. `case_id` and `record_id` (of a label or draft) are what it is
    called here. `notes` are sentences about what could not be kept as it was.
    """

    kind: ItemKind
    name: str
    outcome: Outcome
    tag: str = ""
    case_id: str | None = None
    record_id: str | None = None
    notes: tuple[str, ...] = ()
    problem: Problem | None = None

    def as_json(self) -> Mapping[str, object]:
        """Return it as JSON values."""
        return {
            "kind": str(self.kind),
            "name": self.name,
            "tag": self.tag,
            "outcome": str(self.outcome),
            "case": self.case_id,
            "id": self.record_id,
            "notes": list(self.notes),
            "problem": None if self.problem is None else {"type": self.problem.type, "detail": self.problem.detail},
        }


@dataclass
class ImportTally:
    """How many of each kind had which outcome."""

    counts: dict[tuple[ItemKind, Outcome], int] = field(default_factory=dict)

    def add(self, item: ImportedItem) -> None:
        """Count an item."""
        key = (item.kind, item.outcome)
        self.counts[key] = self.counts.get(key, 0) + 1

    def of(self, outcome: Outcome, kind: ItemKind | None = None) -> int:
        """Return how many had an outcome, of one kind or of all."""
        return sum(count for (what, how), count in self.counts.items() if how is outcome and kind in (None, what))
