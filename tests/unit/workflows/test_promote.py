"""Promote: what is stored of a round, what a person may do about it, and when a provisional version goes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from annotate_server.domain.errors import NotAllowed, NotFound, StateError, UnknownModel
from annotate_server.domain.job import Job, JobKind
from annotate_server.domain.learning import LabelWork, LearnedModel, Promotion, PromotionKind, VersionRecord
from annotate_server.domain.model import WeightFile
from annotate_server.domain.person import Person, Role
from annotate_server.domain.training import Trained, Verdict
from annotate_server.testing.memory_learning import InMemoryModels, InMemoryWorks
from annotate_server.workflows.promote import MOST_CASES, Promoting, champions, newest_move

REVIEWER = Person("rita", Role.REVIEWER)
ANNOTATOR = Person("anne", Role.ANNOTATOR)
WEIGHTS = (WeightFile("w.bin", "a" * 64, 10),)
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


class Bench:
    """A model forked from an app, as version v1."""

    def __init__(self) -> None:
        self.models, self.works = InMemoryModels(lambda: NOW), InMemoryWorks(lambda: NOW)
        self.promoting = Promoting(self.models, self.works, lambda: NOW)
        first = VersionRecord("v1", "own", "d" * 64, WEIGHTS)
        self.models.add(LearnedModel("own", "p", origin="app"), first, REVIEWER)

    def round(self, version: str, verdict: Verdict = Verdict.PROMOTE, champion: str | None = None) -> dict[str, str]:
        order = {"model": "own", "training_set": "f" * 64, "recipe": "{}"}
        order["champion"] = self.models.champion("own") or "" if champion is None else champion
        trained = Trained(version, "e" * 64, WEIGHTS, verdict, "because", "9" * 64, 10, 100, 1.5)
        return dict(self.promoting.keep(Job(f"job{version}", JobKind.TRAIN, order), trained))

    def work(self, number: int, *apl_mm: tuple[str, float]) -> None:
        at = NOW + timedelta(minutes=number + 1)
        for version, value in apl_mm:
            self.works.add(
                LabelWork(f"l{number}", "p", "own", version, version == "v2", False, 1.0, apl_mm=value, made_at=at)
            )

    @property
    def champion(self) -> str | None:
        return self.models.champion("own")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_round_that_the_gate_accepts_serves_with_its_evidence(bench: Bench) -> None:
    result = bench.round("v2")
    assert (bench.champion, result["promoted"], result["version"]) == ("v2", "yes", "v2")
    promotion = bench.models.promotions("own")[-1]
    assert (promotion.kind, promotion.previous, promotion.evidence) == (PromotionKind.GATE, "v1", "9" * 64)
    version = bench.models.versions("own")[-1]
    assert (version.parent, version.job_id, version.training_set) == ("v1", "jobv2", "f" * 64)


@pytest.mark.parametrize("verdict", [Verdict.KEEP, Verdict.ASK])
def test_a_round_that_the_gate_does_not_accept_is_kept_and_does_not_serve(bench: Bench, verdict: Verdict) -> None:
    result = bench.round("v2", verdict)
    assert (bench.champion, result["promoted"], result["reason"]) == ("v1", "no", "because")
    assert bench.models.promotions("own")[-1].kind is PromotionKind.REFUSED
    bench.promoting.promote("own", "v2", REVIEWER, "I looked at it")
    assert bench.champion == "v2"


def test_the_same_round_is_kept_once(bench: Bench) -> None:
    assert bench.round("v2") == bench.round("v2", champion="v1")
    assert [version.id for version in bench.models.versions("own")] == ["v1", "v2"]
    assert len(bench.models.promotions("own")) == 2


def test_a_training_that_gives_a_version_of_another_moves_nothing(bench: Bench) -> None:
    bench.round("v2")
    bench.round("v3")
    order = {"model": "own", "training_set": "f" * 64, "recipe": "{}", "champion": "v3"}
    trained = Trained("v2", "e" * 64, WEIGHTS, Verdict.PROMOTE, "because", "9" * 64, 10, 100, 1.5)
    result = bench.promoting.keep(Job("another", JobKind.TRAIN, order), trained)
    assert (bench.champion, result["promoted"]) == ("v3", "no")
    assert "there already" in result["reason"]


def test_a_round_against_a_champion_of_the_past_is_refused(bench: Bench) -> None:
    bench.round("v2")
    result = bench.round("v3", champion="v1")
    assert (bench.champion, result["promoted"]) == ("v2", "no")
    assert "train again" in result["reason"]
    assert bench.models.versions("own")[-1].id == "v3"


def test_the_first_version_of_a_model_from_nothing_is_its_first(bench: Bench) -> None:
    bench.models.add(LearnedModel("new", "p"), None, REVIEWER)
    order = {"model": "new", "training_set": "f" * 64, "recipe": "{}", "champion": ""}
    trained = Trained("n1", "e" * 64, WEIGHTS, Verdict.PROMOTE, "first", "9" * 64, 10, 100, 1.5)
    bench.promoting.keep(Job("j", JobKind.TRAIN, order), trained)
    assert bench.models.champion("new") == "n1"
    assert bench.models.promotions("new")[-1].kind is PromotionKind.FIRST


def test_each_rollback_goes_one_further_back(bench: Bench) -> None:
    bench.round("v2")
    bench.round("v3")
    assert bench.promoting.roll_back("own", REVIEWER).version == "v2"
    assert bench.promoting.roll_back("own", REVIEWER).version == "v1"
    with pytest.raises(StateError, match="no version"):
        bench.promoting.roll_back("own", REVIEWER)
    bench.promoting.promote("own", "v3", REVIEWER)
    assert champions(bench.models.promotions("own")) == ("v1", "v3")
    assert bench.promoting.roll_back("own", REVIEWER, "v1").kind is PromotionKind.ROLLBACK


def test_what_is_not_there_or_not_allowed_moves_nothing(bench: Bench) -> None:
    bench.round("v2", Verdict.KEEP)
    for refused, act in (
        (NotAllowed, lambda: bench.promoting.promote("own", "v2", ANNOTATOR)),
        (NotAllowed, lambda: bench.promoting.roll_back("own", ANNOTATOR)),
        (NotFound, lambda: bench.promoting.promote("own", "v9", REVIEWER)),
        (NotFound, lambda: bench.promoting.roll_back("own", REVIEWER, "v2")),
        (StateError, lambda: bench.promoting.promote("own", "v1", REVIEWER)),
        (UnknownModel, lambda: bench.promoting.promote("other", "v1", REVIEWER)),
    ):
        with pytest.raises(refused):
            act()
    assert bench.champion == "v1"


@pytest.mark.parametrize(
    ("extra", "cases", "expected"),
    [
        (5.0, 4, None),
        (5.0, 5, PromotionKind.TAKE_BACK),
        (-5.0, 5, None),
        (-5.0, MOST_CASES, PromotionKind.GATE),
        (0.0, MOST_CASES, PromotionKind.GATE),
    ],
)
def test_a_provisional_version_goes_when_its_shadow_was_less_work(
    bench: Bench, extra: float, cases: int, expected: PromotionKind | None
) -> None:
    bench.round("v2", Verdict.PROMOTE_PROVISIONALLY)
    for number in range(cases):
        bench.work(number, ("v2", 20.0 + extra), ("v1", 20.0))
    decided = bench.promoting.take_back("own")
    assert (None if decided is None else decided.kind) == expected
    assert bench.champion == ("v1" if expected is PromotionKind.TAKE_BACK else "v2")
    moved = newest_move(bench.models.promotions("own"))
    assert moved is not None
    assert moved.is_provisional is (expected is None)


def test_a_doubtful_lead_of_the_shadow_waits_for_more_cases(bench: Bench) -> None:
    bench.round("v2", Verdict.PROMOTE_PROVISIONALLY)
    for number, extra in enumerate((30.0, -2.0, -2.0, -2.0, -2.0)):
        bench.work(number, ("v2", 20.0 + extra), ("v1", 20.0))
    assert bench.promoting.take_back("own") is None
    for number in range(5, MOST_CASES):
        bench.work(number, ("v2", 21.0), ("v1", 20.0))
    decided = bench.promoting.take_back("own")
    assert decided is not None
    assert decided.kind is PromotionKind.TAKE_BACK


def test_labels_with_one_draft_or_from_before_say_nothing(bench: Bench) -> None:
    bench.round("v2", Verdict.PROMOTE_PROVISIONALLY)
    for number in range(6):
        bench.work(number, ("v2", 90.0))
        bench.works.add(LabelWork(f"o{number}", "p", "own", "v2", True, False, 1.0, apl_mm=90.0, made_at=NOW - _HOUR))
        bench.works.add(LabelWork(f"o{number}", "p", "own", "v1", True, False, 1.0, apl_mm=1.0, made_at=NOW - _HOUR))
    assert bench.promoting.take_back("own") is None


def test_a_version_that_is_not_provisional_is_not_taken_back(bench: Bench) -> None:
    bench.round("v2")
    for number in range(MOST_CASES):
        bench.work(number, ("v2", 90.0), ("v1", 1.0))
    assert bench.promoting.take_back("own") is None


def test_the_lineage_leaves_out_what_was_refused_or_confirmed() -> None:
    moves = [("v1", "first"), ("v2", "refused"), ("v3", "gate"), ("v3", "gate"), ("v4", "person"), ("v3", "take-back")]
    promotions = [Promotion("own", version, PromotionKind(kind), "x") for version, kind in moves]
    assert champions(promotions) == ("v1", "v3")
    assert newest_move([replace(promotions[1])]) is None


_HOUR = timedelta(hours=1)
