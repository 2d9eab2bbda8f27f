"""Jobs over HTTP, and their progress as server-sent events."""

import json
import threading
from collections.abc import Iterator

import httpx
import pytest
from api_server import Running, make_site, serving

from annotate_server.api.app import begin_drain
from annotate_server.api.services import ApiOptions, Limits
from annotate_server.domain.job import JobState
from annotate_server.domain.person import Role

ORDER = {"case": "case1", "model": "bright"}


@pytest.fixture
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    options = ApiOptions(limits=Limits(heartbeat_s=0.2, person_streams=2))
    with serving(make_site(tmp_path_factory.mktemp("site")), options) as server:
        yield server


@pytest.fixture
def web(running: Running) -> Iterator[httpx.Client]:
    with running.client() as client:
        yield client


def events(lines: Iterator[str]) -> Iterator[dict[str, object]]:
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_the_same_draft_is_not_ordered_twice(web: httpx.Client) -> None:
    first = web.post("/api/v1/jobs", json=ORDER)
    assert first.status_code == 202
    assert web.get(first.headers["location"]).json()["order"] == ORDER
    assert web.post("/api/v1/jobs", json=ORDER).json()["id"] == first.json()["id"]
    assert web.post("/api/v1/jobs", json={**ORDER, "case": "nobody"}).status_code == 404
    assert web.post("/api/v1/jobs", json={**ORDER, "model": "nobody"}).status_code == 404
    assert [job["id"] for job in web.get("/api/v1/jobs", params={"state": "queued"}).json()] == [first.json()["id"]]
    assert web.get("/api/v1/jobs", params={"state": "failed"}).json() == []


def test_a_session_orders_a_draft_for_itself(web: httpx.Client) -> None:
    session = web.post("/api/v1/projects/bright/cases/case1/sessions").headers["location"]
    job = web.post(f"{session}/draft", json={"model": "bright"})
    assert job.status_code == 202
    assert job.json()["order"]["session"] == session.rsplit("/", 1)[1]
    assert job.json()["priority"] == "person"


def test_a_job_is_cancelled_once(web: httpx.Client, running: Running) -> None:
    job = web.post("/api/v1/jobs", json=ORDER).headers["location"]
    assert web.post(f"{job}/cancel").json()["state"] == "cancelled"
    assert web.post(f"{job}/cancel").status_code == 409
    assert web.post("/api/v1/jobs/none/cancel").status_code == 404


def test_a_job_is_followed_from_its_present_state_to_its_end(web: httpx.Client, running: Running) -> None:
    address = web.post("/api/v1/jobs", json=ORDER).headers["location"]
    services = running.site.services
    with web.stream("GET", f"{address}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        news = events(stream.iter_lines())
        assert next(news)["state"] == "queued"
        job = services.jobs.claim()
        assert job is not None
        services.watchers.tell(job)
        assert next(news)["state"] == "running"
        services.jobs.advance(job.id, 0.5, "half")
        services.watchers.tell(services.jobs.get(job.id))
        assert next(news)["progress"] == 0.5
        services.watchers.tell(services.jobs.finish(job.id, {"prediction": "p"}))
        last = next(news)
        assert (last["state"], last["result"]) == ("succeeded", {"prediction": "p"})
        assert next(news, None) is None
    with web.stream("GET", f"{address}/events") as stream:
        assert [event["state"] for event in events(stream.iter_lines())] == ["succeeded"]
    assert web.get("/api/v1/jobs/none/events").status_code == 404


def test_a_quiet_stream_gives_signs_of_life(web: httpx.Client) -> None:
    address = web.post("/api/v1/jobs", json=ORDER).headers["location"]
    with web.stream("GET", f"{address}/events") as stream:
        assert any(line.startswith(":") for line in stream.iter_lines())


def test_all_jobs_are_followed_by_one_stream(web: httpx.Client, running: Running) -> None:
    with web.stream("GET", "/api/v1/events") as stream:
        news = events(stream.iter_lines())
        job = web.post("/api/v1/jobs", json=ORDER).json()
        running.site.services.watchers.tell(running.site.services.jobs.get(job["id"]))
        assert next(news)["id"] == job["id"]


def test_streams_are_limited_apart_from_requests(web: httpx.Client) -> None:
    with web.stream("GET", "/api/v1/events"), web.stream("GET", "/api/v1/events"):
        assert web.get("/api/v1/events").status_code == 429
        assert web.get("/api/v1/me").status_code == 200


def test_a_draining_server_ends_streams_and_takes_nothing_new(web: httpx.Client, running: Running) -> None:
    app = running.server._app
    with web.stream("GET", "/api/v1/events") as stream:
        threading.Timer(0.1, lambda: begin_drain(app)).start()
        assert list(events(stream.iter_lines())) == []
    refused = web.get("/api/v1/me")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    assert web.get("/health/ready").status_code == 503
    assert web.get("/health/live").status_code == 200


def test_a_job_of_somebody_else_is_cancelled_by_an_administrator_alone(web: httpx.Client, running: Running) -> None:
    job = web.post("/api/v1/jobs", json=ORDER).headers["location"]
    token = running.site.services.users.add("anne", Role.ANNOTATOR)
    root = running.site.services.users.add("root", Role.ADMIN)
    assert web.post(f"{job}/cancel", headers={"Authorization": f"Bearer {token}"}).status_code == 403
    assert running.site.services.jobs.all(JobState.CANCELLED) == ()
    assert web.post(f"{job}/cancel", headers={"Authorization": f"Bearer {root}"}).status_code == 200
