"""The pages of the learning loop: what they show, to whom, and that nothing in them runs or leaks."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from api_server import Running, Site, make_site, serving

from annotate_server.api.loop.plots import Dot, Mark, Plot
from annotate_server.api.services import ApiOptions
from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.errors import StateError
from annotate_server.domain.job import Job, JobKind, JobState
from annotate_server.domain.learning import (
    LabelWork,
    LearnedModel,
    Promotion,
    PromotionKind,
    SegmentWork,
    VersionRecord,
)
from annotate_server.domain.person import Person, Role
from annotate_server.domain.training import TrainingPoint, Verdict
from annotate_server.workflows.bootstrap_interval import Interval
from annotate_server.workflows.gate import GateDecision, GateRule, PairedCase, SegmentComparison
from annotate_server.workflows.gate_evidence import GateEvidence, TrainingFacts, evidence_bytes

ROOT = Person("root", Role.ADMIN)
V1, V2, V3, V9 = (f"{digit}" * 12 for digit in (1, 2, 3, 9))
VOID = frozenset({"meta", "link", "input", "br", "line", "circle", "polyline"})


class Strict(HTMLParser):
    """Fails on what is not well formed, on scripts within the page and on what a policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert "style" not in given, tag
        assert not any(name.startswith("on") for name in given), tag
        if tag == "script":
            assert (given.get("src") or "").startswith("/loop/files/")
        if tag in ("input", "select") and given.get("type") != "hidden":
            assert "label" in self.open or given.get("aria-label"), given
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def text_of(answer: httpx.Response) -> str:
    parser = Strict()
    parser.feed(answer.text)
    assert parser.open == []
    return re.sub(r"\s+", " ", " ".join(parser.texts))


def evidence(version: str) -> GateEvidence:
    works = {n: {"Bright": SegmentWork(0.80 + n / 100, 0.9, 10.0, 0.1)} for n in range(3)}
    better = {n: {"Bright": SegmentWork(0.85 + n / 100, 0.9, 8.0, 0.1)} for n in range(3)}
    cases = tuple(PairedCase(f"l{n}", f"c{n}", f"p{n}", works[n], better[n]) for n in range(3))
    gain = Interval(0.05, 0.01, 0.09)
    segment = SegmentComparison("Bright", True, 3, 0.81, 0.86, gain, gain, 10.0, 8.0)
    decision = GateDecision(Verdict.PROMOTE, ("Promoted: the <target> is better.",), (segment,), gain, 3, 2)
    curve = tuple(TrainingPoint(n, 50, 1.0 / (n + 1), 1e-3, n / 2) for n in range(0, 50, 10))
    facts = TrainingFacts(5, 50, 1000, 1000, 12.5, curve=curve, notes=("Norms were frozen.",))
    return GateEvidence("bright_own", V1, version, "set", decision, GateRule(), cases, 0.75, {0.75: 0.86}, facts)


def learned(site: Site) -> None:
    """Give the site a model that learned: v1 was forked, v2 promoted, v3 refused."""
    learning, person = site.services.learning, ROOT
    app = site.services.registry.app("bright")
    registry = site.services.registry
    registry.apps["bright_own"] = replace(app, name="bright_own")  # type: ignore[attr-defined]  # the fake's own
    registry.learned.add("bright_own")  # type: ignore[attr-defined]  # the fake's own
    learning.models.add(
        LearnedModel("bright_own", "bright", origin="bright"), VersionRecord(V1, "bright_own", "d", ()), person
    )
    blob = site.records.blobs.add_bytes(evidence_bytes(evidence(V2)))
    moved = Promotion("bright_own", V2, PromotionKind.GATE, "(gate)", "It is <b>better</b>.", V1, blob)
    learning.models.decide(VersionRecord(V2, "bright_own", "d", (), parent=V1, seconds=12.0), moved, person)
    refused = Promotion("bright_own", V3, PromotionKind.REFUSED, "(gate)", "Worse.", V2, None)
    learning.models.decide(VersionRecord(V3, "bright_own", "d", (), parent=V2), refused, person)


def worked(site: Site) -> None:
    """Keep the work of a few labels."""
    for number, case in enumerate(site.case_ids):
        label = Label(
            f"l{number}", "bright", case, "ann", (), state=LabelState.APPROVED, made_at=site.reception.clock()
        )
        site.records.labels.accept(label, None, ROOT)
        site.services.learning.works.add(
            LabelWork(
                label.id,
                "bright",
                "bright_own",
                V2,
                True,
                True,
                60.0,
                relative_apl=0.5 - number / 10,
                dice=0.8,
                made_at=site.reception.clock(),
            )
        )


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Running]:
    site = make_site(tmp_path)
    learned(site)
    with serving(site) as running:
        yield running


def test_the_list_has_models_that_learn_first(web: Running) -> None:
    with web.client() as client:
        text = text_of(client.get("/loop"))
    assert text.index("bright_own") < text.index("Other models")
    assert "Bright voxels" not in text or "Tests." in text


def test_a_model_shows_its_versions_its_decisions_and_escapes_what_people_wrote(web: Running) -> None:
    worked(web.site)
    with web.client() as client:
        answer = client.get("/loop/models/bright_own")
    text = text_of(answer)
    assert "It is <b>better</b>." in text
    assert "<b>better</b>" not in answer.text
    assert "serves" in text
    assert "3 labels of 3 patients" in text
    assert 'role="img"' in answer.text
    assert "Train now" in text
    assert f"Roll back to {V1}" in text


def test_a_version_shows_what_the_gate_found(web: Running) -> None:
    with web.client() as client:
        text = text_of(client.get(f"/loop/models/bright_own/versions/{V2}"))
        bare = text_of(client.get(f"/loop/models/bright_own/versions/{V3}"))
        missing = client.get(f"/loop/models/bright_own/versions/{V9}")
    for words in ("+0.050 [+0.010, +0.090]", "the <target> is better", "75 %", "Norms were frozen.", "10 → 8"):
        assert words in text
    assert "What the gate found" not in bare
    assert missing.status_code == 404


def test_a_page_may_run_our_script_and_nothing_else(web: Running) -> None:
    with web.client() as client:
        policy = client.get("/loop").headers["content-security-policy"]
        script, style = client.get("/loop/files/live.js"), client.get("/loop/files/style.css")
        other = client.get("/loop/files/base.html.jinja")
    assert "'unsafe" not in policy
    assert "default-src 'none'" in policy
    assert script.headers["content-type"].startswith("text/javascript")
    assert style.headers["content-type"].startswith("text/css")
    assert other.status_code == 404


def test_rolling_back_and_promoting_move_the_alias_and_lead_back(web: Running) -> None:
    models = web.site.services.learning.models
    with web.client() as client:
        back = client.post("/loop/models/bright_own/rollback")
        assert (back.status_code, back.headers["location"]) == (303, "/loop/models/bright_own?done=rollback")
        assert models.champion("bright_own") == V1
        client.post("/loop/models/bright_own/promote", data={"version": V3, "reason": "by eye"})
        assert models.champion("bright_own") == V3
        assert models.promotions("bright_own")[-1].reason == "by eye"
        told = text_of(client.get("/loop/models/bright_own?done=promote"))
    assert "The version serves from the next prediction on." in told


def test_what_is_refused_is_said_on_the_same_page(web: Running) -> None:
    with web.client() as client:
        answer = client.post("/loop/models/bright_own/train")
        wrong = client.post("/loop/models/bright_own/promote", data={"version": V2})
    assert (answer.status_code, wrong.status_code) == (409, 409)
    assert "is approved, so that there is nothing to learn from" in text_of(answer)
    assert 'role="alert"' in answer.text
    assert "serves already" in text_of(wrong)


def test_a_model_is_begun_from_nothing_and_a_bad_name_is_said(web: Running) -> None:
    with web.client() as client:
        begun = client.post("/loop/models", data={"name": "nodules", "project": "bright"})
        bad = client.post("/loop/models", data={"name": "Not a name", "project": "bright"})
        missing = client.post("/loop/models", data={"name": "other", "project": "nowhere"})
    assert (begun.status_code, begun.headers["location"]) == (303, "/loop/models/nodules?done=begin")
    assert web.site.services.learning.models.get("nodules").every_labels == 5
    assert (bad.status_code, missing.status_code) == (422, 404)
    assert "is no name of a model" in text_of(bad)


def test_an_administrator_says_when_it_is_trained(web: Running) -> None:
    with web.client() as client:
        client.post("/loop/models/bright_own/schedule", data={"every_labels": "7", "nightly": "yes"})
    model = web.site.services.learning.models.get("bright_own")
    assert (model.every_labels, model.is_nightly) == (7, True)


def running_training(site: Site) -> Job:
    queue = site.services.jobs
    order = {"model": "bright_own", "champion": V2, "training_set": "s", "recipe": "{}", "full": "no", "notes": ""}
    queue.add(Job("t" * 32, JobKind.TRAIN, order, person="ann", made_at=site.reception.clock()))
    job = queue.claim()
    assert job is not None
    queue.advance(job.id, 0.4, "Step 20 of 50")
    return job


def test_a_running_training_is_shown_and_can_be_cancelled(web: Running) -> None:
    job = running_training(web.site)
    with web.client() as client:
        page, part = client.get("/loop/models/bright_own"), client.get("/loop/models/bright_own/running")
        assert "Step 20 of 50" in text_of(page)
        assert "Train now" not in text_of(page)
        assert "<html" not in part.text
        assert "40 %" in text_of(part)
        gone = client.post(f"/loop/jobs/{job.id}/cancel")
        assert gone.headers["location"] == "/loop/models/bright_own"
        assert "No training runs" in text_of(client.get("/loop/models/bright_own/running"))
        again = client.post(f"/loop/jobs/{job.id}/cancel")
    assert web.site.services.jobs.get(job.id).state is JobState.CANCELLED
    assert again.status_code == 409


def test_jobs_are_listed_with_why_they_failed_and_on_which_device(web: Running) -> None:
    failed = running_training(web.site)
    web.site.services.jobs.fail(failed.id, StateError("the <disk> is full").problem())
    web.site.services.jobs.add(Job("d" * 32, JobKind.DRAFT, {"case": "case1", "model": "bright"}, person="ann"))
    with web.client() as client:
        page, model = client.get("/loop/jobs"), client.get("/loop/models/bright_own")
    text = text_of(page)
    assert "the <disk> is full" in text
    assert "Models run on: cpu" in text
    assert "draft" in text
    assert "The last training failed" in text_of(model)


def test_an_app_offers_to_be_trained_for_a_project_or_says_that_it_cannot(web: Running) -> None:
    with web.client() as client:
        text = text_of(client.get("/loop/models/bright"))
        assert client.get("/loop/models/unknown").status_code == 404
    assert "cannot be trained" in text
    assert "bright_own began as this model" in re.sub(r" +", " ", text)


def test_each_role_sees_and_may_do_what_is_its_own(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    learned(site)
    tokens = {role: site.services.users.add(role.value, role) for role in Role}
    with serving(site, ApiOptions(alone=False)) as web:
        with web.client(Accept="text/html") as client:
            assert client.get("/loop").headers["location"] == "/sign-in"
        seen = {}
        for role in Role:
            with web.client(Authorization=f"Bearer {tokens[role]}") as client:
                page = text_of(client.get("/loop/models/bright_own"))
                statuses = [
                    client.post("/loop/models/bright_own/schedule", data={"every_labels": "1"}).status_code,
                    client.post("/loop/models/bright_own/rollback").status_code,
                ]
                site.services.learning.promoting.promote("bright_own", V2, ROOT) if statuses[1] == 303 else None
                seen[role] = ("Train now" in page, "Train by itself" in page, *statuses)
    assert seen == {
        Role.ANNOTATOR: (False, False, 403, 403),
        Role.REVIEWER: (True, False, 403, 303),
        Role.ADMIN: (True, True, 303, 303),
    }


def test_another_website_cannot_press_a_button(web: Running) -> None:
    with web.client(Origin="https://evil.example") as client:
        assert client.post("/loop/models/bright_own/rollback").status_code == 403
    assert web.site.services.learning.models.champion("bright_own") == V2


def test_a_plot_escapes_its_words_and_keeps_its_points_within_the_picture() -> None:
    dots = [Dot(1, 0.2, "a < b"), Dot(7, 1.9), Dot(4, 0.0)]
    svg = Plot('say "x"', "n", "y & z", dots, [[(1, 0.1), (7, 1.2)]], [Mark(4, "<v2>")]).svg()
    Strict().feed(svg)
    assert "&lt;v2&gt;" in svg
    assert 'aria-label="say &quot;x&quot;"' in svg
    places = [float(number) for number in re.findall(r'c[xy]="([\d.]+)"', svg)]
    assert all(0 <= place <= 640 for place in places)
    assert len(places) == 6
