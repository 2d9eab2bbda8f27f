"""Trainings as jobs: ordered by a person, or by themselves when enough labels were approved."""

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import AnnotateError, StateError
from annotate_server.domain.job import Job, JobKind, JobState, Priority
from annotate_server.domain.learning import LearnedModel
from annotate_server.domain.person import Person, Role
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.store_ports import JobQueue
from annotate_server.domain.training import TrainingSet, TrainOrder
from annotate_server.workflows.curate import Curating, keep_training_set
from annotate_server.workflows.models import OwnModels
from annotate_server.workflows.promote import GATE, Promoting
from annotate_server.workflows.recipe_json import recipe_of, recipe_text
from annotate_server.workflows.training_refusal import FEWEST_FOR_NEW, training_refusal

log = logging.getLogger(__name__)


@dataclass
class TrainingOrders:
    """Orders trainings; an order holds `model`, `champion`, `training_set`, `recipe` and `full`.

    `folder` holds one folder a training, `ordered` are told of every new job.
    """

    own: OwnModels
    curating: Curating
    promoting: Promoting
    queue: JobQueue
    folder: Path
    ordered: list[Callable[[Job], None]] = field(default_factory=list)
    clock: Clock = now
    _turn: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    def order(
        self,
        name: str,
        person: Person,
        project_id: str | None = None,
        *,
        is_full: bool = False,
        by_itself: bool = False,
    ) -> Job:
        """Queue a training and return its job; where one of the model waits or runs already, that is returned.

        An app is forked for its project. Raises StateError, with the reason, where nothing can be learned or nothing is
        new, before anything is made or queued; NotAllowed, UnknownModel, and what `OwnModels.wanted` raises.
        """
        person.must_be(Role.REVIEWER)
        with self._turn:
            model = self.own.wanted(name, project_id)
            waiting = self.unended(model.name)
            if waiting is not None:
                return waiting
            curated = self.curating.curate(model)
            self._check(curated.training_set, model)
            self.own.forked(model, person)
            champion = self.own.models.champion(model.name)
            recipe = self._recipe(model)
            is_full = is_full or self._is_turn_of_full(model, recipe)
            if champion is not None and not is_full:
                _check_new(curated.training_set, model.name)
            order = {
                "model": model.name,
                "champion": champion or "",
                "training_set": keep_training_set(self.own.blobs, curated.training_set),
                "recipe": recipe_text(recipe),
                "full": "yes" if is_full else "no",
                "notes": " ".join(curated.notes),
            }
            priority = Priority.AHEAD if by_itself else Priority.PERSON
            job = Job(uuid.uuid4().hex, JobKind.TRAIN, order, priority, person.name, made_at=self.clock())
            self.queue.add(job)
        for listener in self.ordered:
            listener(job)
        return job

    def order_of(self, job: Job) -> TrainOrder:
        """Return what a training's job asks a worker for."""
        return TrainOrder(
            model=job.order["model"],
            champion=job.order["champion"] or None,
            training_set=job.order["training_set"],
            recipe=recipe_of(job.order["recipe"]),
            folder=self.folder / job.id,
            is_full=job.order["full"] == "yes",
        )

    def unended(self, model: str) -> Job | None:
        """Return the training of a model that waits or runs."""
        for state in (JobState.RUNNING, JobState.QUEUED):
            for job in self.queue.all(state):
                if job.kind == JobKind.TRAIN and job.order["model"] == model:
                    return job
        return None

    def missing(self, model: LearnedModel) -> int:
        """Return how many approved labels are missing until a model that has no version yet can be trained."""
        if self.own.models.champion(model.name) is not None:
            return 0
        return max(0, FEWEST_FOR_NEW - self.curating.waiting(model))

    def consider(self, project_id: str) -> None:
        """Take provisional champions back where their shadows did better, and order the trainings that are due."""
        for model in self._of(project_id):
            self._considered(model)

    def consider_nightly(self) -> None:
        """Order the trainings of the night: of each model that is trained nightly and has anything new to learn."""
        for model in self.own.models.all():
            if model.is_nightly and self.curating.waiting(model) > 0:
                self._ordered_by_itself(model)

    def _considered(self, model: LearnedModel) -> None:
        try:
            self.promoting.take_back(model.name)
        except AnnotateError as error:
            log.warning("whether %s is taken back could not be decided: %s", model.name, error)
        if model.every_labels and self.curating.waiting(model) >= model.every_labels:
            self._ordered_by_itself(model)

    def _ordered_by_itself(self, model: LearnedModel) -> None:
        try:
            self.order(model.name, GATE, by_itself=True)
        except StateError as error:
            log.info("%s is not trained yet: %s", model.name, error, extra={"action": "train"})
        except AnnotateError as error:
            log.warning("%s could not be trained by itself: %s", model.name, error, extra={"action": "train"})

    def _check(self, training_set: TrainingSet, model: LearnedModel) -> None:
        """Refuse what the round would refuse, while a person is still there who asked for it."""
        answered = self.curating.answered_by(model)
        known = frozenset(segment.name for segment in answered)
        refusal = training_refusal(training_set, is_new_model=not answered, known_segments=known)
        if refusal is not None:
            raise StateError(refusal)

    def _of(self, project_id: str) -> tuple[LearnedModel, ...]:
        return tuple(model for model in self.own.models.all() if model.project_id == project_id)

    def _recipe(self, model: LearnedModel) -> Recipe:
        """Return how a model is trained: as its original says, or as it was planned where it began from nothing."""
        registry = self.own.registry
        return registry.original(model.name).app.recipe or registry.app(model.name).recipe or Recipe()

    def _is_turn_of_full(self, model: LearnedModel, recipe: Recipe) -> bool:
        """Say whether it is the turn of a training from the original checkpoint, which many short ones drift from."""
        trained = [version for version in self.own.models.versions(model.name) if version.training_set is not None]
        return recipe.full_every > 0 and (len(trained) + 1) % recipe.full_every == 0


def _check_new(training_set: TrainingSet, name: str) -> None:
    if not training_set.new:
        raise StateError(
            f"no label was approved that {name} has not learned from already",
            remedy="Approve more labels, or ask for a full training on all of them.",
        )
