"""The audit trail: one row with every change, in its transaction, chained by hashes so that no row can be altered.

What the chain cannot show is that its newest rows were cut off: keep `head` elsewhere to see that.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, RowMapping, insert, select

from annotate_server.domain.clock import now
from annotate_server.domain.person import Person, Role
from annotate_server.stores.schema import AUDIT
from annotate_server.stores.sqlite_values import json_text, time_text

SERVER = Person("(server)", Role.ADMIN)
"""Who did what nobody asked for by name: a scan, a draft made ahead, the command line."""
_BEGINNING = "0" * 64


@dataclass(frozen=True)
class Act:
    """What was done: ids and digests only, nothing of a patient."""

    action: str
    subject: str
    details: Mapping[str, object] = field(default_factory=dict)


def write_audit(connection: Connection, person: Person, act: Act) -> None:
    """Add a row; the connection is a writing one, so that no other row can come in between."""
    newest = connection.execute(select(AUDIT.c.number, AUDIT.c.hash).order_by(AUDIT.c.number.desc()).limit(1)).first()
    number, previous = (newest[0] + 1, newest[1]) if newest else (1, _BEGINNING)
    row = {
        "number": number,
        "at": time_text(now()),
        "person": person.name,
        "verified": person.verified,
        "action": act.action,
        "subject": act.subject,
        "details": json_text(act.details),
        "previous": previous,
    }
    connection.execute(insert(AUDIT), {**row, "hash": _hash(row)})


def audit_faults(connection: Connection) -> Iterator[str]:
    """Yield a sentence for every row of the trail that is not what was written."""
    expected, previous = 1, _BEGINNING
    for row in connection.execute(select(AUDIT).order_by(AUDIT.c.number)).mappings():
        if row["number"] != expected:
            yield f"the audit trail lacks the rows {expected} to {row['number'] - 1}"
        elif row["previous"] != previous or row["hash"] != _hash(row):
            yield f"row {row['number']} of the audit trail was changed"
        expected, previous = row["number"] + 1, row["hash"]


def head(connection: Connection) -> str:
    """Return the hash of the newest row."""
    newest = connection.execute(select(AUDIT.c.hash).order_by(AUDIT.c.number.desc()).limit(1)).scalar()
    return _BEGINNING if newest is None else str(newest)


def _hash(row: Mapping[str, object] | RowMapping) -> str:
    names = ("number", "at", "person", "verified", "action", "subject", "details", "previous")
    return hashlib.sha256(json_text([row[name] for name in names]).encode()).hexdigest()
