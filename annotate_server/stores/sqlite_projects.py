"""Projects in the workspace's database, and where every case stands in them: asked each time, never kept twice."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, RowMapping, bindparam, delete, insert, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert

from annotate_server.domain.annotation import LabelState
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import NotFound, StateError
from annotate_server.domain.person import Person
from annotate_server.domain.project import CaseStatus, Project, ReviewPolicy, WorkItem
from annotate_server.domain.volume import Modality
from annotate_server.stores.database import Database
from annotate_server.stores.schema import PROJECTS, PUT_ASIDE
from annotate_server.stores.sqlite_audit import Act, write_audit
from annotate_server.stores.sqlite_values import json_text, segments_of, segments_text, time_of, time_text

_BELONGS = """
SELECT c.id AS case_id, s.id AS session_id, s.person AS person, s.opened_at AS opened_at,
       l.id AS label_id, l.made_at AS made_at, coalesce(r.verdict, l.state) AS label_state,
       coalesce(r.comment, l.comment) AS comment, coalesce(r.at, l.reviewed_at) AS reviewed_at,
       p.reason AS reason, p.at AS put_aside_at, d.model AS predicted_by
FROM known_case c
LEFT JOIN label l ON l.number =
    (SELECT max(number) FROM label WHERE project_id = :project AND case_id = c.id)
LEFT JOIN review r ON r.label_id = l.id
LEFT JOIN put_aside p ON p.project_id = :project AND p.case_id = c.id
LEFT JOIN session s ON s.project_id = :project AND s.case_id = c.id AND s.state = 'open'
    AND (s.lease_until IS NULL OR s.lease_until > :now)
LEFT JOIN prediction d ON d.number =
    (SELECT max(number) FROM prediction WHERE case_id = c.id AND model IN :models)
WHERE (:any_modality OR coalesce(c.modality, c.declared) IS NULL OR coalesce(c.modality, c.declared) IN :modalities)
"""
_MODELS: BindParameter[str] = bindparam("models", expanding=True)
_MODALITIES: BindParameter[str] = bindparam("modalities", expanding=True)
_ALL = text(_BELONGS + "ORDER BY c.added_at, c.sort_key").bindparams(_MODELS, _MODALITIES)
_ONE = text(_BELONGS + "AND c.id = :case").bindparams(_MODELS, _MODALITIES)
_STATUS: Mapping[str, CaseStatus] = {
    LabelState.SUBMITTED: CaseStatus.SUBMITTED,
    LabelState.RETURNED: CaseStatus.RETURNED,
    LabelState.APPROVED: CaseStatus.APPROVED,
}


class SqliteProjects:
    """Fulfils `store_ports.ProjectStore`."""

    def __init__(self, database: Database, clock: Clock = now) -> None:
        """Keep projects in `database`."""
        self._database = database
        self._clock = clock

    def add(self, project: Project, person: Person) -> None:
        """Add a project; StateError where the id is taken."""
        with self._database.writing() as connection:
            if _find(connection, project.id):
                raise StateError(f"there is a project {project.id} already")
            connection.execute(insert(PROJECTS), _row(project))
            write_audit(connection, person, Act("project-added", project.id, _row(project)))

    def change(self, project: Project, person: Person) -> None:
        """Replace a project's description; raises NotFound."""
        with self._database.writing() as connection:
            _get(connection, project.id)
            connection.execute(update(PROJECTS).where(PROJECTS.c.id == project.id).values(_row(project)))
            write_audit(connection, person, Act("project-changed", project.id, _row(project)))

    def get(self, project_id: str) -> Project:
        """Return a project; raises NotFound."""
        with self._database.reading() as connection:
            return _get(connection, project_id)

    def all(self) -> tuple[Project, ...]:
        """Return every project, sorted by id."""
        with self._database.reading() as connection:
            rows = connection.execute(select(PROJECTS).order_by(PROJECTS.c.id)).mappings()
            return tuple(_project(row) for row in rows)

    def items(self, project_id: str, now: datetime) -> tuple[WorkItem, ...]:
        """Return where every case of the project stands, oldest case first; missing ones are among them."""
        with self._database.reading() as connection:
            bound = _bound(_get(connection, project_id), now)
            return tuple(_item(project_id, row) for row in connection.execute(_ALL, bound).mappings())

    def item(self, project_id: str, case_id: str, now: datetime) -> WorkItem:
        """Return where one case stands; raises NotFound, also for a case that the project's modalities leave out."""
        with self._database.reading() as connection:
            bound = {**_bound(_get(connection, project_id), now), "case": case_id}
            row = connection.execute(_ONE, bound).mappings().first()
        if row is None:
            raise NotFound(f"there is no case {case_id} in the project {project_id}")
        return _item(project_id, row)

    def mark(self, item: WorkItem, status: CaseStatus, reason: str, person: Person) -> None:
        """Put a case aside as unusable, or back (status OPEN)."""
        key = {"project_id": item.project_id, "case_id": item.case_id}
        with self._database.writing() as connection:
            if status is CaseStatus.PUT_ASIDE:
                told = {"reason": reason, "person": person.name, "at": time_text(self._clock())}
                statement = upsert(PUT_ASIDE).values({**key, **told})
                connection.execute(statement.on_conflict_do_update(["project_id", "case_id"], set_=told))
            elif status is CaseStatus.OPEN:
                connection.execute(delete(PUT_ASIDE).filter_by(**key))
            else:
                raise StateError(f"a case is put aside or back; it does not become {status} by a mark")
            action = "case-put-aside" if status is CaseStatus.PUT_ASIDE else "case-taken-back"
            write_audit(connection, person, Act(action, item.case_id, {"project": item.project_id, "reason": reason}))


def _find(connection: Connection, project_id: str) -> RowMapping | None:
    return connection.execute(select(PROJECTS).where(PROJECTS.c.id == project_id)).mappings().first()


def _get(connection: Connection, project_id: str) -> Project:
    row = _find(connection, project_id)
    if row is None:
        raise NotFound(f"there is no project {project_id}")
    return _project(row)


def _bound(project: Project, now: datetime) -> Mapping[str, Any]:
    return {
        "project": project.id,
        "now": time_text(now),
        "models": list(project.apps),
        "modalities": [modality.value for modality in project.modalities],
        "any_modality": not project.modalities,
    }


def _row(project: Project) -> Mapping[str, Any]:
    return {
        "id": project.id,
        "title": project.title,
        "segments": segments_text(project.segments),
        "apps": json_text(project.apps),
        "modalities": json_text(project.modalities),
        "review": project.review.value,
        "send_labels_back": project.send_labels_back,
        "strategy": project.strategy,
    }


def _project(row: RowMapping) -> Project:
    return Project(
        id=row["id"],
        title=row["title"],
        segments=segments_of(row["segments"]),
        apps=tuple(json.loads(row["apps"])),
        modalities=tuple(Modality(value) for value in json.loads(row["modalities"])),
        review=ReviewPolicy(row["review"]),
        send_labels_back=row["send_labels_back"],
        strategy=row["strategy"],
    )


def _item(project_id: str, row: RowMapping) -> WorkItem:
    """Return where a case stands: put aside goes before in work, and that before what became of its label."""
    if row["reason"] is not None:
        status, reason = CaseStatus.PUT_ASIDE, row["reason"]
    else:
        status = CaseStatus.OPEN if row["label_state"] is None else _STATUS[row["label_state"]]
        reason = row["comment"] or ""
    if row["session_id"] is not None and status is not CaseStatus.PUT_ASIDE:
        status = CaseStatus.IN_WORK
    times = (row["put_aside_at"], row["opened_at"], row["reviewed_at"], row["made_at"])
    return WorkItem(
        project_id=project_id,
        case_id=row["case_id"],
        status=status,
        person=row["person"],
        session_id=row["session_id"],
        label_id=row["label_id"],
        reason=reason,
        predicted_by=row["predicted_by"],
        changed_at=time_of(max((at for at in times if at is not None), default=None)),
    )
