"""What is done to a workspace from outside a server, which may be running meanwhile: users, check, backup."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from annotate_server.bootstrap.ports import Ports
from annotate_server.domain.errors import AnnotateError, NotFound, StorageFailed
from annotate_server.domain.ports import Control
from annotate_server.stores.database import FILE_NAME, open_database
from annotate_server.stores.sqlite_users import SqliteUsers
from annotate_server.stores.workspace_backup import Contents, Copied, back_up
from annotate_server.stores.workspace_check import Findings, check_workspace
from annotate_server.workflows.gate_evidence import read_evidence

_FOLDERS = ("uploads", "apps")


@contextmanager
def opened_users(ports: Ports) -> Iterator[SqliteUsers]:
    """Give who may sign in; a running server sees a change at once."""
    database = open_database(ports.settings.workspace / FILE_NAME)
    try:
        yield SqliteUsers(database)
    finally:
        database.close()


def checked(ports: Ports, control: Control) -> Findings:
    """Verify everything that the workspace names; raises NotFound where there is no workspace."""
    database = open_database(_database_file(ports))
    try:
        return check_workspace(database, ports.blobs, _weights(ports), control)
    finally:
        database.close()


def backed_up(ports: Ports, target: Path, control: Control) -> Copied:
    """Copy the workspace into an empty folder; raises NotFound where there is no workspace."""
    _database_file(ports)
    return back_up(ports.settings.workspace, target, Contents(_weights(ports), _FOLDERS), control)


def _database_file(ports: Ports) -> Path:
    file = ports.settings.workspace / FILE_NAME
    if not file.is_file():
        raise NotFound("there is no database in it", source=str(file.parent), remedy="Name a workspace: --workspace.")
    return file


def _weights(ports: Ports) -> frozenset[str]:
    """Return the digests of all weights that models name; a broken app names none."""
    found = set()
    for name in ports.registry.names():
        try:
            found |= {weight.sha256 for weight in ports.registry.app(name).weights}
        except AnnotateError:
            continue
    return frozenset(found | _fold_weights(ports))


def _fold_weights(ports: Ports) -> set[str]:
    """Return the digests of the networks that the next rounds of models go on from, beside those that serve."""
    found: set[str] = set()
    store = ports.models()
    if store is None:
        return found
    evidence = {each.evidence for model in store.all() for each in store.promotions(model.name) if each.evidence}
    for sha256 in evidence:
        with suppress(StorageFailed):  # a blob that is gone or changed is a fault of its own
            folds = read_evidence(ports.blobs.read(sha256)).fold_weights
            found |= {weights for files in folds.values() for weights in files.values()}
    return found
