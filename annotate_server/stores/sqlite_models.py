"""Models that learn, in the workspace's database: versions and promotions are written once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, insert, select, update

from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import NotFound, StateError, UnknownModel
from annotate_server.domain.learning import LearnedModel, Promotion, PromotionKind, VersionRecord
from annotate_server.domain.model import WeightFile
from annotate_server.domain.person import Person
from annotate_server.stores.database import Database
from annotate_server.stores.schema import MODELS, PROMOTIONS, VERSION_WEIGHTS, VERSIONS
from annotate_server.stores.sqlite_audit import Act, write_audit
from annotate_server.stores.sqlite_values import time_of, time_text


class SqliteModels:
    """Fulfils `learning_ports.ModelStore`."""

    def __init__(self, database: Database, clock: Clock = now) -> None:
        """Keep models in `database`."""
        self._database = database
        self._clock = clock

    @property
    def changes(self) -> int:
        """Return a number that grows with every model, version and promotion, of whatever process."""
        query = select(
            select(func.count()).select_from(MODELS).scalar_subquery()
            + select(func.coalesce(func.max(VERSIONS.c.number), 0)).scalar_subquery()
            + select(func.coalesce(func.max(PROMOTIONS.c.number), 0)).scalar_subquery()
        )
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def add(self, model: LearnedModel, first: VersionRecord | None, person: Person) -> None:
        """Add a model, with the version that it is forked from as its champion; StateError where the name is taken."""
        with self._database.writing() as connection:
            if connection.execute(select(MODELS.c.name).where(MODELS.c.name == model.name)).first():
                raise StateError(f"there is a model {model.name} already")
            row = self._row(model)
            connection.execute(insert(MODELS), row)
            write_audit(connection, person, Act("model-added", model.name, row))
            if first is not None:
                self._add_version(connection, first, person)
                promotion = Promotion(model.name, first.id, PromotionKind.FIRST, person.name)
                self._add_promotion(connection, promotion, person)

    def change(self, model: LearnedModel, person: Person) -> None:
        """Replace when a model is trained by itself; raises UnknownModel."""
        values = {"every_labels": model.every_labels, "is_nightly": model.is_nightly}
        with self._database.writing() as connection:
            changed = connection.execute(update(MODELS).where(MODELS.c.name == model.name).values(values))
            if not changed.rowcount:
                raise UnknownModel(f"there is no model {model.name!r} that learns")
            write_audit(connection, person, Act("model-changed", model.name, values))

    def all(self) -> tuple[LearnedModel, ...]:
        """Return every model, sorted by name."""
        with self._database.reading() as connection:
            return tuple(_model(row) for row in connection.execute(select(MODELS).order_by(MODELS.c.name)).mappings())

    def get(self, name: str) -> LearnedModel:
        """Return a model; raises UnknownModel."""
        with self._database.reading() as connection:
            row = connection.execute(select(MODELS).where(MODELS.c.name == name)).mappings().first()
        if row is None:
            raise UnknownModel(f"there is no model {name!r} that learns")
        return _model(row)

    def versions(self, name: str) -> tuple[VersionRecord, ...]:
        """Return the versions of a model, oldest first."""
        with self._database.reading() as connection:
            return _read(connection, select(VERSIONS).where(VERSIONS.c.model == name))

    def decide(self, version: VersionRecord | None, promotion: Promotion, person: Person) -> None:
        """Keep a decision, and the version that it is about where that is new, in one transaction.

        StateError where `promotion.previous` is no longer the champion; NotFound where there is no such version.
        """
        with self._database.writing() as connection:
            champion = _champion(connection, promotion.model)
            if promotion.kind is not PromotionKind.REFUSED and champion != promotion.previous:
                raise StateError(
                    f"{promotion.model} is at version {champion or 'none'} by now, not {promotion.previous or 'none'}",
                    remedy="Look at its versions and decide again.",
                )
            if version is not None:
                self._add_version(connection, version, person)
            known = (VERSIONS.c.model == promotion.model, VERSIONS.c.id == promotion.version)
            if connection.execute(select(VERSIONS.c.number).where(*known)).first() is None:
                raise NotFound(f"{promotion.model} has no version {promotion.version}")
            self._add_promotion(connection, promotion, person)

    def promotions(self, name: str) -> tuple[Promotion, ...]:
        """Return every decision about a model, oldest first."""
        query = select(PROMOTIONS).where(PROMOTIONS.c.model == name).order_by(PROMOTIONS.c.number)
        with self._database.reading() as connection:
            return tuple(_promotion(row) for row in connection.execute(query).mappings())

    def champion(self, name: str) -> str | None:
        """Return the id of the version that serves; None where there is none yet."""
        with self._database.reading() as connection:
            return _champion(connection, name)

    def _add_version(self, connection: Connection, version: VersionRecord, person: Person) -> None:
        """Write a version with its weights; NotFound for a model that is not there, StateError for one that is."""
        row = {
            "id": version.id,
            "model": version.model,
            "description": version.description,
            "parent": version.parent,
            "training_set": version.training_set,
            "recipe": version.recipe,
            "job_id": version.job_id,
            "seconds": version.seconds,
            "made_at": time_text(version.made_at or self._clock()),
        }
        made = connection.execute(insert(VERSIONS).values(row).returning(VERSIONS.c.number)).scalar_one()
        weights = [
            {"version": made, "position": position, "name": w.name, "blob": w.sha256, "size_bytes": w.size_bytes}
            for position, w in enumerate(version.weights)
        ]
        if weights:
            connection.execute(insert(VERSION_WEIGHTS), weights)
        details = {**row, "weights": [weight.sha256 for weight in version.weights]}
        write_audit(connection, person, Act("model-version-added", f"{version.model}@{version.id}", details))

    def _add_promotion(self, connection: Connection, promotion: Promotion, person: Person) -> None:
        decided = replace(promotion, at=promotion.at or self._clock())
        row = {
            "model": decided.model,
            "version": decided.version,
            "kind": decided.kind.value,
            "person": decided.person,
            "reason": decided.reason,
            "previous": decided.previous,
            "evidence": decided.evidence,
            "is_provisional": decided.is_provisional,
            "at": None if decided.at is None else time_text(decided.at),
        }
        connection.execute(insert(PROMOTIONS), row)
        write_audit(connection, person, Act(f"promotion-{decided.kind}", f"{decided.model}@{decided.version}", row))

    def _row(self, model: LearnedModel) -> Mapping[str, Any]:
        return {
            "name": model.name,
            "project_id": model.project_id,
            "origin": model.origin,
            "every_labels": model.every_labels,
            "is_nightly": model.is_nightly,
            "description": model.description,
            "made_at": time_text(model.made_at or self._clock()),
        }


def _champion(connection: Connection, name: str) -> str | None:
    moved = (PROMOTIONS.c.model == name, PROMOTIONS.c.kind != PromotionKind.REFUSED.value)
    query = select(PROMOTIONS.c.version).where(*moved).order_by(PROMOTIONS.c.number.desc()).limit(1)
    found = connection.execute(query).scalar()
    return None if found is None else str(found)


def _read(connection: Connection, query: Select[Any]) -> tuple[VersionRecord, ...]:
    """Return the versions of a query with their weights: two statements, however many versions."""
    rows = connection.execute(query.order_by(VERSIONS.c.number)).mappings().all()
    weights: dict[int, list[WeightFile]] = {}
    chosen = query.with_only_columns(VERSIONS.c.number)
    ordered = select(VERSION_WEIGHTS).where(VERSION_WEIGHTS.c.version.in_(chosen)).order_by(VERSION_WEIGHTS.c.position)
    for row in connection.execute(ordered).mappings():
        weights.setdefault(row["version"], []).append(WeightFile(row["name"], row["blob"], row["size_bytes"]))
    return tuple(_version(row, tuple(weights.get(row["number"], ()))) for row in rows)


def _version(row: RowMapping, weights: tuple[WeightFile, ...]) -> VersionRecord:
    return VersionRecord(
        id=row["id"],
        model=row["model"],
        description=row["description"],
        weights=weights,
        parent=row["parent"],
        training_set=row["training_set"],
        recipe=row["recipe"],
        job_id=row["job_id"],
        seconds=row["seconds"],
        made_at=time_of(row["made_at"]),
    )


def _promotion(row: RowMapping) -> Promotion:
    return Promotion(
        model=row["model"],
        version=row["version"],
        kind=PromotionKind(row["kind"]),
        person=row["person"],
        reason=row["reason"],
        previous=row["previous"],
        evidence=row["evidence"],
        is_provisional=row["is_provisional"],
        at=time_of(row["at"]),
    )


def _model(row: RowMapping) -> LearnedModel:
    return LearnedModel(
        name=row["name"],
        project_id=row["project_id"],
        origin=row["origin"],
        every_labels=row["every_labels"],
        is_nightly=row["is_nightly"],
        description=row["description"],
        made_at=time_of(row["made_at"]),
    )
