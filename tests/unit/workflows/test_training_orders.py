"""Trainings as jobs, and their models: forked, begun from nothing, ordered by people and by themselves."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from annotate_server.domain.errors import InvalidRequest, NotAllowed, NotFound, StateError, UnknownModel
from annotate_server.domain.job import Job, JobState, Priority
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.learning import LearnedModel, Promotion, PromotionKind
from annotate_server.domain.person import Person, Role
from annotate_server.domain.project import Project
from annotate_server.domain.recipe import Freezing, Recipe
from annotate_server.domain.training import Part, TrainingEntry, TrainingSet
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.database import open_database
from annotate_server.stores.folder_apps import FolderApps
from annotate_server.stores.model_registry import FolderModelRegistry
from annotate_server.stores.sqlite_models import SqliteModels
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.stores.sqlite_works import SqliteWorks
from annotate_server.stores.workspace_registry import WorkspaceRegistry
from annotate_server.testing.fakes import BRIGHT
from annotate_server.testing.memory_queue import InMemoryJobQueue
from annotate_server.workflows.curate import Curated
from annotate_server.workflows.models import OwnModels
from annotate_server.workflows.promote import Promoting
from annotate_server.workflows.recipe_json import recipe_of, recipe_text
from annotate_server.workflows.training_orders import TrainingOrders
from annotate_server.workflows.training_set_json import read_training_set

ADMIN = Person("root", Role.ADMIN)
REVIEWER = Person("rita", Role.REVIEWER)
DARK = Segment(2, "Dark", (60, 60, 220))
ANNOTATOR = Person("anne", Role.ANNOTATOR)
APP = """
title = "Bright"
purpose = "Tests."
not_for = "Patients."
backend = "threshold"
modalities = ["CT"]
licence = "MIT"
attribution = "Nobody."
trainable = {trainable}
[[segments]]
index = 1
name = "Bright"
colour = [220, 60, 60]
[[weights]]
name = "w.bin"
sha256 = "{sha256}"
size_bytes = 7
bundled = true
[recipe]
steps = 7
full_every = 2
"""
SHA = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"  # of b"weights"


@dataclass
class Approved:
    """Stands in for what was approved: so many labels, of which some are new."""

    labels: int = 6
    new: int = 6
    patients: int = 6
    segments: tuple[Segment, ...] = (BRIGHT,)
    asked: list[str] = field(default_factory=list)

    def curate(self, model: LearnedModel) -> Curated:
        self.asked.append(model.name)
        if not self.labels:
            raise StateError("nothing is approved")
        entries = tuple(
            TrainingEntry(f"c{n}", f"l{n}", f"p{n % self.patients}", Part.TRAIN, (BRIGHT,), is_new=n < self.new)
            for n in range(self.labels)
        )
        return Curated(TrainingSet(model.project_id, self.segments, entries), ("A note.",))

    def answered_by(self, model: LearnedModel) -> tuple[Segment, ...]:
        return () if model.origin is None else (BRIGHT,)

    def waiting(self, model: LearnedModel) -> int:
        return self.new


class Bench:
    """A workspace with two apps, one of which can be trained, and two projects that use it."""

    def __init__(self, folder: Path) -> None:
        for name, trainable in (("bright", "true"), ("fixed", "false")):
            (folder / "apps" / name).mkdir(parents=True)
            (folder / "apps" / name / "app.toml").write_text(APP.format(trainable=trainable, sha256=SHA))
            (folder / "apps" / name / "w.bin").write_bytes(b"weights")
        self.database = open_database(folder / "annotate.sqlite")
        self.blobs, self.models = BlobFolder(folder / "blobs"), SqliteModels(self.database)
        self.projects = SqliteProjects(self.database)
        apps = FolderModelRegistry(FolderApps([folder / "apps"]), self.blobs, folder / "partial")
        self.registry = WorkspaceRegistry(apps, self.blobs, lambda: self.models)
        self.queue, self.approved = InMemoryJobQueue(), Approved()
        self.own = OwnModels(self.models, self.registry, self.projects, self.blobs)
        promoting = Promoting(self.models, SqliteWorks(self.database))
        self.told: list[Job] = []
        self.orders = TrainingOrders(
            self.own,
            self.approved,
            promoting,
            self.queue,
            folder / "training",
            [self.told.append],  # type: ignore[arg-type]
        )
        for name in ("one", "two"):
            self.projects.add(Project(name, name, (BRIGHT,), ("fixed", "bright")), ADMIN)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.database.close()


def test_an_app_that_is_trained_becomes_a_model_of_the_project_in_its_place(bench: Bench) -> None:
    job = bench.orders.order("bright", REVIEWER, "one")
    assert job.order["model"] == "bright_one"
    assert bench.projects.get("one").apps == ("fixed", "bright_one")
    assert bench.projects.get("two").apps == ("fixed", "bright")
    model = bench.models.get("bright_one")
    assert (model.origin, model.project_id) == ("bright", "one")
    champion, app = bench.registry.champion("bright_one"), bench.registry.champion("bright").app
    assert champion.id == bench.models.champion("bright_one") == job.order["champion"]
    assert champion.files["w.bin"] == bench.blobs.path(SHA)
    assert champion.files["w.bin"].read_bytes() == b"weights"
    assert (champion.app.card, champion.app.recipe) == (app.card, app.recipe)
    assert bench.registry.original("bright_one").id == champion.id


def test_a_training_says_what_a_worker_needs(bench: Bench, tmp_path: Path) -> None:
    job = bench.orders.order("bright", REVIEWER, "one", is_full=True)
    order = bench.orders.order_of(job)
    assert (order.model, order.champion, order.is_full) == ("bright_one", bench.models.champion("bright_one"), True)
    assert order.folder == tmp_path / "training" / job.id
    assert (order.recipe.steps, order.recipe.full_every) == (7, 2)
    assert len(read_training_set(bench.blobs.read(order.training_set)).entries) == 6
    assert (bench.told, job.priority, job.order["notes"]) == ([job], Priority.PERSON, "A note.")


@pytest.mark.parametrize(
    ("approved", "reason"),
    [
        (Approved(labels=0), "nothing is approved"),
        (Approved(patients=1), "all approved labels are of one patient"),
        (Approved(segments=(BRIGHT, DARK)), "speaks about the segment 'Dark'"),
    ],
)
def test_what_a_round_would_refuse_is_refused_before_anything_is_made(
    bench: Bench, approved: Approved, reason: str
) -> None:
    bench.orders.curating = approved  # type: ignore[assignment]
    with pytest.raises(StateError, match=f"(?i){reason}"):
        bench.orders.order("bright", REVIEWER, "one")
    assert (bench.models.all(), bench.queue.all(), bench.told) == ((), (), [])
    assert bench.projects.get("one").apps == ("fixed", "bright")


def test_a_model_from_nothing_says_how_many_labels_are_missing(bench: Bench) -> None:
    bench.own.begin("fresh", "one", ADMIN)
    bench.approved.labels = 3
    with pytest.raises(StateError, match="needs 5 approved labels: 2 are missing"):
        bench.orders.order("fresh", REVIEWER)
    assert bench.queue.all() == ()


def test_a_training_that_waits_or_runs_is_not_ordered_twice(bench: Bench) -> None:
    first = bench.orders.order("bright", REVIEWER, "one")
    assert bench.orders.order("bright", REVIEWER, "one").id == first.id
    bench.queue.claim()
    assert bench.orders.order("bright_one", REVIEWER).id == first.id
    bench.queue.cancel(first.id)
    assert bench.orders.order("bright_one", REVIEWER).id != first.id
    assert [model.name for model in bench.models.all()] == ["bright_one"]


def test_what_cannot_be_trained_says_why(bench: Bench) -> None:
    for refused, name, project, person in (
        (NotAllowed, "bright", "one", ANNOTATOR),
        (InvalidRequest, "bright", None, REVIEWER),
        (NotFound, "bright", "three", REVIEWER),
        (StateError, "fixed", "one", REVIEWER),
        (UnknownModel, "nothing", "one", REVIEWER),
    ):
        with pytest.raises(refused):
            bench.orders.order(name, person, project)
    assert bench.models.all() == ()
    bench.approved.labels = 0
    with pytest.raises(StateError, match="nothing is approved"):
        bench.orders.order("bright", REVIEWER, "one")
    bench.approved.labels = 3
    bench.queue.cancel(bench.orders.order("bright", REVIEWER, "one").id)
    bench.approved.new = 0
    with pytest.raises(StateError, match="learned from already"):
        bench.orders.order("bright_one", REVIEWER)
    assert bench.orders.order("bright_one", REVIEWER, is_full=True).order["full"] == "yes"
    with pytest.raises(InvalidRequest, match="learns from the project one"):
        bench.orders.order("bright_one", REVIEWER, "two")


def test_a_model_from_nothing_waits_for_its_labels_and_is_trained_by_itself(bench: Bench) -> None:
    with pytest.raises(NotAllowed):
        bench.own.begin("fresh", "one", REVIEWER)
    model = bench.own.begin("fresh", "one", ADMIN)
    assert bench.projects.get("one").apps == ("fresh", "fixed", "bright")
    assert bench.registry.app("fresh").card.segments == (BRIGHT,)
    assert bench.registry.original("fresh").files == {}
    bench.approved.new = 3
    assert bench.orders.missing(model) == 2
    bench.orders.consider("one")
    assert bench.told == []
    bench.approved.new = 5
    bench.orders.consider("one")
    (job,) = bench.told
    assert (job.order["model"], job.order["champion"], job.priority) == ("fresh", "", Priority.AHEAD)
    assert recipe_of(job.order["recipe"]) == Recipe()


@pytest.mark.parametrize("name", ["bright", "Upper", "1st", "a b", "../x", "x" * 80])
def test_a_name_that_is_taken_or_none_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises((StateError, InvalidRequest)):
        bench.own.begin(name, "one", ADMIN)
    assert bench.models.all() == ()


def test_trainings_by_themselves_follow_what_was_set(bench: Bench) -> None:
    model = bench.own.wanted("bright", "one")
    bench.own.forked(model, REVIEWER)
    bench.orders.consider("one")
    assert bench.told == []
    with pytest.raises(NotAllowed):
        bench.own.change(model.name, REVIEWER, every_labels=6, is_nightly=False)
    bench.own.change(model.name, ADMIN, every_labels=7, is_nightly=False)
    bench.orders.consider("one")
    bench.orders.consider_nightly()
    assert bench.told == []
    bench.own.change(model.name, ADMIN, every_labels=6, is_nightly=False)
    bench.orders.consider("two")
    assert bench.told == []
    bench.orders.consider("one")
    assert [job.order["model"] for job in bench.told] == ["bright_one"]
    bench.queue.cancel(bench.told[0].id)
    bench.own.change(model.name, ADMIN, every_labels=0, is_nightly=True)
    bench.orders.consider("one")
    bench.orders.consider_nightly()
    assert len(bench.told) == 2
    assert bench.queue.get(bench.told[1].id).state is JobState.QUEUED


def test_every_so_manieth_training_is_a_full_one(bench: Bench) -> None:
    first = bench.orders.order("bright", REVIEWER, "one")
    assert first.order["full"] == "no"
    record = replace(
        bench.models.versions("bright_one")[0], id="v2", training_set=first.order["training_set"], job_id=first.id
    )
    refusal = Promotion("bright_one", "v2", PromotionKind.REFUSED, "(gate)")
    bench.models.decide(record, refusal, ADMIN)
    bench.queue.cancel(first.id)
    assert bench.orders.order("bright_one", REVIEWER).order["full"] == "yes"


def test_a_recipe_comes_back_as_it_was() -> None:
    recipe = Recipe(steps=3, patch=(8, 9, 10), freezing=Freezing.NORMS, sweep=(0.5,), mirror_axes=(2,))
    assert recipe_of(recipe_text(recipe)) == recipe
    assert recipe_of(recipe_text(Recipe())) == Recipe()
