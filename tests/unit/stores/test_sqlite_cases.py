from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from store_values import ANNE, BELA, GEOMETRY, NOW, SPLEEN, case, clock, filled_database, prediction, project

from annotate_server.domain.errors import InvalidRequest, NotFound, StateError
from annotate_server.domain.person import Person, Role
from annotate_server.domain.store_ports import CaseFilter
from annotate_server.domain.stored import KnownCase, VolumeFacts
from annotate_server.domain.volume import Modality
from annotate_server.stores.database import Database
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.stores.sqlite_predictions import SqlitePredictions
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.stores.sqlite_users import SqliteUsers

FACTS = VolumeFacts("d" * 64, GEOMETRY, Modality.MR, "1", ("The qform was not used.",))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with filled_database(tmp_path) as opened:
        yield opened


def test_a_case_comes_back_as_it_was(database: Database) -> None:
    cases = SqliteCases(database)
    assert cases.get("case2") == KnownCase(case(2), NOW)
    assert list(cases.get("case2").case.volumes) == ["reference", "companion"]
    assert cases.all() == tuple(KnownCase(case(number), NOW) for number in (1, 2, 3))


def test_a_case_seen_again_keeps_its_facts_and_gets_its_new_files(database: Database) -> None:
    cases = SqliteCases(database)
    cases.learn("case1", FACTS)
    cases.declare("case1", Modality.PT, ANNE)
    moved = replace(case(3), id="case1")
    cases.put([moved])
    assert cases.get("case1") == KnownCase(moved, NOW, FACTS, Modality.PT)


def test_cases_that_are_gone_are_marked_and_come_back(database: Database) -> None:
    cases = SqliteCases(database, clock)
    cases.put([case(4)], is_uploaded=True)
    cases.keep_only(["case2"])
    assert {known.id for known in cases.all() if known.is_missing} == {"case1", "case3"}
    cases.keep_only(["case1", "case2"])
    assert {known.id for known in cases.all() if known.is_missing} == {"case3"}
    cases.put([case(3)])
    assert not cases.get("case3").is_missing


def test_only_the_cases_that_changed_are_told_of(database: Database) -> None:
    cases = SqliteCases(database, clock)
    cases.put([case(1), case(2), case(3)])
    assert cases.changed.count == 0
    cases.put([case(4), case(1), replace(case(2), patient=case(3).patient)])
    assert set(cases.changed.since(0)) == {"case4", "case2"}
    seen = cases.changed.count
    cases.keep_only(["case1", "case2", "case4"])
    cases.learn_all({"case2": FACTS, "case1": FACTS})
    cases.declare("case4", Modality.PT, ANNE)
    assert set(cases.changed.since(seen)) == {"case3", "case2", "case1", "case4"}


def test_facts_of_many_cases_are_kept_together_or_not_at_all(database: Database) -> None:
    cases = SqliteCases(database)
    with pytest.raises(NotFound):
        cases.learn_all({"case1": FACTS, "no": FACTS})
    assert cases.get("case1").facts is None
    cases.learn_all({})
    cases.learn_all({"case1": FACTS, "case3": FACTS})
    assert [known.facts for known in cases.all()] == [FACTS, None, FACTS]


def test_cases_are_found_by_their_ids_and_a_page_of_ids_is_that_of_the_cases(database: Database) -> None:
    cases = SqliteCases(database)
    assert [known.id for known in cases.those(["case3", "no", "case1"])] == ["case1", "case3"]
    assert cases.those([]) == ()
    for chosen in (CaseFilter(), CaseFilter(modality=Modality.CT), CaseFilter(study_uid="9.9")):
        page = cases.page(chosen, 2, 1)
        assert cases.page_ids(chosen, 2, 1) == (tuple(known.id for known in page.cases), page.total)


@pytest.mark.parametrize("method", ["get", "learn", "declare"])
def test_a_case_that_is_not_known_is_not_found(database: Database, method: str) -> None:
    cases = SqliteCases(database)
    calls = {
        "get": lambda: cases.get("no"),
        "learn": lambda: cases.learn("no", FACTS),
        "declare": lambda: cases.declare("no", Modality.CT, ANNE),
    }
    with pytest.raises(NotFound):
        calls[method]()


def test_projects_come_back_as_they_were_sorted_by_id(database: Database) -> None:
    projects = SqliteProjects(database)
    brain = replace(project("brain", (Modality.MR, Modality.CT)), segments=())
    projects.add(brain, BELA)
    assert projects.all() == (brain, project())
    changed = replace(brain, title="Other", segments=(SPLEEN,))
    projects.change(changed, BELA)
    assert projects.get("brain") == changed
    with pytest.raises(StateError, match="brain already"):
        projects.add(brain, BELA)
    with pytest.raises(NotFound):
        projects.change(project("none"), BELA)
    with pytest.raises(NotFound):
        projects.get("none")


def test_a_project_has_the_cases_of_its_modalities_and_those_of_none(database: Database) -> None:
    cases, projects = SqliteCases(database, clock), SqliteProjects(database)
    cases.put([case(4, Modality.MR), case(5, None), case(6, None)])
    cases.declare("case6", Modality.CT, ANNE)
    projects.add(project("brain", (Modality.MR,)), ANNE)
    assert [item.case_id for item in projects.items("brain", NOW)] == ["case4", "case5"]
    assert len(projects.items("liver", NOW)) == 6
    with pytest.raises(NotFound):
        projects.item("brain", "case6", NOW)


def test_predictions_come_back_and_the_newest_of_the_models_is_found(database: Database) -> None:
    predictions = SqlitePredictions(database)
    first, second = prediction(), replace(prediction("p2", model="other"), made_at=NOW - timedelta(days=1))
    predictions.add(first)
    predictions.add(second)
    assert predictions.get("p1") == first
    assert predictions.newest("case1") == second
    assert predictions.newest("case1", ["app-b", "app-a"]) == first
    assert predictions.newest("case1", ["app-b"]) is None
    assert predictions.of_case("case1") == (first, second)
    assert predictions.newest_of(["case1", "case2"]) == predictions.newest_of_all() == (second,)
    assert (predictions.newest_of(["case2"]), predictions.changed.since(0)) == ((), ("case1",))
    assert SqliteProjects(database).item("liver", "case1", NOW).predicted_by == "app-a"
    with pytest.raises(NotFound):
        predictions.get("p3")
    with pytest.raises(NotFound):
        predictions.add(prediction("p4", case_id="no"))


def test_a_token_signs_in_until_it_is_replaced_or_its_owner_removed(database: Database) -> None:
    users = SqliteUsers(database, clock)
    first = users.add("anne", Role.ANNOTATOR)
    assert users.by_token(first) == Person("anne", Role.ANNOTATOR)
    second = users.add("anne", Role.REVIEWER)
    assert users.by_token(first) is None
    assert users.by_token(second) == Person("anne", Role.REVIEWER)
    assert [(user.name, user.role, user.made_at) for user in users.all()] == [("anne", Role.REVIEWER, NOW)]
    users.remove("anne")
    assert users.by_token(second) is None
    with pytest.raises(NotFound):
        users.remove("anne")


def test_a_token_is_kept_nowhere(database: Database) -> None:
    token = SqliteUsers(database).add("anne", Role.ADMIN)
    database.close()
    files = b"".join(path.read_bytes() for path in database.path.parent.iterdir())
    assert len(token) >= 43
    assert token.encode() not in files


@pytest.mark.parametrize("token", ["", "x", "é\udcff", "0" * 64])
def test_a_wrong_token_is_nobodys(database: Database, token: str) -> None:
    SqliteUsers(database).add("anne", Role.ADMIN)
    assert SqliteUsers(database).by_token(token) is None


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
def test_a_name_that_cannot_be_shown_is_refused(database: Database, name: str) -> None:
    with pytest.raises(InvalidRequest):
        SqliteUsers(database).add(name, Role.ADMIN)
