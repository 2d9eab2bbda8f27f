"""Accepted labels in the workspace's database: a row is written once; a verdict is a row of its own."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, insert, select

from annotate_server.domain.annotation import Label, LabelState, Session, SessionState
from annotate_server.domain.case_changes import CaseChanges
from annotate_server.domain.errors import NotFound, StaleRevision, StateError
from annotate_server.domain.person import Person
from annotate_server.stores.database import Database
from annotate_server.stores.schema import LABELS, LAYERS, REVIEWS, SENDINGS
from annotate_server.stores.sqlite_audit import Act, write_audit
from annotate_server.stores.sqlite_sendings import SENDING_COLUMNS, await_sending, sending_of
from annotate_server.stores.sqlite_sessions import close_session, must_be_open
from annotate_server.stores.sqlite_values import among, layer_columns, layer_of, optional_time_text, time_of

_VERDICT = (
    REVIEWS.c.verdict,
    REVIEWS.c.reviewer.label("second"),
    REVIEWS.c.comment.label("remark"),
    REVIEWS.c.at.label("verdict_at"),
)


class SqliteLabels:
    """Fulfils `store_ports.LabelStore`."""

    def __init__(self, database: Database) -> None:
        """Keep labels in `database`."""
        self._database = database
        self._changed = CaseChanges()

    @property
    def changed(self) -> CaseChanges:
        """Return which cases got a label or a verdict, in this process."""
        return self._changed

    def accept(self, label: Label, session: Session | None, person: Person) -> None:
        """Keep a label and, where given, end its session, in one transaction.

        Raises StaleRevision, SessionExpired or StateError where the stored session is not the open one given.
        """
        with self._database.writing() as connection:
            if session is not None:
                stored = must_be_open(connection, session.id)
                if stored.revision != session.revision:
                    raise StaleRevision(f"the draft of session {session.id} is at revision {stored.revision}")
                close_session(connection, session.id, SessionState.SUBMITTED)
            connection.execute(insert(LABELS), _row(label))
            if label.layers:
                layers = [
                    {"label_id": label.id, "position": position, **layer_columns(layer)}
                    for position, layer in enumerate(label.layers)
                ]
                connection.execute(insert(LAYERS), layers)
            await_sending(connection, label)
            write_audit(connection, person, Act("label-accepted", label.id, _lineage(label)))
        self._changed.note((label.case_id,))

    def get(self, label_id: str) -> Label:
        """Return a label; raises NotFound."""
        with self._database.reading() as connection:
            return _get(connection, label_id)

    def of_case(self, project_id: str, case_id: str) -> tuple[Label, ...]:
        """Return the labels of a case in a project, oldest first."""
        query = _labels().where(LABELS.c.project_id == project_id, LABELS.c.case_id == case_id)
        with self._database.reading() as connection:
            return _read(connection, query)

    def of_state(self, project_id: str, state: LabelState) -> tuple[Label, ...]:
        """Return the newest label of every case of a project where it is in this state, oldest first."""
        newest = select(func.max(LABELS.c.number)).where(LABELS.c.project_id == project_id).group_by(LABELS.c.case_id)
        current = func.coalesce(REVIEWS.c.verdict, LABELS.c.state)
        query = _labels().where(LABELS.c.number.in_(newest), current == state.value)
        with self._database.reading() as connection:
            return _read(connection, query)

    def of_every_project(self, case_id: str | None = None) -> tuple[Label, ...]:
        """Return the labels of a case in all projects, or those of all cases, oldest first."""
        query = _labels() if case_id is None else _labels().where(LABELS.c.case_id == case_id)
        with self._database.reading() as connection:
            return _read(connection, query)

    def of_cases(self, case_ids: Collection[str]) -> tuple[Label, ...]:
        """Return the labels of these cases in all projects, oldest first."""
        with self._database.reading() as connection:
            return _read(connection, _labels().where(among(LABELS.c.case_id, case_ids)))

    def labelled(self) -> int:
        """Return how many cases have a label in some project."""
        with self._database.reading() as connection:
            return connection.execute(select(func.count(LABELS.c.case_id.distinct()))).scalar_one()

    def review(self, label: Label, person: Person) -> None:
        """Keep a verdict; StateError where the stored label was reviewed meanwhile."""
        with self._database.writing() as connection:
            stored = _get(connection, label.id)
            if stored.state is not LabelState.SUBMITTED:
                raise StateError(f"label {label.id} was already {stored.state}")
            if label.state is LabelState.SUBMITTED:
                raise StateError("a review approves or returns")
            verdict = {"verdict": label.state.value, "reviewer": label.reviewer, "comment": label.comment}
            at = optional_time_text(label.reviewed_at)
            connection.execute(insert(REVIEWS), {"label_id": label.id, **verdict, "at": at})
            await_sending(connection, label)
            write_audit(connection, person, Act(f"label-{label.state}", label.id, verdict))
        self._changed.note((label.case_id,))


def _labels() -> Select[Any]:
    joined = LABELS.outerjoin(REVIEWS, REVIEWS.c.label_id == LABELS.c.id)
    joined = joined.outerjoin(SENDINGS, SENDINGS.c.label_id == LABELS.c.id)
    return select(LABELS, *_VERDICT, *SENDING_COLUMNS).select_from(joined).order_by(LABELS.c.number)


def _get(connection: Connection, label_id: str) -> Label:
    found = _read(connection, _labels().where(LABELS.c.id == label_id))
    if not found:
        raise NotFound(f"there is no label {label_id}")
    return found[0]


def _read(connection: Connection, query: Select[Any]) -> tuple[Label, ...]:
    """Return the labels of a query with their layers: two statements, however many labels."""
    rows = connection.execute(query).mappings().all()
    chosen = query.with_only_columns(LABELS.c.id).order_by(None)
    layers: dict[str, list[RowMapping]] = {}
    ordered = select(LAYERS).where(LAYERS.c.label_id.in_(chosen)).order_by(LAYERS.c.label_id, LAYERS.c.position)
    for layer in connection.execute(ordered).mappings():
        layers.setdefault(layer["label_id"], []).append(layer)
    return tuple(_label(row, layers.get(row["id"], [])) for row in rows)


def _lineage(label: Label) -> Mapping[str, object]:
    return {
        "project": label.project_id,
        "case": label.case_id,
        "layers": [layer.blob for layer in label.layers],
        "parent": label.parent,
        "model_version": label.model_version,
        "session": label.session_id,
        "state": label.state,
        "is_partial": label.is_partial,
    }


def _row(label: Label) -> Mapping[str, Any]:
    return {
        "id": label.id,
        "project_id": label.project_id,
        "case_id": label.case_id,
        "author": label.author,
        "is_author_verified": label.is_author_verified,
        "parent": label.parent,
        "model_version": label.model_version,
        "session_id": label.session_id,
        "events": label.events,
        "active_s": label.active_s,
        "made_at": optional_time_text(label.made_at),
        "state": label.state.value,
        "reviewer": label.reviewer,
        "comment": label.comment,
        "reviewed_at": optional_time_text(label.reviewed_at),
        "is_partial": label.is_partial,
    }


def _label(row: RowMapping, layers: list[RowMapping]) -> Label:
    is_reviewed = row["verdict"] is not None
    return Label(
        id=row["id"],
        project_id=row["project_id"],
        case_id=row["case_id"],
        author=row["author"],
        layers=tuple(layer_of(layer) for layer in layers),
        parent=row["parent"],
        model_version=row["model_version"],
        session_id=row["session_id"],
        events=row["events"],
        active_s=row["active_s"],
        is_author_verified=row["is_author_verified"],
        made_at=time_of(row["made_at"]),
        state=LabelState(row["verdict"] if is_reviewed else row["state"]),
        reviewer=row["second"] if is_reviewed else row["reviewer"],
        comment=row["remark"] if is_reviewed else row["comment"],
        reviewed_at=time_of(row["verdict_at"] if is_reviewed else row["reviewed_at"]),
        sending=sending_of(row),
        is_partial=row["is_partial"],
    )
