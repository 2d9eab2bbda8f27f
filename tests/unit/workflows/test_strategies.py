"""Which case is suggested next: deterministic, complete, and by what stored drafts tell."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from annotation_bench import ANN, BOB, LIVER, PROJECT, SPLEEN, Bench
from conftest import oblique_geometry

from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.person import Person, Role
from annotate_server.domain.project import CaseStatus, Project
from annotate_server.domain.stored import StoredPrediction
from annotate_server.domain.strategy import Chance, OpenCase, Strategy
from annotate_server.testing.fakes import InMemoryRegistry, threshold_app
from annotate_server.workflows.layers import keep_layer
from annotate_server.workflows.outlooks import Outlooks, difficulty_of
from annotate_server.workflows.projects import Projects
from annotate_server.workflows.strategies import BUILT_IN
from annotate_server.workflows.suggest import Worklist

GRID = oblique_geometry((7, 9, 8))
ADMIN = Person("eve", Role.ADMIN)


def cases(number: int, **words: object) -> list[OpenCase]:
    return [OpenCase(f"c{n}", **words) for n in range(number)]


def names(found: Sequence[OpenCase]) -> list[str]:
    return [case.id for case in found]


@pytest.mark.parametrize("strategy", BUILT_IN.values(), ids=BUILT_IN)
def test_every_strategy_gives_every_case_once_and_the_same_order_again(strategy: Strategy) -> None:
    mixed = [
        *cases(20),
        *(OpenCase(f"d{n}", True, frozenset({"Liver"}), n / 20) for n in range(20)),
        *(OpenCase(f"e{n}", True, frozenset({"Liver", "Spleen"}), None) for n in range(3)),
    ]
    order = names(strategy.order(mixed, Chance("organs")))
    assert sorted(order) == sorted(names(mixed))
    assert names(strategy.order(mixed[::-1], Chance("organs"))) == order
    assert names(strategy.order(mixed, Chance("lungs"))) != order or strategy.name == "difficulty"
    assert names(strategy.order(mixed, Chance("organs", seed=1))) != order
    assert strategy.order([], Chance("organs")) == []


@pytest.mark.parametrize("name", ["random", "foreground", "difficulty"])
def test_the_order_of_the_rest_stays_when_a_case_is_done(name: str) -> None:
    mixed = [OpenCase(f"d{n}", True, frozenset({"Liver"}), (n % 7) / 7) for n in range(30)]
    order = names(BUILT_IN[name].order(mixed, Chance("organs")))
    rest = [case for case in mixed if case.id != order[0]]
    assert names(BUILT_IN[name].order(rest, Chance("organs"))) == order[1:]


def test_a_rare_segment_is_drawn_more_often_than_its_share_and_others_keep_a_chance() -> None:
    pool = [*cases(90, is_drafted=True), *(OpenCase(f"rare{n}", True, frozenset({"Lesion"})) for n in range(10))]
    first = Counter(
        "rare" if BUILT_IN["foreground"].order(pool, Chance("p", seed))[0].held else "rest" for seed in range(600)
    )
    assert 0.62 < first["rare"] / 600 < 0.78
    assert first["rest"] > 100


def test_where_every_draft_holds_everything_foreground_is_plain_random() -> None:
    pool = cases(40, is_drafted=True, held=frozenset({"Liver", "Spleen"}))
    places = Counter[int]()
    for seed in range(400):
        places[names(BUILT_IN["foreground"].order(pool, Chance("p", seed))).index("c0") // 10] += 1
    assert all(70 < places[quarter] < 130 for quarter in range(4))


def test_the_least_sure_draft_comes_first_and_the_unknown_last() -> None:
    pool = [OpenCase("sure", True, difficulty=0.1), OpenCase("unknown"), OpenCase("unsure", True, difficulty=0.7)]
    assert names(BUILT_IN["difficulty"].order(pool, Chance("p"))) == ["unsure", "sure", "unknown"]


def test_clasp_pe_takes_turns_between_segments_and_sharpens_with_labels() -> None:
    livers = [OpenCase(f"l{n}", True, frozenset({"Liver"}), 0.2 + n / 100) for n in range(40)]
    lesions = [OpenCase(f"t{n}", True, frozenset({"Lesion"}), 0.1 + n / 1000) for n in range(4)]
    late = names(BUILT_IN["clasp-pe"].order([*livers, *lesions], Chance("p", labelled=400)))
    assert {name[0] for name in late[:2]} == {"l", "t"}
    agreement = []
    for labelled in (0, 400):
        found = names(BUILT_IN["clasp-pe"].order(livers, Chance("p", labelled=labelled)))
        by_difficulty = [f"l{n}" for n in range(39, -1, -1)]
        agreement.append(len(set(found[:10]) & set(by_difficulty[:10])))
    assert agreement[1] > agreement[0]


def test_difficulty_is_the_mean_over_slices_in_which_something_was_drawn() -> None:
    assert difficulty_of(()) is None
    assert difficulty_of((0.0, 0.0)) == 0.0
    assert difficulty_of((0.0, 0.2, 0.4, 0.0)) == 0.3


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, GRID).furnished(6)
    yield made
    made.close()


def drafted(bench: Bench, case: str, unsure: Sequence[float], *held: Segment, model: str = "abdomen") -> None:
    voxels = np.zeros(GRID.shape, np.uint8)
    for segment in held:
        voxels[segment.index] = segment.index
    layer = keep_layer(bench.records.blobs, Labelmap(voxels, GRID, (LIVER, SPLEEN)), unsure)
    made = StoredPrediction(f"{model}-{case}", case, model, "v1", layer, bench.clock())
    bench.records.predictions.add(made)
    bench.clock.forward(1)


def worklist(bench: Bench, strategy: str = "difficulty") -> Worklist:
    bench.records.projects.change(replace(PROJECT, strategy=strategy), BOB)
    outlooks = Outlooks(bench.records.predictions, bench.records.blobs)
    return Worklist(bench.records.projects, bench.records.labels, bench.annotator.open, bench.clock, outlooks)


def test_the_worklist_tells_the_difficulty_of_stored_drafts_and_is_ordered_by_it(bench: Bench) -> None:
    drafted(bench, "c1", (0, 0.2, 0.2, 0, 0, 0, 0), LIVER)
    drafted(bench, "c4", (0, 0.6, 0.8, 0, 0, 0, 0), LIVER, SPLEEN)
    drafted(bench, "c5", (), LIVER)
    items = worklist(bench).items("organs")
    assert [(i.case_id, i.difficulty) for i in items[:3]] == [("c4", 0.7), ("c1", 0.2), ("c5", None)]
    assert all(item.difficulty is None for item in items[3:])


def test_the_worklist_can_be_seen_by_another_strategy_than_the_projects(bench: Bench) -> None:
    for case, unsure in (("c1", 0.2), ("c3", 0.5), ("c4", 0.7)):
        drafted(bench, case, (0, unsure, 0, 0, 0, 0, 0), LIVER)
    listed = worklist(bench, "random")
    assert [item.case_id for item in listed.items("organs", "difficulty")[:3]] == ["c4", "c3", "c1"]
    assert listed.items("organs") == listed.items("organs", "random")


def test_a_newer_draft_changes_the_difficulty_and_one_by_another_projects_model_does_not(bench: Bench) -> None:
    listed = worklist(bench)
    drafted(bench, "c1", (0.5,) * 7, LIVER)
    assert listed.items("organs")[0].difficulty == 0.5
    drafted(bench, "c1", (0.9,) * 7, LIVER, model="lungs")
    assert listed.items("organs")[0].difficulty == 0.5


def test_what_is_returned_and_what_is_in_work_keep_their_places(bench: Bench) -> None:
    listed = worklist(bench, "random")
    first = listed.next_case("organs", ANN)
    second = listed.next_case("organs", BOB)
    assert first is not None
    assert second is not None
    assert first.case_id != second.case_id
    waiting = [item.case_id for item in listed.items("organs") if item.status is CaseStatus.OPEN]
    assert len(waiting) == 4
    third = listed.next_case("organs", ADMIN)
    assert third is not None
    assert third.case_id == waiting[0]


def test_a_project_whose_plug_in_is_gone_goes_on_with_the_default(bench: Bench) -> None:
    default = [item.case_id for item in worklist(bench, "foreground").items("organs")]
    assert [item.case_id for item in worklist(bench, "of-a-plug-in").items("organs")] == default


def test_a_draft_whose_blob_is_gone_is_listed_without_a_difficulty(bench: Bench) -> None:
    drafted(bench, "c1", (0.5,) * 7, LIVER)
    layer = bench.records.predictions.newest_of_all()[0].layer
    bench.records.blobs.path(layer.blob).unlink()
    assert [i.difficulty for i in worklist(bench).items("organs") if i.case_id == "c1"] == [None]


def test_an_unknown_strategy_is_refused_with_those_that_there_are(bench: Bench) -> None:
    projects = Projects(bench.records.projects, InMemoryRegistry({"abdomen": threshold_app("abdomen")}))
    with pytest.raises(InvalidRequest, match="strategy 'best'") as caught:
        projects.add(Project("new", "New", strategy="best"), ADMIN)
    assert "clasp-pe, difficulty, foreground, random" in str(caught.value)
    projects.add(Project("new", "New", strategy="clasp-pe"), ADMIN)
    assert bench.records.projects.get("new").strategy == "clasp-pe"
