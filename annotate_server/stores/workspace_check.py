"""Is everything that a workspace names there, byte for byte? Reads all of it, changes nothing."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Column, Connection, select, text

from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.ports import Control
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.database import Database
from annotate_server.stores.schema import (
    EVENTS,
    LAYERS,
    MODELS,
    PREDICTIONS,
    PROMOTIONS,
    SESSIONS,
    SNAPSHOTS,
    VERSION_WEIGHTS,
    VERSIONS,
)
from annotate_server.stores.sqlite_audit import audit_faults

_NAMING: Mapping[str, Column[str]] = {
    "label": LAYERS.c.blob,
    "prediction": PREDICTIONS.c.blob,
    "start of a session": SESSIONS.c.start_blob,
    "event": EVENTS.c.change,
    "snapshot": SNAPSHOTS.c.blob,
    "model that began from nothing": MODELS.c.description,
    "version of a model": VERSIONS.c.description,
    "training set": VERSIONS.c.training_set,
    "version's weights": VERSION_WEIGHTS.c.blob,
    "decision of a gate": PROMOTIONS.c.evidence,
}
_NOBODY_ASKED = Control()


@dataclass(frozen=True)
class Findings:
    """What a check found. `orphans` are blobs that nothing names: what a crash leaves behind, and no fault."""

    blobs: int
    orphans: int
    audit_rows: int
    faults: tuple[str, ...]


def named_blobs(connection: Connection) -> Mapping[str, str]:
    """Return every blob that a row names, with what names it."""
    found: dict[str, str] = {}
    for kind, column in _NAMING.items():
        for (blob,) in connection.execute(select(column).distinct().where(column.is_not(None))):
            found.setdefault(blob, kind)
    return found


def check_workspace(
    database: Database, blobs: BlobFolder, weights: Collection[str] = (), control: Control = _NOBODY_ASKED
) -> Findings:
    """Verify the database, the audit trail and every blob; `weights` are the digests that models name.

    A weight that is not installed is no fault; one whose bytes changed is.
    """
    control.report(0.0, "Checking the database")
    with database.reading() as connection:
        faults = [f"the database: {row[0]}" for row in connection.execute(text("PRAGMA integrity_check"))]
        faults = [] if faults == ["the database: ok"] else faults
        faults += [f"the database: a row of {row[0]} belongs to nothing" for row in connection.execute(_DANGLING)]
        faults += audit_faults(connection)
        rows = int(connection.execute(text("SELECT count(*) FROM audit")).scalar_one())
        named = named_blobs(connection)
    there = set(blobs.all())
    weights_there = {digest: "weights" for digest in weights if digest in there and digest not in named}
    expected = {**named, **weights_there}
    for position, (digest, kind) in enumerate(expected.items()):
        control.check()
        control.report(position / len(expected), f"Checking blob {position + 1} of {len(expected)}")
        if fault := _fault(blobs, digest):
            faults.append(f"the blob {digest[:12]}… of a {kind} {fault}")
    control.report(1.0, "Checked")
    return Findings(len(expected), len(there - set(expected)), rows, tuple(faults))


def _fault(blobs: BlobFolder, digest: str) -> str:
    try:
        if not blobs.path(digest).is_file():
            return "is gone"
        return "" if blobs.is_intact(digest) else "was changed on the disk"
    except StorageFailed as error:
        return f"cannot be ({error.detail})"


_DANGLING = text('SELECT DISTINCT "table" FROM pragma_foreign_key_check')
