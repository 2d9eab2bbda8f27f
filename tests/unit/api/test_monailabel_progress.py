"""How far trainings are, as MONAI Label's clients are told: over a model that learned."""

from dataclasses import replace
from pathlib import Path

from api_server import Site, make_site
from test_loop_pages import V1, V2, learned

from annotate_server.api.monailabel.progress import TrainStats
from annotate_server.domain.job import Job, JobKind
from annotate_server.domain.learning import Promotion, PromotionKind
from annotate_server.domain.person import Person, Role
from annotate_server.domain.training import TrainingPoint

ROOT = Person("root", Role.ADMIN)
POINT = TrainingPoint(30, 120, 0.5, 1e-3, 8.0)


def stats_of(site: Site) -> TrainStats:
    learning = replace(site.services.learning, curve=lambda _: (POINT,))
    return TrainStats(replace(site.services, learning=learning))


def test_a_model_is_as_good_as_the_gate_found_its_champion(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    assert stats_of(site).words() == {}
    learned(site)
    stats = stats_of(site)
    assert stats.words() == {"bright_own": {"best_metric": 0.86}}
    assert stats.of("bright") == {}
    back = Promotion("bright_own", V1, PromotionKind.ROLLBACK, "root", "Worse on new scanners.", V2)
    site.services.learning.models.decide(None, back, ROOT)
    assert stats.of("bright_own") == {}, "no gate judged the version that it was forked from"


def test_a_training_is_told_while_it_runs_and_after_it_ended(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    learned(site)
    stats, jobs = stats_of(site), site.services.jobs
    jobs.add(Job("t1", JobKind.TRAIN, {"model": "bright_own"}, made_at=site.reception.clock()))
    jobs.add(Job("d1", JobKind.DRAFT, {"model": "bright_own", "case": "c"}, made_at=site.reception.clock()))
    while (job := jobs.claim()) is not None and job.id != "t1":
        pass
    running = stats.of("bright_own")
    assert (running["epoch"], running["total_epochs"], "total_time" in running) == (30, 120, False)
    jobs.cancel("t1")
    ended = stats.of("bright_own")
    assert (ended["best_metric"], "total_time" in ended) == (0.86, True)
    assert stats.of("bright_own") == ended
