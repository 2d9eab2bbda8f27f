"""Labels on their way to the archive, in the workspace's database: a row from the approval on, in its transaction."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, RowMapping, func, select, update
from sqlalchemy.dialects.sqlite import insert

from annotate_server.domain.annotation import Label, LabelState, Sending, SendingState
from annotate_server.domain.clock import now
from annotate_server.domain.errors import NotFound
from annotate_server.stores.database import Database
from annotate_server.stores.schema import PROJECTS, SENDINGS
from annotate_server.stores.sqlite_audit import SERVER, Act, write_audit
from annotate_server.stores.sqlite_values import optional_time_text, time_of, time_text

SENDING_COLUMNS = (
    SENDINGS.c.state.label("sending_state"),
    SENDINGS.c.attempts.label("sending_attempts"),
    SENDINGS.c.next_at.label("sending_next_at"),
    SENDINGS.c.reason.label("sending_reason"),
    SENDINGS.c.sent_at.label("sending_sent_at"),
)


class SqliteSendings:
    """Fulfils `store_ports.SendingStore`."""

    def __init__(self, database: Database) -> None:
        """Keep sendings in `database`."""
        self._database = database

    def due(self, now: datetime, limit: int = 20) -> tuple[str, ...]:
        """Return the labels that are to be sent now, those that have waited longest first."""
        waiting = SENDINGS.c.state == SendingState.PENDING.value, SENDINGS.c.next_at <= time_text(now)
        query = select(SENDINGS.c.label_id).where(*waiting).order_by(SENDINGS.c.next_at).limit(limit)
        with self._database.reading() as connection:
            return tuple(connection.execute(query).scalars())

    def keep(self, label_id: str, sending: Sending) -> None:
        """Keep how far a label is; raises NotFound for one that nobody wants to be sent."""
        with self._database.writing() as connection:
            changed = connection.execute(
                update(SENDINGS).where(SENDINGS.c.label_id == label_id).values(_row(sending, now()))
            )
            if not changed.rowcount:
                raise NotFound(f"the label {label_id} does not go to an archive")
            if sending.state is not SendingState.PENDING:
                details = {"attempts": sending.attempts, "reason": sending.reason}
                write_audit(connection, SERVER, Act(f"label-sending-{sending.state}", label_id, details))

    def counts(self) -> Mapping[SendingState, int]:
        """Return how many labels are how far."""
        query = select(SENDINGS.c.state, func.count()).group_by(SENDINGS.c.state)
        with self._database.reading() as connection:
            found = {SendingState(state): count for state, count in connection.execute(query)}
        return {state: found.get(state, 0) for state in SendingState}


def await_sending(connection: Connection, label: Label) -> None:
    """Let a label wait to be sent, where it is approved and its project sends labels back."""
    if label.state is not LabelState.APPROVED:
        return
    wanted = select(PROJECTS.c.send_labels_back).where(PROJECTS.c.id == label.project_id)
    if connection.execute(wanted).scalar():
        row = {"label_id": label.id, **_row(Sending(), now())}
        connection.execute(insert(SENDINGS).values(row).on_conflict_do_nothing())


def sending_of(row: RowMapping) -> Sending | None:
    """Return the sending of a row that has `SENDING_COLUMNS`; None for a label that stays here."""
    if row["sending_state"] is None:
        return None
    return Sending(
        SendingState(row["sending_state"]),
        row["sending_attempts"],
        time_of(row["sending_next_at"]),
        row["sending_reason"],
        time_of(row["sending_sent_at"]),
    )


def _row(sending: Sending, moment: datetime) -> Mapping[str, object]:
    return {
        "state": sending.state.value,
        "attempts": sending.attempts,
        "next_at": time_text(sending.next_at or moment),
        "reason": sending.reason,
        "sent_at": optional_time_text(sending.sent_at),
    }
