"""The stores of the learning loop in memory: what `domain.learning_ports` promises, without a disk."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import NotFound, StateError, UnknownModel
from annotate_server.domain.learning import (
    LabelWork,
    LearnedModel,
    PatientPart,
    Promotion,
    PromotionKind,
    VersionRecord,
)
from annotate_server.domain.person import Person


@dataclass
class InMemoryModels:
    """Fulfils `learning_ports.ModelStore`."""

    clock: Clock = now
    _models: dict[str, LearnedModel] = field(default_factory=dict)
    _versions: list[VersionRecord] = field(default_factory=list)
    _promotions: list[Promotion] = field(default_factory=list)
    _turn: threading.RLock = field(default_factory=threading.RLock)

    @property
    def changes(self) -> int:
        """Return a number that grows with every model, version and promotion."""
        return len(self._models) + len(self._versions) + len(self._promotions)

    def add(self, model: LearnedModel, first: VersionRecord | None, person: Person) -> None:
        """Add a model; StateError where the name is taken."""
        with self._turn:
            if model.name in self._models:
                raise StateError(f"there is a model {model.name} already")
            self._models[model.name] = replace(model, made_at=model.made_at or self.clock())
            if first is not None:
                self.decide(first, Promotion(model.name, first.id, PromotionKind.FIRST, person.name), person)

    def change(self, model: LearnedModel, person: Person) -> None:
        """Replace when a model is trained by itself."""
        known = self.get(model.name)
        self._models[model.name] = replace(known, every_labels=model.every_labels, is_nightly=model.is_nightly)

    def all(self) -> tuple[LearnedModel, ...]:
        """Return every model, sorted by name."""
        return tuple(self._models[name] for name in sorted(self._models))

    def get(self, name: str) -> LearnedModel:
        """Return a model."""
        if name not in self._models:
            raise UnknownModel(f"there is no model {name!r} that learns")
        return self._models[name]

    def versions(self, name: str) -> tuple[VersionRecord, ...]:
        """Return the versions of a model, oldest first."""
        return tuple(version for version in self._versions if version.model == name)

    def decide(self, version: VersionRecord | None, promotion: Promotion, person: Person) -> None:
        """Keep a decision, and the version that it is about where that is new."""
        with self._turn:
            champion = self.champion(promotion.model)
            if promotion.kind is not PromotionKind.REFUSED and champion != promotion.previous:
                raise StateError(f"{promotion.model} is at version {champion} by now")
            known = {each.id for each in self.versions(promotion.model)}
            if version is not None and version.id in known:
                raise StateError("it is there already")
            if version is not None and version.model not in self._models:
                raise NotFound(f"there is no model {version.model}")
            if promotion.version not in known | ({version.id} if version else set()):
                raise NotFound(f"{promotion.model} has no version {promotion.version}")
            if version is not None:
                self._versions.append(replace(version, made_at=version.made_at or self.clock()))
            self._promotions.append(replace(promotion, at=promotion.at or self.clock()))

    def promotions(self, name: str) -> tuple[Promotion, ...]:
        """Return every decision about a model, oldest first."""
        return tuple(promotion for promotion in self._promotions if promotion.model == name)

    def champion(self, name: str) -> str | None:
        """Return the id of the version that serves."""
        for promotion in reversed(self.promotions(name)):
            if promotion.kind is not PromotionKind.REFUSED:
                return promotion.version
        return None


@dataclass
class InMemoryParts:
    """Fulfils `learning_ports.PartStore`."""

    _parts: dict[tuple[str, str], PatientPart] = field(default_factory=dict)

    def parts(self, project_id: str) -> Mapping[str, PatientPart]:
        """Return the parts of a project by pseudonym."""
        return {patient: part for (project, patient), part in sorted(self._parts.items()) if project == project_id}

    def draw(self, parts: Iterable[PatientPart]) -> None:
        """Keep parts; what is known already stays as it is."""
        for part in parts:
            self._parts.setdefault((part.project_id, part.patient), part)

    def key(self, project_id: str) -> bytes:
        """Return a key that is the same in every run: a test must not depend on the draw."""
        return f"key of {project_id}".encode().ljust(32, b".")


@dataclass
class InMemoryWorks:
    """Fulfils `learning_ports.WorkStore`."""

    clock: Clock = now
    _works: dict[tuple[str, str | None, str | None], LabelWork] = field(default_factory=dict)

    def add(self, work: LabelWork) -> None:
        """Keep what a label took; what is known of the same label and version already stays as it is."""
        key = (work.label_id, work.model, work.version)
        self._works.setdefault(key, replace(work, made_at=work.made_at or self.clock()))

    def of_project(self, project_id: str, since: datetime | None = None) -> tuple[LabelWork, ...]:
        """Return what is known of a project's labels, oldest first."""
        found = [work for work in self._works.values() if work.project_id == project_id and work.made_at is not None]
        chosen = [work for work in found if since is None or (work.made_at is not None and work.made_at >= since)]
        return tuple(sorted(chosen, key=lambda work: work.made_at or self.clock()))
