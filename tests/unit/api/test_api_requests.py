"""Requests that are not valid, bodies that are too large, and mistakes of ours."""

import contextlib
import json
import logging
from collections.abc import Iterator

import httpx
import pytest
from api_server import Running, make_site, serving

from annotate_server.domain.errors import NoSpace, TooBusy, WorkerDied


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(make_site(tmp_path_factory.mktemp("site"))) as server:
        yield server


@pytest.fixture
def web(running: Running) -> Iterator[httpx.Client]:
    with running.client() as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/v1/jobs", {"case": "case1"}, "body.model"),
        ("/api/v1/jobs", {"case": "case1", "model": "bright", "more": 1}, "body.more"),
        ("/api/v1/jobs", {"case": 7, "model": "bright"}, "body.case"),
        ("/api/v1/jobs", {"case": "../../etc", "model": "bright"}, "body.case"),
        ("/api/v1/users", {"name": "x" * 101}, "body.name"),
        ("/api/v1/users", {"name": "x\u0000y"}, "body.name"),
        ("/api/v1/projects", {"id": "Big", "title": "x"}, "body.id"),
        ("/api/v1/projects", {"id": "p", "title": "x", "segments": [{"index": 0}]}, "body.segments.0.index"),
        ("/api/v1/sessions/s/prompts", {"kind": "point", "points_mm": [[1, 2]], "model": "m"}, "body.points_mm.0"),
        (
            "/api/v1/sessions/s/prompts",
            {"kind": "point", "points_mm": [[0, 0, 0]] * 10001, "model": "m"},
            "body.points",
        ),
        ("/api/v1/sessions/s/heartbeat", {"active_s": -1}, "body.active_s"),
        ("/api/v1/sessions/s/heartbeat", {"active_s": "4"}, "body.active_s"),
        ("/api/v1/sessions/s/locked", None, "method"),
    ],
)
def test_a_field_that_is_not_valid_is_named(web: httpx.Client, path: str, body: object, field: str) -> None:
    answer = web.post(path, json=body)
    problem = answer.json()
    if field == "method":
        assert answer.status_code == 405
        return
    assert answer.status_code == 422
    assert problem["type"] == "urn:annotate-server:problem:invalid-request"
    assert any(wrong["field"].startswith(field) for wrong in problem["errors"]), problem
    assert field in problem["detail"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1e7"])
def test_numbers_are_finite_and_within_reach(web: httpx.Client, number: str) -> None:
    content = f'{{"kind": "point", "points_mm": [[0, {number}, 0]], "model": "m"}}'
    headers = {"Content-Type": "application/json"}
    assert web.post("/api/v1/sessions/s/prompts", content=content, headers=headers).status_code == 422


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'"\\ud800"', b"[" * 100_000, b"{}" * 3, b""])
def test_what_is_no_json_is_a_problem_of_the_request(web: httpx.Client, content: bytes) -> None:
    answer = web.post("/api/v1/users", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_lone_surrogate_in_a_name_of_a_field_is_answered(web: httpx.Client) -> None:
    content = json.dumps({"name": "x", "\ud800": 1}).encode()
    answer = web.post("/api/v1/users", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_json_has_a_limit_declared_or_counted(web: httpx.Client) -> None:
    assert web.post("/api/v1/users", content=bytes(2 << 20)).status_code == 413
    with contextlib.suppress(httpx.WriteError):  # the server closed the line while the client was still sending
        assert web.post("/api/v1/users", content=iter([bytes(1 << 16)] * 20)).status_code == 413


@pytest.mark.parametrize("path", ["/api/v1/cases/..%2f..%2fetc", "/api/v1/cases/a%00b", "/api/v1/labels/%2e%2e/file"])
def test_a_path_that_leads_elsewhere_finds_nothing(web: httpx.Client, path: str) -> None:
    assert web.get(path).status_code in (404, 422)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "offset=-1", "modality=XX", "study=abc"])
def test_a_query_that_is_not_valid_is_refused(web: httpx.Client, query: str) -> None:
    assert web.get(f"/api/v1/cases?{query}").status_code == 422


@pytest.mark.parametrize(
    ("failure", "status"),
    [(TooBusy("full"), 429), (WorkerDied("it died"), 503), (NoSpace("the disk is full"), 507)],
)
def test_what_a_worker_says_reaches_the_caller(
    web: httpx.Client, running: Running, failure: TooBusy, status: int
) -> None:
    session = web.post("/api/v1/projects/bright/cases/case1/sessions").headers["location"]
    running.site.compute.failure = failure
    try:
        point = {"kind": "scribble", "points_mm": [[-41.5, 17.25, 103.0]], "model": "bright"}
        answer = web.post(f"{session}/prompts", json=point)
        assert answer.status_code == status, answer.text
        assert ("retry-after" in answer.headers) == (status != 507)
    finally:
        running.site.compute.failure = None
        web.post(f"{session}/leave")


def test_a_mistake_of_ours_says_nothing_but_an_id_and_is_logged(
    web: httpx.Client, running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(running.site.services.cases, "page_ids", broken)
    with caplog.at_level(logging.ERROR):
        answer = web.get("/api/v1/cases")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.json()["request_id"] in caplog.text


def test_the_server_is_ready_when_nothing_is_missing(web: httpx.Client, running: Running) -> None:
    assert web.get("/health/live").json() == {"status": "live"}
    assert web.get("/health/ready").json() == {"status": "ready", "missing": {}}
    running.site.missing["workers"] = "they are starting"
    try:
        waiting = web.get("/health/ready")
        assert (waiting.status_code, waiting.json()["missing"]) == (503, {"workers": "they are starting"})
    finally:
        running.site.missing.clear()


def test_requests_are_counted_by_route_and_never_by_id(web: httpx.Client) -> None:
    web.get("/api/v1/cases/case1")
    web.get("/api/v1/nothing/like/it")
    text = web.get("/metrics").text
    assert 'annotate_requests_total{method="GET",route="/cases/{case_id}",status="200"}' in text
    assert "like/it" not in text
    assert "case1" not in text
    for name in ("annotate_request_seconds_bucket", 'annotate_jobs{state="queued"}', "annotate_worker_restarts"):
        assert name in text
