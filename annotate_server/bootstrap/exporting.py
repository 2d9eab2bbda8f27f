"""Exporting from a workspace, whether a server uses it or not."""

from collections.abc import Iterator
from contextlib import contextmanager

from annotate_server.bootstrap.ports import Ports
from annotate_server.domain.errors import NotFound
from annotate_server.stores.database import FILE_NAME, join_database
from annotate_server.stores.draft_files import DraftFiles
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.stores.sqlite_labels import SqliteLabels
from annotate_server.stores.sqlite_parts import SqliteParts
from annotate_server.stores.sqlite_predictions import SqlitePredictions
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.stores.sqlite_sessions import SqliteSessions
from annotate_server.stores.volume_cache import FolderVolumeCache
from annotate_server.workflows.answer import OpenVolumes
from annotate_server.workflows.export import Exporter
from annotate_server.workflows.records import Records
from annotate_server.workflows.training_examples import StoredExamples


@contextmanager
def exporter(ports: Ports) -> Iterator[Exporter]:
    """Give an exporter over a workspace; raises NotFound where there is no database in it."""
    workspace = ports.settings.workspace
    if not (workspace / FILE_NAME).is_file():
        raise NotFound("nothing was annotated in this workspace yet", source=str(workspace))
    database = join_database(workspace / FILE_NAME)
    try:
        records = Records(
            cases=SqliteCases(database),
            projects=SqliteProjects(database),
            sessions=SqliteSessions(database),
            labels=SqliteLabels(database),
            predictions=SqlitePredictions(database),
            blobs=ports.blobs,
            drafts=DraftFiles(workspace / "drafts"),
        )
        cache = FolderVolumeCache(workspace / "volumes", ports.settings.volume_cache_bytes)
        with ports.reader() as reader:
            volumes = OpenVolumes(reader, cache)
            examples = StoredExamples(records.cases, records.labels, records.blobs, volumes)
            yield Exporter(records, SqliteParts(database), examples)
    finally:
        database.close()
