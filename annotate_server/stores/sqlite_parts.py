"""Which part the labels of a patient belong to, in the workspace's database: drawn once, for ever."""

import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from annotate_server.domain.learning import PatientPart
from annotate_server.domain.training import Part
from annotate_server.stores.database import Database
from annotate_server.stores.schema import PART_KEYS, PATIENT_PARTS
from annotate_server.stores.sqlite_audit import SERVER, Act, write_audit
from annotate_server.stores.sqlite_values import time_text

_KEY_BYTES = 32


class SqliteParts:
    """Fulfils `learning_ports.PartStore`."""

    def __init__(self, database: Database) -> None:
        """Keep parts in `database`."""
        self._database = database

    def parts(self, project_id: str) -> Mapping[str, PatientPart]:
        """Return the parts of a project by pseudonym."""
        query = select(PATIENT_PARTS).where(PATIENT_PARTS.c.project_id == project_id)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(PATIENT_PARTS.c.patient)).mappings().all()
        return {
            row["patient"]: PatientPart(
                project_id, row["patient"], Part(row["part"]), datetime.fromisoformat(row["drawn_at"])
            )
            for row in rows
        }

    def draw(self, parts: Iterable[PatientPart]) -> None:
        """Keep parts; what is known already stays as it is."""
        with self._database.writing() as connection:
            drawn: dict[str, dict[str, int]] = {}
            for each in parts:
                row = {
                    "project_id": each.project_id,
                    "patient": each.patient,
                    "part": each.part.value,
                    "drawn_at": time_text(each.drawn_at),
                }
                if connection.execute(insert(PATIENT_PARTS).values(row).on_conflict_do_nothing()).rowcount:
                    counts = drawn.setdefault(each.project_id, {})
                    counts[each.part.value] = counts.get(each.part.value, 0) + 1
            for project_id, counts in drawn.items():
                write_audit(connection, SERVER, Act("parts-drawn", project_id, counts))

    def key(self, project_id: str) -> bytes:
        """Return the project's own secret that parts are drawn with, made at the first call."""
        query = select(PART_KEYS.c.key).where(PART_KEYS.c.project_id == project_id)
        with self._database.reading() as connection:
            known = connection.execute(query).scalar()
        if known is not None:
            return bytes.fromhex(known)
        row = {"project_id": project_id, "key": secrets.token_hex(_KEY_BYTES)}
        with self._database.writing() as connection:
            if connection.execute(insert(PART_KEYS).values(row).on_conflict_do_nothing()).rowcount:
                write_audit(connection, SERVER, Act("part-key-made", project_id))
            return bytes.fromhex(connection.execute(query).scalar_one())
