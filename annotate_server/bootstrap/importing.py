"""Importing into a workspace that no server uses meanwhile: what a server keeps in memory would be out of date."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from annotate_server.bootstrap.local_learning import COMMAND_LINE
from annotate_server.bootstrap.ports import Ports
from annotate_server.bootstrap.stored_records import stored_records
from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import StateError
from annotate_server.stores.database import FILE_NAME, open_database
from annotate_server.stores.folder_studies import FolderStudies
from annotate_server.stores.identities import IdentityFile
from annotate_server.stores.workspace_lock import workspace_lock
from annotate_server.workflows.importing import Importer
from annotate_server.workflows.importing_volumes import VolumeIntake


@contextmanager
def importer(ports: Ports) -> Iterator[Importer]:
    """Give an importer into a workspace; raises StateError where a server uses it."""
    workspace = ports.settings.workspace
    with ExitStack() as stack:
        try:
            stack.enter_context(workspace_lock(workspace))
        except StateError as error:
            raise StateError(
                error.detail, source=error.source, remedy="Stop that server while you import; it takes minutes."
            ) from error
        database = open_database(workspace / FILE_NAME)
        stack.callback(database.close)
        identities = IdentityFile(workspace / "identities.sqlite")
        stack.callback(identities.close)
        reader = stack.enter_context(ports.reader())
        records, _ = stored_records(ports, database)

        def scan(path: Path) -> Iterator[StoredVolume]:
            return FolderStudies(path, reader.isolated).scan()

        volumes = VolumeIntake(records.cases, identities, reader, scan, workspace / "uploads")
        yield Importer(records, volumes, reader, workspace / "scratch", COMMAND_LINE)
