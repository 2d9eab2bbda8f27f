"""What labels took, in the workspace's database: one row a label and version, written once."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, select
from sqlalchemy.dialects.sqlite import insert

from annotate_server.domain.clock import Clock, now
from annotate_server.domain.learning import LabelWork, SegmentWork
from annotate_server.stores.database import Database
from annotate_server.stores.schema import WORKS
from annotate_server.stores.sqlite_audit import SERVER, Act, write_audit
from annotate_server.stores.sqlite_values import json_text, time_of, time_text

_NONE = ""
"""What a row holds for a label that no version drafted: a unique index would let two NULLs pass."""


class SqliteWorks:
    """Fulfils `learning_ports.WorkStore`."""

    def __init__(self, database: Database, clock: Clock = now) -> None:
        """Keep works in `database`."""
        self._database = database
        self._clock = clock

    def add(self, work: LabelWork) -> None:
        """Keep what a label took; what is known of the same label and version already stays as it is."""
        row = _row(work, work.made_at or self._clock())
        with self._database.writing() as connection:
            if connection.execute(insert(WORKS).values(row).on_conflict_do_nothing()).rowcount:
                details = {name: row[name] for name in ("model", "version", "is_champions", "is_shown", "dice")}
                write_audit(connection, SERVER, Act("label-scored", work.label_id, details))

    def of_project(self, project_id: str, since: datetime | None = None) -> tuple[LabelWork, ...]:
        """Return what is known of a project's labels, oldest first."""
        query = select(WORKS).where(WORKS.c.project_id == project_id).order_by(WORKS.c.made_at, WORKS.c.number)
        if since is not None:
            query = query.where(WORKS.c.made_at >= time_text(since))
        with self._database.reading() as connection:
            return tuple(_work(row) for row in connection.execute(query).mappings())


def _row(work: LabelWork, made_at: datetime) -> Mapping[str, Any]:
    return {
        "label_id": work.label_id,
        "project_id": work.project_id,
        "model": work.model or _NONE,
        "version": work.version or _NONE,
        "is_champions": work.is_champions,
        "is_shown": work.is_shown,
        "active_s": work.active_s,
        "prompts": json_text(dict(work.prompts)),
        "edits": work.edits,
        "helpers": json_text(dict(work.helpers)),
        "is_untouched": work.is_untouched,
        "dice": work.dice,
        "relative_apl": work.relative_apl,
        "apl_mm": work.apl_mm,
        "segments": json_text({name: asdict(each) for name, each in work.segments.items()}),
        "made_at": time_text(made_at),
    }


def _work(row: RowMapping) -> LabelWork:
    return LabelWork(
        label_id=row["label_id"],
        project_id=row["project_id"],
        model=row["model"] or None,
        version=row["version"] or None,
        is_champions=row["is_champions"],
        is_shown=row["is_shown"],
        active_s=row["active_s"],
        prompts=json.loads(row["prompts"]),
        edits=row["edits"],
        helpers=json.loads(row["helpers"]),
        is_untouched=row["is_untouched"],
        dice=row["dice"],
        relative_apl=row["relative_apl"],
        apl_mm=row["apl_mm"],
        segments={name: SegmentWork(**parts) for name, parts in json.loads(row["segments"]).items()},
        made_at=time_of(row["made_at"]),
    )
