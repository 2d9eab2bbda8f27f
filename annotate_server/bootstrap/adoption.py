"""Adopting into the workspace of the ports."""

from annotate_server.bootstrap.ports import Ports, adopted_apps
from annotate_server.bootstrap.strategies import strategies
from annotate_server.domain.adoption import AdoptionOrder
from annotate_server.domain.model import App
from annotate_server.domain.ports import Control
from annotate_server.stores.adopted_apps import AdoptedApps
from annotate_server.stores.database import FILE_NAME, open_database
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.workflows.adopting import AdoptionTools, adopt
from annotate_server.workflows.projects import Projects


def adopted_into(ports: Ports, order: AdoptionOrder, backend: str | None, control: Control) -> tuple[App, ...]:
    """Make apps of what other software wrote; a running server has them, each with its project, from then on."""
    partial = ports.settings.workspace / "partial"
    shelf = AdoptedApps(adopted_apps(ports.settings), partial)
    apps = adopt(order, backend, AdoptionTools(ports.backends, shelf, ports.registry.names, partial), control)
    _make_projects(ports)
    return apps


def _make_projects(ports: Ports) -> None:
    """Make the projects of apps that have none; a workspace that no server has used yet gets them with its first."""
    file = ports.settings.workspace / FILE_NAME
    if not file.is_file():
        return
    database = open_database(file)
    try:
        Projects(SqliteProjects(database), ports.registry, strategies().keys()).make_defaults()
    finally:
        database.close()
