"""Models that learn over HTTP: begun, trained, promoted and rolled back, by those who may."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime

import httpx
import numpy as np
import pytest
from api_server import GEOMETRY, ROOT, Running, make_site, serving

from annotate_server.client import AnnotateClient
from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.clock import now
from annotate_server.domain.job import Job, JobKind
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.learning import LearnedModel, Promotion, PromotionKind, VersionRecord
from annotate_server.domain.person import Role
from annotate_server.domain.training import TrainingPoint
from annotate_server.testing.fakes import BRIGHT, threshold_app
from annotate_server.workflows.layers import keep_layer

FIRST, SECOND = "0" * 11 + "1", "0" * 11 + "2"
POINTS = tuple(TrainingPoint(step, 30, 1.0 / step, 1e-3, step * 0.5) for step in (10, 20, 30))


@pytest.fixture
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(make_site(tmp_path_factory.mktemp("site"))) as server:
        yield server


@pytest.fixture
def web(running: Running) -> Iterator[httpx.Client]:
    with running.client() as client:
        yield client


@pytest.fixture
def client(running: Running) -> Iterator[AnnotateClient]:
    with AnnotateClient(running.url, name="rita") as made:
        yield made


def learn(running: Running, *, is_provisional: bool = False) -> None:
    """Put a model `own` into the place of the app `bright`, with two versions of which the second serves."""
    services = running.site.services
    blobs, models = services.learning.blobs, services.learning.models
    app = replace(threshold_app("own"), digest="own-1", card=replace(threshold_app().card, trainable=True))
    services.registry.apps |= {"own": app}  # type: ignore[attr-defined, operator]
    services.registry.learned.add("own")  # type: ignore[attr-defined]
    evidence = blobs.add_bytes(b'{"challenger": "x"}')
    first = VersionRecord(FIRST, "own", blobs.add_bytes(b"{}"), ())
    models.add(LearnedModel("own", "bright", "bright"), first, ROOT)
    moved = Promotion("own", SECOND, PromotionKind.GATE, "(gate)", "better", FIRST, evidence, is_provisional)
    models.decide(replace(first, id=SECOND, parent=FIRST, job_id="j"), moved, ROOT)


def approve(running: Running, count: int) -> None:
    site = running.site
    for number in range(1, count + 1):
        case_id = f"case{number}" if number <= 3 else site.add_case(number)
        voxels = np.zeros(GEOMETRY.shape, np.uint8)
        voxels[2:4, 3:6, 3:6] = 1
        layer = keep_layer(site.records.blobs, Labelmap(voxels, GEOMETRY, (BRIGHT,)))
        label = Label(f"l{number}", "bright", case_id, "anne", (layer,), made_at=now(), state=LabelState.APPROVED)
        site.records.labels.accept(label, None, ROOT)


def test_a_model_tells_its_versions_aliases_and_decisions(running: Running, web: httpx.Client) -> None:
    learn(running, is_provisional=True)
    assert web.get("/api/v1/models/bright").json()["learned"] is None
    learned = web.get("/api/v1/models/own").json()["learned"]
    assert [version["id"] for version in learned["versions"]] == [FIRST, SECOND]
    assert (learned["champion"], learned["former"], learned["challenger"]) == (SECOND, FIRST, None)
    assert (learned["provisional"], learned["project"], learned["origin"]) == (True, "bright", "bright")
    assert [(each["kind"], each["evidence"]) for each in learned["decisions"]] == [("first", False), ("gate", True)]
    assert datetime.fromisoformat(learned["decisions"][1]["at"]).tzinfo is not None
    evidence = web.get(f"/api/v1/models/own/versions/{SECOND}/evidence")
    assert evidence.json() == {"challenger": "x"}
    for path in (f"own/versions/{FIRST}/evidence", f"own/versions/{'f' * 12}", f"bright/versions/{FIRST}"):
        assert web.get(f"/api/v1/models/{path}").status_code == 404


def test_a_rollback_and_a_promotion_move_the_alias(running: Running, client: AnnotateClient) -> None:
    learn(running)
    back = client.roll_back("own", reason="worse at the border")
    assert (back.version, back.previous, back.kind, back.reason) == (FIRST, SECOND, "rollback", "worse at the border")
    learned = client.model("own").learned
    assert learned is not None
    assert (learned.champion, learned.former, learned.challenger) == (FIRST, None, SECOND)
    assert client.promote("own", SECOND).person == "rita"
    assert client.evidence("own", SECOND) == {"challenger": "x"}


def test_what_cannot_be_promoted_is_a_problem(running: Running, web: httpx.Client) -> None:
    learn(running)
    for path, body, status in (
        ("own/promote", {"version": SECOND}, 409),
        ("own/promote", {"version": "f" * 12}, 404),
        ("own/promote", {"version": "../../x"}, 422),
        ("own/rollback", {"version": "f" * 12}, 404),
        ("bright/rollback", {}, 404),
        ("bright/train", {"project": "bright"}, 409),
        ("nothing/train", {}, 404),
        ("own/train", {}, 409),
        ("own/train", {"full": "yes"}, 422),
    ):
        answer = web.post(f"/api/v1/models/{path}", json=body)
        assert (path, answer.status_code) == (path, status)
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("labels", "reason"), [(0, "nothing to learn from"), (1, "are all of one patient")])
def test_what_cannot_be_learned_is_said_at_every_door_before_there_is_a_job(
    running: Running, web: httpx.Client, labels: int, reason: str
) -> None:
    learn(running)
    projects = running.site.records.projects
    projects.change(replace(projects.get("bright"), segments=(BRIGHT,)), ROOT)
    approve(running, labels)
    for door, sent in (
        ("/api/v1/models/own/train", {"json": {}}),
        ("/train/own", {"json": {}}),
        ("/loop/models/own/train", {"data": {}}),
    ):
        answer = web.post(door, **sent)
        assert answer.status_code == 409
        assert reason in answer.text
    assert running.site.services.jobs.all() == ()


def test_a_model_is_begun_and_says_how_many_labels_it_lacks(running: Running, client: AnnotateClient) -> None:
    registry = running.site.services.registry
    running.site.services.learning.own.begin("fresh", "bright", ROOT)
    registry.apps |= {"fresh": threshold_app("fresh")}  # type: ignore[attr-defined, operator]
    registry.learned.add("fresh")  # type: ignore[attr-defined]
    approve(running, 2)
    model = client.model("fresh")
    assert (model.state, model.version) == ("untrained", None)
    assert "3 approved labels are missing" in model.reason
    assert running.site.records.projects.get("bright").apps[0] == "fresh"
    changed = client.train_by_itself("fresh", every_labels=3, is_nightly=True)
    assert changed.learned is not None
    kept = running.site.services.learning.models.get("fresh")
    assert (kept.every_labels, kept.is_nightly) == (3, True)


def test_a_training_is_ordered_once_and_followed_with_its_curve(running: Running, client: AnnotateClient) -> None:
    learn(running)
    projects = running.site.records.projects
    projects.change(replace(projects.get("bright"), segments=(BRIGHT,)), ROOT)
    approve(running, 6)
    job = client.train("own")
    assert client.train("own").id == job.id
    learned = client.model("own").learned
    assert learned is not None
    assert learned.waiting_labels == 6
    folder = running.site.folder / "training" / job.id
    folder.mkdir(parents=True)
    (folder / "curve.json").write_text(json.dumps([asdict(point) for point in POINTS[:2]]))
    assert client.curve(job.id) == POINTS[:2]
    services = running.site.services
    with running.client() as web, web.stream("GET", f"/api/v1/jobs/{job.id}/events") as stream:
        told = events(stream.iter_lines())
        assert next(told) == ("curve", [10, 20])
        assert next(told) == ("job", "queued")
        claimed = services.jobs.claim()
        assert claimed is not None
        (folder / "curve.json").write_text(json.dumps([asdict(point) for point in POINTS]))
        services.watchers.tell(claimed)
        assert next(told) == ("curve", [30])
        assert next(told) == ("job", "running")
        services.watchers.tell(services.jobs.finish(job.id, {}))
        assert next(told) == ("job", "succeeded")
        assert next(told, None) is None
    assert client.wait(job.id).state == "succeeded"


def events(lines: Iterator[str]) -> Iterator[tuple[str, object]]:
    """Yield the kind of each event, with the steps of a curve or the state of a job."""
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            told = json.loads(line.removeprefix("data: "))
            yield kind, [point["step"] for point in told["points"]] if kind == "curve" else told["state"]


def test_a_reviewer_cancels_anybodys_training_and_an_annotator_does_not(running: Running) -> None:
    users = running.site.services.users
    tokens = {role: users.add(str(role), role) for role in (Role.ANNOTATOR, Role.REVIEWER)}
    jobs = running.site.services.jobs
    jobs.add(Job("t1", JobKind.TRAIN, {"model": "own"}, person="somebody"))
    for role, status in ((Role.ANNOTATOR, 403), (Role.REVIEWER, 200)):
        with running.client(Authorization=f"Bearer {tokens[role]}") as web:
            assert web.post("/api/v1/jobs/t1/cancel").status_code == status


def test_clients_of_monai_label_order_follow_and_stop_a_training(running: Running, web: httpx.Client) -> None:
    learn(running)
    projects = running.site.records.projects
    projects.change(replace(projects.get("bright"), segments=(BRIGHT,)), ROOT)
    approve(running, 6)
    assert web.get("/train/").json()["detail"] == "No Train Tasks Found"
    assert set(web.get("/info/").json()["trainers"]) == {"own"}
    begun = web.post("/train/own", json={"client_id": "rita", "max_epochs": 50}).json()
    assert (begun["status"], begun["request"]["model"]) == ("RUNNING", "own")
    assert web.post("/train/own", json={}).status_code == 429
    assert web.get("/train/", params={"check_if_running": "true"}).json()["id"] == begun["id"]
    assert running.site.services.jobs.get(begun["id"]).person == "rita"
    assert web.delete("/train/").json()["status"] == "STOPPED"
    assert web.delete("/train/").json() is None
    assert web.get("/train/", params={"check_if_running": "true"}).status_code == 404
    assert web.get("/train/").json()["status"] == "STOPPED"
    assert web.post("/train/", json={"own": {"max_epochs": 1}}).json()["own"]["result"]["status"] == "RUNNING"
