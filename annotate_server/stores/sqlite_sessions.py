"""Annotation sessions in the workspace's database: a row a session, a row an event, nothing ever deleted."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, insert, select, update

from annotate_server.domain.annotation import Interaction, InteractionKind, Session, SessionState
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import CaseTaken, NotFound, StaleRevision, StateError
from annotate_server.domain.person import Person
from annotate_server.domain.stored import StoredLayer
from annotate_server.imaging.geometry_json import geometry_as_json
from annotate_server.stores.database import Database
from annotate_server.stores.schema import EVENTS, SESSIONS, SNAPSHOTS
from annotate_server.stores.sqlite_audit import SERVER, Act, write_audit
from annotate_server.stores.sqlite_values import (
    box_of,
    box_text,
    geometry_of,
    json_text,
    layer_columns,
    layer_of,
    optional_time_text,
    prompt_of,
    prompt_text,
    segments_of,
    segments_text,
    time_of,
    time_text,
)


class SqliteSessions:
    """Fulfils `store_ports.SessionStore`."""

    def __init__(self, database: Database, clock: Clock = now) -> None:
        """Keep sessions in `database`; whether a lease has run out goes by `clock`."""
        self._database = database
        self._clock = clock

    def open(self, session: Session, person: Person) -> None:
        """Add a session; raises CaseTaken where a live one is open on the same case of the same project."""
        with self._database.writing() as connection:
            self._take(connection, session)
            connection.execute(insert(SESSIONS), _row(session))
            details = {"project": session.project_id, "case": session.case_id, "parent": session.parent}
            write_audit(connection, person, Act("session-opened", session.id, details))

    def get(self, session_id: str) -> Session:
        """Return a session with its interactions; raises NotFound. One whose lease ran out is still OPEN here."""
        events = select(EVENTS).where(EVENTS.c.session_id == session_id, EVENTS.c.given_up.is_(None))
        with self._database.reading() as connection:
            row = _find(connection, session_id)
            rows = connection.execute(events.order_by(EVENTS.c.event)).mappings()
            return _session(row, tuple(_interaction(event) for event in rows))

    def of_person(self, person: str) -> tuple[Session, ...]:
        """Return the sessions of a person that were not submitted, newest first, without their interactions."""
        query = select(SESSIONS).where(SESSIONS.c.person == person, SESSIONS.c.state != SessionState.SUBMITTED.value)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(SESSIONS.c.number.desc())).mappings()
            return tuple(_session(row, ()) for row in rows)

    def record(self, session: Session, person: Person) -> None:
        """Keep the newest interaction and give up the events from its number on; StaleRevision as `move`."""
        newest = session.interactions[-1]
        with self._database.writing() as connection:
            stored = must_be_open(connection, session.id)
            if stored.revision != session.revision - 1:
                raise _stale(session, stored)
            for table in (EVENTS, SNAPSHOTS):
                late = table.c.event >= newest.number
                given_up = update(table).where(table.c.session_id == session.id, table.c.given_up.is_(None), late)
                connection.execute(given_up.values(given_up=session.revision))
            connection.execute(insert(EVENTS), {"session_id": session.id, **_event(newest)})
            _keep_standing(connection, session)
            details = {"event": newest.number, "revision": session.revision, "kind": newest.kind}
            write_audit(connection, person, Act("draft-changed", session.id, {**details, "change": newest.change}))

    def move(self, session: Session, person: Person) -> None:
        """Keep how many interactions are in force, the revision, the segments and the locks (undo, redo, lock).

        Raises StaleRevision where the stored draft is neither the one before nor the one that was locked.
        """
        with self._database.writing() as connection:
            stored = must_be_open(connection, session.id)
            is_next = stored.revision == session.revision - 1
            is_same = stored.revision == session.revision and stored.applied == session.applied
            if not (is_next or is_same):
                raise _stale(session, stored)
            _keep_standing(connection, session)
            details = {"applied": session.applied, "revision": session.revision, "locked": sorted(session.locked)}
            write_audit(connection, person, Act("draft-moved", session.id, details))

    def renew(self, session_id: str, lease_until: datetime, active_s: float) -> None:
        """Keep the end of the lease and the seconds of activity; no row in the audit trail."""
        with self._database.writing() as connection:
            must_be_open(connection, session_id)
            values = {"lease_until": time_text(lease_until), "active_s": active_s}
            connection.execute(update(SESSIONS).where(SESSIONS.c.id == session_id).values(values))

    def end(self, session: Session, person: Person) -> None:
        """Keep that a session was left or has expired; ending it the same way twice is no error."""
        with self._database.writing() as connection:
            if _session(_find(connection, session.id), ()).state is not session.state:
                must_be_open(connection, session.id)
                close_session(connection, session.id, session.state)
                write_audit(connection, person, Act(f"session-{session.state}", session.id))

    def resume(self, session: Session, person: Person) -> None:
        """Keep that a session is open again; CaseTaken where another live one is open on the case."""
        with self._database.writing() as connection:
            if _session(_find(connection, session.id), ()).state is SessionState.SUBMITTED:
                raise StateError(f"session {session.id} was submitted")
            self._take(connection, session)
            values = {"state": SessionState.OPEN.value, "lease_until": optional_time_text(session.lease_until)}
            connection.execute(update(SESSIONS).where(SESSIONS.c.id == session.id).values(values))
            write_audit(connection, person, Act("session-resumed", session.id))

    def keep_snapshot(self, session_id: str, number: int, sha256: str) -> None:
        """Keep the blob of the whole draft after the first `number` interactions."""
        with self._database.writing() as connection:
            _find(connection, session_id)
            row = {"session_id": session_id, "event": number, "blob": sha256}
            connection.execute(insert(SNAPSHOTS), row)

    def snapshot(self, session_id: str, number: int) -> tuple[int, str] | None:
        """Return the newest snapshot that still holds after at most `number` interactions, as (number, blob)."""
        query = select(SNAPSHOTS.c.event, SNAPSHOTS.c.blob).where(
            SNAPSHOTS.c.session_id == session_id, SNAPSHOTS.c.given_up.is_(None), SNAPSHOTS.c.event <= number
        )
        newest_first = (SNAPSHOTS.c.event.desc(), SNAPSHOTS.c.number.desc())
        with self._database.reading() as connection:
            row = connection.execute(query.order_by(*newest_first).limit(1)).first()
        return None if row is None else (row[0], row[1])

    def _take(self, connection: Connection, session: Session) -> None:
        """Make the case free for `session`: CaseTaken where somebody is at it, else what ran out is marked so."""
        row = connection.execute(_open_on(session)).mappings().first()
        if row is None:
            return
        other = _session(row, ())
        if other.lease_until is None or self._clock() < other.lease_until:
            raise CaseTaken.by(other.person, other.id)
        close_session(connection, other.id, SessionState.EXPIRED)
        write_audit(connection, SERVER, Act("session-expired", other.id, {"for": session.id}))


def must_be_open(connection: Connection, session_id: str) -> Session:
    """Return the stored session without its interactions; NotFound, SessionExpired or StateError where not open."""
    stored = _session(_find(connection, session_id), ())
    stored.must_be_open("changed")
    return stored


def close_session(connection: Connection, session_id: str, state: SessionState) -> None:
    """Keep that a session is no longer open."""
    connection.execute(update(SESSIONS).where(SESSIONS.c.id == session_id).values(state=state.value))


def _find(connection: Connection, session_id: str) -> RowMapping:
    row = connection.execute(select(SESSIONS).where(SESSIONS.c.id == session_id)).mappings().first()
    if row is None:
        raise NotFound(f"there is no session {session_id}")
    return row


def _open_on(session: Session) -> Select[Any]:
    return select(SESSIONS).where(
        SESSIONS.c.project_id == session.project_id,
        SESSIONS.c.case_id == session.case_id,
        SESSIONS.c.state == SessionState.OPEN.value,
        SESSIONS.c.id != session.id,
    )


def _stale(session: Session, stored: Session) -> StaleRevision:
    return StaleRevision(
        f"the draft of session {session.id} is at revision {stored.revision}", remedy="Fetch it and do it again."
    )


def _keep_standing(connection: Connection, session: Session) -> None:
    values = {
        "applied": session.applied,
        "revision": session.revision,
        "segments": segments_text(session.segments),
        "locked": json_text(sorted(session.locked)),
        "model_version": session.model_version,
    }
    connection.execute(update(SESSIONS).where(SESSIONS.c.id == session.id).values(values))


def _row(session: Session) -> Mapping[str, Any]:
    return {
        "id": session.id,
        "project_id": session.project_id,
        "case_id": session.case_id,
        "person": session.person,
        "geometry": json_text(geometry_as_json(session.geometry)),
        "state": session.state.value,
        "applied": session.applied,
        "revision": session.revision,
        "start_blob": None if session.start is None else session.start.blob,
        "start": None if session.start is None else json_text(layer_columns(session.start)),
        "segments": segments_text(session.segments),
        "locked": json_text(sorted(session.locked)),
        "parent": session.parent,
        "layer": session.layer,
        "model_version": session.model_version,
        "opened_at": optional_time_text(session.opened_at),
        "lease_until": optional_time_text(session.lease_until),
        "active_s": session.active_s,
    }


def _session(row: RowMapping, interactions: tuple[Interaction, ...]) -> Session:
    return Session(
        id=row["id"],
        project_id=row["project_id"],
        case_id=row["case_id"],
        person=row["person"],
        geometry=geometry_of(row["geometry"]),
        state=SessionState(row["state"]),
        interactions=interactions,
        applied=row["applied"],
        revision=row["revision"],
        start=_start(row["start"]),
        segments=segments_of(row["segments"]),
        locked=frozenset(json.loads(row["locked"])),
        parent=row["parent"],
        layer=row["layer"],
        model_version=row["model_version"],
        opened_at=time_of(row["opened_at"]),
        lease_until=time_of(row["lease_until"]),
        active_s=row["active_s"],
    )


def _start(text: str | None) -> StoredLayer | None:
    return None if text is None else layer_of(json.loads(text))


def _event(interaction: Interaction) -> Mapping[str, Any]:
    before, after, prompt = interaction.segments_before, interaction.segments_after, interaction.prompt
    return {
        "event": interaction.number,
        "revision": interaction.revision,
        "kind": interaction.kind.value,
        "box": box_text(interaction.box),
        "change": interaction.change,
        "segments_before": None if before is None else segments_text(before),
        "segments_after": None if after is None else segments_text(after),
        "prompt": None if prompt is None else prompt_text(prompt),
        "helper": interaction.helper,
        "model_version": interaction.model_version,
        "at": optional_time_text(interaction.at),
    }


def _interaction(row: RowMapping) -> Interaction:
    before, after, prompt = row["segments_before"], row["segments_after"], row["prompt"]
    return Interaction(
        number=row["event"],
        kind=InteractionKind(row["kind"]),
        box=box_of(row["box"]),
        change=row["change"],
        segments_before=None if before is None else segments_of(before),
        segments_after=None if after is None else segments_of(after),
        prompt=None if prompt is None else prompt_of(prompt),
        helper=row["helper"],
        model_version=row["model_version"],
        revision=row["revision"],
        at=time_of(row["at"]),
    )
