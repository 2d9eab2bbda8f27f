"""The stores of a workspace, together."""

from annotate_server.bootstrap.ports import Ports
from annotate_server.stores.database import Database
from annotate_server.stores.draft_files import DraftFiles
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.stores.sqlite_labels import SqliteLabels
from annotate_server.stores.sqlite_predictions import SqlitePredictions
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.stores.sqlite_sessions import SqliteSessions
from annotate_server.workflows.label_watch import WatchedLabels
from annotate_server.workflows.records import Records


def stored_records(ports: Ports, database: Database) -> tuple[Records, WatchedLabels]:
    """Return the stores over a database that is open; its labels, which tell of each that is approved, once more."""
    labels = WatchedLabels(SqliteLabels(database))
    records = Records(
        cases=SqliteCases(database),
        projects=SqliteProjects(database),
        sessions=SqliteSessions(database),
        labels=labels,
        predictions=SqlitePredictions(database),
        blobs=ports.blobs,
        drafts=DraftFiles(ports.settings.workspace / "drafts"),
    )
    return records, labels
