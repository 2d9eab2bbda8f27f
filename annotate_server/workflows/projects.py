"""Projects: made by an administrator, and one by itself for each app that is ready."""

from collections.abc import Collection
from dataclasses import dataclass, field

from annotate_server.domain.errors import InvalidRequest, NotFound
from annotate_server.domain.model import App
from annotate_server.domain.person import Person, Role
from annotate_server.domain.ports import ModelRegistry
from annotate_server.domain.project import Project
from annotate_server.domain.store_ports import ProjectStore
from annotate_server.workflows.strategies import BUILT_IN

PROGRAM = Person("annotate-server", Role.ADMIN)
"""Who made what nobody asked for."""


@dataclass(frozen=True)
class Projects:
    """The projects of a server; `strategies` are the names of those that can be chosen."""

    store: ProjectStore
    registry: ModelRegistry
    strategies: Collection[str] = field(default_factory=BUILT_IN.keys)

    def all(self) -> tuple[Project, ...]:
        """Return every project, sorted by id."""
        return self.store.all()

    def get(self, project_id: str) -> Project:
        """Return a project; raises NotFound."""
        return self.store.get(project_id)

    def add(self, project: Project, person: Person) -> None:
        """Add a project; raises UnknownModel for an app that is not there, StateError where the id is taken."""
        person.must_be(Role.ADMIN)
        self._check(project)
        self.store.add(project, person)

    def change(self, project: Project, person: Person) -> None:
        """Replace a project's description; what was annotated in it stays."""
        person.must_be(Role.ADMIN)
        self._check(project)
        self.store.change(project, person)

    def make_defaults(self) -> None:
        """Make the project of every app that is ready and has none: who works alone never has to know of projects."""
        for app in self.registry.ready():
            if not self._has(app.name) and not self.registry.is_learned(app.name):
                self.store.add(_default(app), PROGRAM)

    def _check(self, project: Project) -> None:
        if project.strategy not in self.strategies:
            listing = ", ".join(sorted(self.strategies))
            raise InvalidRequest(f"there is no strategy {project.strategy!r}", remedy=f"Choose one of: {listing}.")
        for name in project.apps:
            self.registry.app(name)

    def _has(self, project_id: str) -> bool:
        try:
            self.store.get(project_id)
        except NotFound:
            return False
        return True


def _default(app: App) -> Project:
    """Return the project of an app: its segments, and the cases that it is made for."""
    card = app.card
    return Project(app.name, card.title, card.segments, (app.name,), card.modalities)
