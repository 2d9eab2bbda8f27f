"""People: who did something, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum

from annotate_server.domain.errors import NotAllowed


class Role(StrEnum):
    """What a person may do: each role may do what the ones before it may."""

    ANNOTATOR = "annotator"
    REVIEWER = "reviewer"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Say whether this role may do what the other may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks. `verified` is False for a name that was only declared, on a server without users."""

    name: str
    role: Role
    verified: bool = True

    def must_be(self, role: Role) -> None:
        """Raise NotAllowed where the person's role does not include `role`."""
        if not self.role.includes(role):
            raise NotAllowed(f"{self.name} is {self.role}; this takes a {role}", remedy="Ask an administrator.")


ALONE = "me"
"""The name of who works alone, without users and without a declared name."""
