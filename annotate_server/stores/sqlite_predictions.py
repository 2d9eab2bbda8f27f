"""Predictions in the workspace's database."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import RowMapping, Select, func, insert, select

from annotate_server.domain.case_changes import CaseChanges
from annotate_server.domain.errors import NotFound
from annotate_server.domain.stored import StoredPrediction
from annotate_server.stores.database import Database
from annotate_server.stores.schema import PREDICTIONS
from annotate_server.stores.sqlite_audit import SERVER, Act, write_audit
from annotate_server.stores.sqlite_values import among, json_text, layer_columns, layer_of, time_text

_NEWEST = select(func.max(PREDICTIONS.c.number)).group_by(PREDICTIONS.c.case_id)


class SqlitePredictions:
    """Fulfils `store_ports.PredictionStore`."""

    def __init__(self, database: Database) -> None:
        """Keep predictions in `database`."""
        self._database = database
        self._changed = CaseChanges()

    @property
    def changed(self) -> CaseChanges:
        """Return which cases got a prediction, in this process."""
        return self._changed

    def add(self, prediction: StoredPrediction) -> None:
        """Keep a prediction."""
        row = {
            "id": prediction.id,
            "case_id": prediction.case_id,
            "model": prediction.model,
            "version": prediction.version,
            **layer_columns(prediction.layer),
            "made_at": time_text(prediction.made_at),
            "notes": json_text(prediction.notes),
        }
        details = {name: row[name] for name in ("case_id", "model", "version", "blob")}
        with self._database.writing() as connection:
            connection.execute(insert(PREDICTIONS), row)
            write_audit(connection, SERVER, Act("prediction-added", prediction.id, details))
        self._changed.note((prediction.case_id,))

    def get(self, prediction_id: str) -> StoredPrediction:
        """Return a prediction; raises NotFound."""
        query = select(PREDICTIONS).where(PREDICTIONS.c.id == prediction_id)
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFound(f"there is no prediction {prediction_id}")
        return _prediction(row)

    def newest(self, case_id: str, models: Sequence[str] = ()) -> StoredPrediction | None:
        """Return the newest prediction for a case, of one of `models` where any are given."""
        query = select(PREDICTIONS).where(PREDICTIONS.c.case_id == case_id)
        if models:
            query = query.where(PREDICTIONS.c.model.in_(models))
        with self._database.reading() as connection:
            row = connection.execute(query.order_by(PREDICTIONS.c.number.desc()).limit(1)).mappings().first()
        return None if row is None else _prediction(row)

    def of_case(self, case_id: str) -> tuple[StoredPrediction, ...]:
        """Return every prediction for a case, oldest first."""
        query = select(PREDICTIONS).where(PREDICTIONS.c.case_id == case_id).order_by(PREDICTIONS.c.number)
        with self._database.reading() as connection:
            return tuple(_prediction(row) for row in connection.execute(query).mappings())

    def newest_of_all(self) -> tuple[StoredPrediction, ...]:
        """Return the newest prediction of every case that has one."""
        return self._newest(_NEWEST)

    def newest_of(self, case_ids: Collection[str]) -> tuple[StoredPrediction, ...]:
        """Return the newest prediction of each of these cases that has one."""
        return self._newest(_NEWEST.where(among(PREDICTIONS.c.case_id, case_ids)))

    def _newest(self, numbers: Select[int]) -> tuple[StoredPrediction, ...]:
        with self._database.reading() as connection:
            rows = connection.execute(select(PREDICTIONS).where(PREDICTIONS.c.number.in_(numbers))).mappings()
            return tuple(_prediction(row) for row in rows)


def _prediction(row: RowMapping) -> StoredPrediction:
    return StoredPrediction(
        id=row["id"],
        case_id=row["case_id"],
        model=row["model"],
        version=row["version"],
        layer=layer_of(row),
        made_at=datetime.fromisoformat(row["made_at"]),
        notes=tuple(json.loads(row["notes"])),
    )
