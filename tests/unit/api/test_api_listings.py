"""The lists of cases, which are kept: they say what is true now, whatever changed since they were last asked for."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from api_server import GEOMETRY, Running, make_site, serving

from annotate_server.api.monailabel.listing import Listing
from annotate_server.api.rendered_cases import RenderedCases
from annotate_server.api.v1.cases import rendered_case
from annotate_server.domain.annotation import Label
from annotate_server.domain.person import Person, Role
from annotate_server.domain.stored import KnownCase, VolumeFacts
from annotate_server.domain.volume import Modality

ANNE = Person("anne", Role.ADMIN)


@pytest.fixture
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(make_site(tmp_path_factory.mktemp("site"))) as server:
        yield server


@pytest.fixture
def web(running: Running) -> Iterator[httpx.Client]:
    with running.client() as client:
        yield client


def label(case_id: str, name: str) -> Label:
    return Label(name, "bright", case_id, "anne", (), made_at=datetime(2026, 1, 2, tzinfo=UTC))


def test_the_list_for_clients_of_monailabel_follows_every_change(web: httpx.Client, running: Running) -> None:
    def labels_of(case_id: str) -> set[str]:
        objects = web.get("/datastore/?output=all").json()["objects"]
        return set(objects[case_id]["labels"])

    services = running.site.services
    assert labels_of("case2") == set()
    services.labels.accept(label("case2", "l1"), None, ANNE)
    assert labels_of("case2") == {"final", "version_1"}
    running.site.add_prediction("case2")
    services.labels.accept(label("case2", "l2"), None, ANNE)
    assert labels_of("case2") == {"final", "version_1", "version_2", "original"}
    assert labels_of("case1") == set()
    assert labels_of(running.site.add_case(8)) == set()
    services.cases.declare("case3", Modality.MR, ANNE)
    objects = web.get("/datastore/?output=all").json()["objects"]
    assert objects["case3"]["image"]["info"]["modality"] == "MR"
    assert web.get("/datastore/?output=all").content == Listing(services).json()


def test_a_page_of_cases_says_the_same_as_each_case_by_itself(web: httpx.Client, running: Running) -> None:
    def listed(**part: int) -> list[dict[str, object]]:
        cases: list[dict[str, object]] = web.get("/api/v1/cases", params=part).json()["cases"]
        return cases

    def alone(case_id: object) -> dict[str, object]:
        return {**web.get(f"/api/v1/cases/{case_id}").json(), "instances": []}

    assert listed() == [alone(each["id"]) for each in listed()]
    running.site.services.cases.learn("case2", VolumeFacts("cd" * 32, GEOMETRY, Modality.CT, "HU", ("Odd.",)))
    web.put("/api/v1/cases/case3/modality", json={"modality": "MR"})
    running.site.add_case(8)
    running.site.services.cases.keep_only(["case1", "case2", "case3"])
    found = listed()
    assert found == [alone(each["id"]) for each in found]
    assert [each["is_missing"] for each in found] == [False, False, False, True]
    assert listed(limit=2, offset=1) == found[1:3]
    assert web.get("/api/v1/cases", params={"limit": 1}).json()["total"] == 4


def test_only_what_changed_is_rendered_again(running: Running) -> None:
    cases, rendered = running.site.services.cases, list[str]()

    def render(known: KnownCase) -> bytes:
        rendered.append(known.id)
        return rendered_case(known)

    kept = RenderedCases(cases, render)
    first = kept.of(("case3", "case1"))
    assert kept.of(("case1", "case3")) == (first[1], first[0])
    assert sorted(rendered) == ["case1", "case3"]
    cases.put([replace(cases.get("case1").case, patient=cases.get("case2").case.patient)])
    assert kept.of(("case3", "case1")) != first
    assert rendered[2:] == ["case1"]
