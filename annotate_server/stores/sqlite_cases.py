"""Cases in the workspace's database."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, bindparam, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from annotate_server.domain.case import Case, PatientKey, case_id_of_voxels
from annotate_server.domain.case_changes import CaseChanges
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import NotFound
from annotate_server.domain.person import Person
from annotate_server.domain.store_ports import CaseFilter, CasePage
from annotate_server.domain.stored import KnownCase, VolumeFacts
from annotate_server.domain.volume import Modality
from annotate_server.stores.database import Database
from annotate_server.stores.schema import CASES
from annotate_server.stores.sqlite_audit import SERVER, Act, write_audit
from annotate_server.stores.sqlite_values import (
    among,
    facts_of,
    facts_text,
    optional_modality,
    time_text,
    volumes_of,
    volumes_text,
)

_FROM_FILES = (
    *("sort_key", "patient_issuer", "patient_identifier", "patient_known"),
    *("modality", "study_uid", "series_uid", "volumes"),
)
_BY_AGE = select(CASES).order_by(CASES.c.added_at, CASES.c.sort_key)


class SqliteCases:
    """Fulfils `store_ports.CaseStore`."""

    def __init__(self, database: Database, clock: Clock = now) -> None:
        """Keep cases in `database`."""
        self._database = database
        self._clock = clock
        self._changed = CaseChanges()

    @property
    def changed(self) -> CaseChanges:
        """Return which cases changed, in this process."""
        return self._changed

    def put(self, cases: Iterable[Case], *, is_uploaded: bool = False) -> None:
        """Add cases, or bring the files of known ones up to date; facts and declared modality stay.

        Whether a case counts as uploaded goes by where its files were seen last.
        """
        now = time_text(self._clock())
        rows = [{**_row(case), "added_at": now, "is_uploaded": is_uploaded, "is_missing": False} for case in cases]
        if not rows:
            return
        statement = insert(CASES)
        new = statement.excluded
        renewed = {name: new[name] for name in (*_FROM_FILES, "is_uploaded", "is_missing")}
        differs = or_(*(CASES.c[name].is_distinct_from(value) for name, value in renewed.items()))
        with self._database.writing() as connection:
            upsert = statement.on_conflict_do_update(["id"], set_=renewed, where=differs).returning(CASES.c.id)
            changed = connection.execute(upsert, rows).scalars().all()
            if not changed:
                return
            details = {"count": len(rows), "uploaded": is_uploaded}
            write_audit(connection, SERVER, Act("cases-seen", rows[0]["id"] if len(rows) == 1 else "", details))
        self._changed.note(changed)

    def get(self, case_id: str) -> KnownCase:
        """Return a case; raises NotFound."""
        with self._database.reading() as connection:
            row = connection.execute(select(CASES).where(CASES.c.id == case_id)).mappings().first()
        if row is None:
            raise NotFound(f"there is no case {case_id}")
        return _case(row)

    def all(self) -> tuple[KnownCase, ...]:
        """Return every case, oldest first, then by key."""
        with self._database.reading() as connection:
            return tuple(_case(row) for row in connection.execute(_BY_AGE).mappings())

    def those(self, case_ids: Collection[str]) -> tuple[KnownCase, ...]:
        """Return the cases of these ids, oldest first, then by key; an id that is none is left out."""
        with self._database.reading() as connection:
            rows = connection.execute(_BY_AGE.where(among(CASES.c.id, case_ids))).mappings()
            return tuple(_case(row) for row in rows)

    def page(self, chosen: CaseFilter, limit: int, offset: int = 0) -> CasePage:
        """Return a part of the cases that were chosen, oldest first, and how many there are."""
        query = _BY_AGE.where(*_conditions(chosen)).limit(limit).offset(offset)
        with self._database.reading() as connection:
            total = connection.execute(_counted(chosen)).scalar_one()
            return CasePage(tuple(_case(row) for row in connection.execute(query).mappings()), total)

    def page_ids(self, chosen: CaseFilter, limit: int, offset: int = 0) -> tuple[tuple[str, ...], int]:
        """Return the ids of such a part alone, and how many there are."""
        query = _BY_AGE.with_only_columns(CASES.c.id).where(*_conditions(chosen)).limit(limit).offset(offset)
        with self._database.reading() as connection:
            total = connection.execute(_counted(chosen)).scalar_one()
            return tuple(connection.execute(query).scalars()), total

    def learn(self, case_id: str, facts: VolumeFacts) -> None:
        """Remember what reading the voxels told."""
        self.learn_all({case_id: facts})

    def learn_all(self, facts: Mapping[str, VolumeFacts]) -> None:
        """Remember what reading the voxels of many cases told, in one transaction."""
        if not facts:
            return
        with self._database.writing() as connection:
            for case_id, each in facts.items():
                _change(connection, case_id, {"facts": facts_text(each)})
                write_audit(connection, SERVER, Act("case-read", case_id, {"digest": each.digest}))
        self._changed.note(facts)

    def declare(self, case_id: str, modality: Modality, person: Person) -> None:
        """Remember the modality of a case whose file names none."""
        act = Act("modality-declared", case_id, {"modality": modality})
        with self._database.writing() as connection:
            _change(connection, case_id, {"declared": modality.value})
            write_audit(connection, person, act)
        self._changed.note((case_id,))

    def keep_only(self, present: Iterable[str]) -> None:
        """Mark every case that is neither among `present` nor uploaded as missing, the others as there."""
        there = frozenset(present)
        with self._database.writing() as connection:
            known = connection.execute(select(CASES.c.id, CASES.c.is_uploaded, CASES.c.is_missing))
            changed = [
                {"which": case_id, "missing": not is_missing}
                for case_id, is_uploaded, is_missing in known
                if is_missing == (is_uploaded or case_id in there)
            ]
            if changed:
                statement = update(CASES).where(CASES.c.id == bindparam("which"))
                connection.execute(statement.values(is_missing=bindparam("missing")), changed)
                details = {"missing": sum(row["missing"] for row in changed), "count": len(changed)}
                write_audit(connection, SERVER, Act("cases-missing", "", details))
        self._changed.note(str(row["which"]) for row in changed)


def _change(connection: Connection, case_id: str, values: Mapping[str, str]) -> None:
    if not connection.execute(update(CASES).where(CASES.c.id == case_id).values(values)).rowcount:
        raise NotFound(f"there is no case {case_id}")


def _counted(chosen: CaseFilter) -> Select[int]:
    return select(func.count()).select_from(CASES).where(*_conditions(chosen))


def _conditions(chosen: CaseFilter) -> list[ColumnElement[bool]]:
    of = (
        (CASES.c.study_uid, chosen.study_uid),
        (CASES.c.series_uid, chosen.series_uid),
        (func.coalesce(CASES.c.modality, CASES.c.declared), chosen.modality),
    )
    conditions = [column == value for column, value in of if value is not None]
    if chosen.digest is not None:
        known = func.json_extract(CASES.c.facts, "$[0]") == chosen.digest
        conditions.append(or_(known, CASES.c.id == case_id_of_voxels(chosen.digest)))
    return conditions


def _row(case: Case) -> dict[str, Any]:
    return {
        "id": case.id,
        "sort_key": case.reference.key.encode("utf-8", "backslashreplace").decode(),
        "patient_issuer": case.patient.issuer,
        "patient_identifier": case.patient.identifier,
        "patient_known": case.patient.known,
        "modality": case.reference.modality,
        "study_uid": case.reference.study_uid,
        "series_uid": case.reference.series_uid,
        "volumes": volumes_text(case.volumes),
    }


def _case(row: RowMapping) -> KnownCase:
    patient = PatientKey(row["patient_issuer"], row["patient_identifier"], row["patient_known"])
    return KnownCase(
        case=Case(row["id"], patient, volumes_of(row["volumes"])),
        added_at=datetime.fromisoformat(row["added_at"]),
        facts=None if row["facts"] is None else facts_of(row["facts"]),
        declared=optional_modality(row["declared"]),
        is_uploaded=row["is_uploaded"],
        is_missing=row["is_missing"],
    )
