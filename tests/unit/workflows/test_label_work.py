"""What labels took: counted over the event log, and drafts scored before anything learns from the label."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from annotation_bench import ANN, BOB, LIVER, PROJECT, SPLEEN, Bench
from conftest import oblique_geometry

from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.errors import StateError
from annotate_server.domain.geometry import Box
from annotate_server.domain.helper import HelperKind, HelperOrder
from annotate_server.domain.job import JobKind
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.learning import LabelWork, LearnedModel, Promotion, PromotionKind, VersionRecord
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.project import ReviewPolicy
from annotate_server.domain.scoring import DraftScore, Scored
from annotate_server.domain.stored import StoredPrediction
from annotate_server.domain.training import Part, TrainingEntry, TrainingSet
from annotate_server.imaging.frame import Frame
from annotate_server.testing.fakes import InMemoryRegistry, threshold_app
from annotate_server.testing.memory_learning import InMemoryModels, InMemoryWorks
from annotate_server.testing.memory_queue import InMemoryJobQueue
from annotate_server.workflows.curate import keep_training_set
from annotate_server.workflows.label_watch import WatchedLabels
from annotate_server.workflows.label_work import LabelScoring
from annotate_server.workflows.layers import keep_layer
from annotate_server.workflows.parts import patient_of

GRID = oblique_geometry((7, 9, 8))
CORNER = Box((0, 0, 0), (2, 2, 2))


@dataclass
class Registry(InMemoryRegistry):
    """A registry of which each model has the champion that it is told."""

    champions: dict[str, str] = field(default_factory=dict)

    def champion(self, name: str) -> ModelVersion:
        return ModelVersion(self.app(name), known_id=self.champions[name])


@dataclass
class Desk:
    bench: Bench

    def __post_init__(self) -> None:
        self.models, self.works, self.queue = InMemoryModels(), InMemoryWorks(), InMemoryJobQueue()
        apps = {name: threshold_app(name) for name in ("abdomen", "ours")}
        self.registry = Registry(apps, champions={"abdomen": "v1"})
        self.watched = WatchedLabels(self.bench.records.labels)
        object.__setattr__(self.bench.records, "labels", self.watched)
        self.scoring = LabelScoring(
            self.bench.records, self.models, self.works, self.registry, self.queue, clock=self.bench.clock
        )
        self.watched.approved.append(self.scoring.order)

    def drafted(self, case: str = "c0", version: str = "v1", model: str = "abdomen") -> StoredPrediction:
        voxels = np.zeros(GRID.shape, np.uint8)
        voxels[2:5, 3:6, 3:6] = 1
        layer = keep_layer(self.bench.records.blobs, Labelmap(voxels, GRID, (LIVER, SPLEEN)))
        identity = f"{model}-{version}-{case}-{self.bench.clock()}"
        made = StoredPrediction(identity, case, model, version, layer, self.bench.clock())
        self.bench.records.predictions.add(made)
        self.bench.clock.forward(1)
        return made

    def worked(self, session: str, seconds: float) -> None:
        self.bench.clock.forward(seconds)
        self.bench.annotator.heartbeat(session, ANN, seconds)

    def edited(self, session: str, box: Box = CORNER) -> None:
        now = self.bench.annotator.session(session, ANN).revision
        frame = Frame("", "", now, box, np.full(box.shape, 2, np.uint8), GRID.digest())
        self.bench.annotator.edit(session, ANN, frame, now)

    def learned(self, *trained_on: str) -> None:
        """Let the project have a model `ours` whose version o1 learned from the patients of these cases."""
        cases = [self.bench.records.cases.get(case) for case in trained_on]
        entries = tuple(TrainingEntry(c.id, f"l-{c.id}", patient_of(c), Part.TRAIN, (LIVER,)) for c in cases)
        blob = keep_training_set(self.bench.records.blobs, TrainingSet("organs", (LIVER,), entries))
        self.models.add(LearnedModel("ours", "organs"), VersionRecord("o1", "ours", "d", (), training_set=blob), BOB)
        self.registry.champions["ours"] = "o1"

    def finished(self, *scores: DraftScore) -> tuple[LabelWork, ...]:
        """Carry out the newest score with what a worker would have answered."""
        job = self.queue.all()[0]
        assert job.kind is JobKind.SCORE
        self.scoring.keep(job, Scored(scores))
        return self.works.of_project("organs")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    bench = Bench(tmp_path, GRID).furnished(3)
    yield Desk(bench)
    bench.close()


def test_only_what_is_in_force_at_the_end_is_counted(desk: Desk) -> None:
    bench = desk.bench
    session = bench.annotator.open("organs", "c0", ANN)
    for _ in range(2):
        bench.annotator.prompt(session.id, ANN, bench.point(3, 4, 5), "cube", None)
    desk.edited(session.id)
    bench.annotator.help(session.id, ANN, 1, HelperOrder(HelperKind.FILL_HOLES), None)
    bench.annotator.prompt(session.id, ANN, bench.point(6, 6, 6), "cube", None)
    bench.annotator.undo(session.id, ANN)
    desk.worked(session.id, 42.5)
    bench.annotator.submit(session.id, ANN)
    (work,) = desk.finished()
    assert (work.prompts, work.edits, work.helpers) == ({"point": 2}, 1, {"fill-holes": 1})
    assert (work.active_s, work.model, work.is_shown, work.dice) == (42.5, None, False, None)


def test_a_label_waits_for_its_approval_and_both_sessions_count(desk: Desk) -> None:
    bench = desk.bench
    bench.records.projects.change(replace(PROJECT, review=ReviewPolicy.OTHER_PERSON), BOB)
    desk.drafted()
    first = bench.annotator.open("organs", "c0", ANN)
    desk.edited(first.id)
    desk.worked(first.id, 10)
    label = bench.annotator.submit(first.id, ANN)
    desk.watched.review(label.reviewed("bob", LabelState.RETURNED, "more"), BOB)
    assert not desk.queue.all()
    second = bench.annotator.open("organs", "c0", ANN)
    desk.edited(second.id, Box((3, 3, 3), (4, 4, 4)))
    desk.worked(second.id, 5)
    corrected = bench.annotator.submit(second.id, ANN)
    desk.watched.review(corrected.reviewed("bob", LabelState.APPROVED), BOB)
    (work,) = desk.finished(DraftScore("abdomen", "v1", is_untouched=False, dice=0.9, relative_apl=0.2))
    assert (work.label_id, work.edits, work.active_s) == (corrected.id, 2, 15.0)
    assert (work.is_shown, work.is_champions, work.relative_apl) == (True, True, 0.2)


def test_who_corrects_an_approved_label_has_not_worked_on_a_draft(desk: Desk) -> None:
    desk.drafted()
    for _ in range(2):
        session = desk.bench.annotator.open("organs", "c0", ANN)
        desk.edited(session.id)
        desk.bench.annotator.submit(session.id, ANN)
        rows = desk.finished(DraftScore("abdomen", "v1", is_untouched=False))
    assert [(row.is_shown, row.edits) for row in rows] == [(True, 1), (False, 1)]


def test_every_version_that_drafted_before_is_scored_and_none_that_drafted_after(desk: Desk) -> None:
    desk.drafted(version="v0")
    desk.drafted(version="v1")
    session = desk.bench.annotator.open("organs", "c0", ANN)
    desk.bench.annotator.submit(session.id, ANN)
    desk.bench.clock.forward(1)
    desk.drafted(version="v2")
    order = desk.scoring.order_of(desk.queue.all()[0])
    assert [made.version for made in order.made] == ["v0", "v1"]
    assert order.wanted == ()


def test_the_champion_of_a_model_that_learns_drafts_what_it_has_not_and_so_does_its_shadow(desk: Desk) -> None:
    desk.learned("c1")
    session = desk.bench.annotator.open("organs", "c0", ANN)
    desk.bench.annotator.prompt(session.id, ANN, desk.bench.point(3, 4, 5), "cube", None)
    provisional = Promotion("ours", "o2", PromotionKind.GATE, "program", previous="o1", is_provisional=True)
    desk.models.decide(VersionRecord("o2", "ours", "d", (), parent="o1"), provisional, BOB)
    desk.registry.champions["ours"] = "o2"
    desk.bench.annotator.submit(session.id, ANN)
    job = desk.queue.all()[0]
    order = desk.scoring.order_of(job)
    assert [(w.model, w.version) for w in order.wanted] == [("ours", "o2"), ("ours", "o1")]
    rows = desk.finished(
        DraftScore("ours", "o2", is_untouched=True, dice=0.8), DraftScore("ours", "o1", is_untouched=False, dice=0.7)
    )
    assert [(r.version, r.is_champions, r.is_shown, r.is_untouched) for r in rows] == [
        ("o2", True, False, False),
        ("o1", False, False, False),
    ]


def test_the_champion_is_that_of_the_approval_whoever_is_promoted_until_it_is_scored(desk: Desk) -> None:
    desk.learned("c1")
    session = desk.bench.annotator.open("organs", "c0", ANN)
    desk.bench.annotator.submit(session.id, ANN)
    desk.models.decide(
        VersionRecord("o2", "ours", "d", ()), Promotion("ours", "o2", PromotionKind.GATE, "x", previous="o1"), BOB
    )
    desk.registry.champions["ours"] = "o2"
    assert [w.version for w in desk.scoring.order_of(desk.queue.all()[0]).wanted] == ["o1"]


def test_a_version_that_has_learned_from_the_patient_is_no_part_of_the_curve(desk: Desk) -> None:
    desk.learned("c0")
    desk.drafted(model="ours", version="o1")
    session = desk.bench.annotator.open("organs", "c0", ANN)
    desk.bench.annotator.submit(session.id, ANN)
    order = desk.scoring.order_of(desk.queue.all()[0])
    assert order.wanted == ()
    (row,) = desk.finished(DraftScore("ours", "o1", is_untouched=True, dice=1.0))
    assert not row.is_champions


def test_a_label_that_came_as_a_file_is_scored_as_well(desk: Desk) -> None:
    layer = keep_layer(desk.bench.records.blobs, Labelmap(np.zeros(GRID.shape, np.uint8), GRID, (LIVER,)))
    label = Label("l", "organs", "c0", "ann", (layer,), made_at=desk.bench.clock(), state=LabelState.APPROVED)
    desk.watched.accept(label, None, ANN)
    (work,) = desk.finished()
    assert (work.label_id, work.active_s, work.edits) == ("l", 0.0, 0)


def test_scores_that_a_stop_left_out_are_ordered_once_at_the_next_start(desk: Desk) -> None:
    desk.watched.approved.clear()
    session = desk.bench.annotator.open("organs", "c0", ANN)
    desk.bench.annotator.submit(session.id, ANN)
    assert not desk.queue.all()
    desk.scoring.catch_up()
    desk.scoring.catch_up()
    assert len(desk.queue.all()) == 1
    desk.finished()
    desk.queue.claim()
    desk.queue.finish(desk.queue.all()[0].id, {})
    desk.scoring.catch_up()
    assert len(desk.queue.all()) == 1


def test_what_was_approved_long_ago_is_not_scored_after_a_start(desk: Desk) -> None:
    desk.watched.approved.clear()
    session = desk.bench.annotator.open("organs", "c0", ANN)
    desk.bench.annotator.submit(session.id, ANN)
    desk.bench.clock.forward(30 * 86400)
    desk.scoring.catch_up()
    assert not desk.queue.all()
    (job,) = desk.scoring.order_missing()
    assert [each.id for each in desk.queue.all()] == [job.id]
    desk.finished()
    assert desk.scoring.order_missing() == ()


def test_a_listener_that_fails_does_not_lose_the_label(desk: Desk) -> None:
    def fail(label: Label) -> None:
        raise StateError("no")

    desk.watched.approved.insert(0, fail)
    session = desk.bench.annotator.open("organs", "c0", ANN)
    label = desk.bench.annotator.submit(session.id, ANN)
    assert desk.bench.records.labels.get(label.id).state is LabelState.APPROVED
    assert len(desk.queue.all()) == 1


def test_who_is_told_of_a_score_finds_the_work_kept(desk: Desk) -> None:
    seen: list[int] = []
    desk.scoring.scored.append(lambda label: seen.append(len(desk.works.of_project(label.project_id))))
    session = desk.bench.annotator.open("organs", "c0", ANN)
    desk.bench.annotator.submit(session.id, ANN)
    desk.finished()
    assert seen == [1]
