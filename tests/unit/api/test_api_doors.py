"""Who gets in: every route without a token, every role at every route, other websites, other names."""

import re
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from api_server import Running, make_site, serving

from annotate_server.api.app import create_app, description
from annotate_server.api.doorkeeper import OPEN_PATHS
from annotate_server.api.monailabel import doors
from annotate_server.api.services import ApiOptions, Limits
from annotate_server.domain.person import Role

ADMIN_ONLY = {
    ("GET", "/api/v1/users"),
    ("POST", "/api/v1/users"),
    ("DELETE", "/api/v1/users/{name}"),
    ("POST", "/api/v1/projects"),
    ("PUT", "/api/v1/projects/{project_id}"),
    *((method, "/model/{model}") for method in ("GET", "PUT", "DELETE")),
    *(("DELETE", path) for path in ("/datastore/", "/datastore", "/datastore/image", "/datastore/label")),
    *(("DELETE", f"/batch/infer{slash}") for slash in ("", "/")),
    *(("GET", path) for path in ("/logs", "/logs/", "/logs/gpu", "/logs/gpu/")),
    ("POST", "/batch/infer/{model}"),
    ("POST", "/api/v1/models"),
    ("PUT", "/api/v1/models/{name}/training"),
}
STOCK = {
    (method, route.path)
    for router in (doors.OPEN, *doors.DOORS)
    for route in router.routes
    for method in route.methods  # type: ignore[attr-defined]
}
"""The dialect of MONAI Label's clients; it says 501 of what is not there."""
REVIEWER_ONLY = {
    ("POST", "/api/v1/labels/{label_id}/review"),
    ("PUT", "/datastore/updatelabelinfo"),
    ("PUT", "/datastore/label/info"),
    *(("POST", f"/{noun}{rest}") for noun in ("train", "scoring") for rest in ("", "/")),
    *(("DELETE", f"/{noun}{slash}") for noun in ("train", "scoring") for slash in ("", "/")),
    ("POST", "/train/{model}"),
    ("POST", "/scoring/{method}"),
    *(("POST", f"/api/v1/models/{{name}}/{act}") for act in ("train", "promote", "rollback")),
}
HIDDEN = {
    ("GET", "/"),
    ("GET", "/sign-in"),
    ("POST", "/sign-in"),
    ("POST", "/sign-out"),
    ("GET", "/viewer"),
    ("GET", "/viewer/{name:path}"),
    ("GET", "/api/v1/openapi.json"),
}
STREAMS = {("GET", "/api/v1/events")}
BODIES: dict[str, object] = {
    "/api/v1/projects": {"id": "p", "title": "P"},
    "/api/v1/projects/{project_id}": {"title": "P"},
    "/api/v1/users": {"name": "somebody"},
    "/api/v1/labels/{label_id}/review": {"verdict": "approved"},
    "/api/v1/models": {"name": "mine", "project": "p"},
    "/api/v1/models/{name}/training": {"every_labels": 5, "nightly": False},
    "/api/v1/models/{name}/train": {},
    "/api/v1/models/{name}/promote": {"version": "0" * 12},
    "/api/v1/models/{name}/rollback": {},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(make_site(tmp_path_factory.mktemp("site"))) as server:
        yield server


@pytest.fixture(scope="module")
def tokens(running: Running) -> dict[Role, str]:
    return {role: running.site.services.users.add(f"a {role}", role) for role in Role}


def every_route(running: Running) -> list[tuple[str, str]]:
    """Return method and path of everything that the application answers to."""
    app = create_app(running.site.services)
    documented = {(method.upper(), path) for path, methods in description(app)["paths"].items() for method in methods}
    dicomweb = {
        (method, path) for path, methods in walked(app.routes) if path.startswith("/dicomweb") for method in methods
    }
    assert len(dicomweb) > 10
    loop = {(method, path) for path, methods in walked(app.routes) if path.startswith("/loop") for method in methods}
    return sorted(documented | HIDDEN | STOCK | dicomweb | loop)


def walked(routes: object) -> Iterator[tuple[str, set[str]]]:
    for route in routes:  # type: ignore[attr-defined]
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from walked(inner.routes)
        else:
            yield route.path, set(route.methods)


def filled(path: str) -> str:
    return re.sub(r"\{index\}", "1", re.sub(r"\{(?!index)\w+(:path)?\}", "x", path))


def test_the_walk_below_leaves_no_route_out(running: Running) -> None:
    app = create_app(running.site.services)
    known = {path.removeprefix("/api/v1") for _, path in every_route(running)}
    assert {path.removeprefix("/api/v1") for path, _ in walked(app.routes)} == known


def test_without_a_token_every_route_is_closed_but_the_few_that_are_listed(
    running: Running, tokens: dict[Role, str]
) -> None:
    wrong = [
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic eDp5"},
        {"Cookie": "annotate_session=x"},
    ]
    with running.client() as web:
        for headers in wrong:
            for method, path in [*every_route(running), ("GET", "/nothing"), ("GET", "/api/v1/nothing")]:
                answer = web.request(method, filled(path), headers=headers, json={})
                if path not in OPEN_PATHS:
                    assert answer.status_code == 401, (method, path, headers)
                    assert answer.headers["www-authenticate"].startswith("Bearer")
                    assert answer.headers["content-type"] == "application/problem+json"


def test_the_open_routes_are_health_and_sign_in() -> None:
    assert {"/health/live", "/health/ready", "/sign-in", "/auth", "/auth/", "/auth/token"} == OPEN_PATHS


@pytest.mark.parametrize("role", list(Role))
def test_every_role_gets_as_far_as_it_may(running: Running, tokens: dict[Role, str], role: Role) -> None:
    with running.client(Authorization=f"Bearer {tokens[role]}") as web:
        for method, path in every_route(running):
            if (method, path) in STREAMS or path in OPEN_PATHS or path == "/sign-out":
                continue
            if method == "POST" and path.startswith("/loop"):
                continue  # forms of a page: who may send them is tested with the page
            needed = Role.ANNOTATOR
            needed = Role.ADMIN if (method, path) in ADMIN_ONLY else needed
            needed = Role.REVIEWER if (method, path) in REVIEWER_ONLY else needed
            answer = web.request(method, filled(path), json=BODIES.get(path, {}))
            assert (answer.status_code == 403) == (not role.includes(needed)), (method, path, answer.text)
            assert answer.status_code != 401, (method, path)
            is_missing = (method, path) in STOCK and answer.status_code == 501
            assert is_missing or answer.status_code < 500, (method, path, answer.text)


def test_somebody_elses_session_stays_closed(running: Running, tokens: dict[Role, str]) -> None:
    with running.client(Authorization=f"Bearer {tokens[Role.ANNOTATOR]}") as web:
        mine = web.post("/api/v1/projects/bright/cases/case1/sessions").headers["location"]
    with running.client(Authorization=f"Bearer {tokens[Role.ADMIN]}") as web:
        for verb, path in (
            ("GET", ""),
            ("GET", "/labelmap"),
            ("POST", "/undo"),
            ("POST", "/submit"),
            ("POST", "/resume"),
        ):
            assert web.request(verb, mine + path).status_code == 403, path
        assert web.get("/api/v1/sessions").json() == []


def test_a_removed_user_is_out_at_once_with_token_and_cookie(running: Running, tokens: dict[Role, str]) -> None:
    token = running.site.services.users.add("leaver", Role.ANNOTATOR)
    with running.client() as web:
        assert web.post("/sign-in", data={"token": token}).headers["location"] == "/"
        assert web.get("/api/v1/me").json()["name"] == "leaver"
        with running.client(Authorization=f"Bearer {tokens[Role.ADMIN]}") as admin:
            assert admin.delete("/api/v1/users/leaver").status_code == 204
            assert admin.delete("/api/v1/users/leaver").status_code == 404
        assert web.get("/api/v1/me").status_code == 401
        assert web.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_a_cookie_hides_the_token_and_stays_on_this_site(running: Running, tokens: dict[Role, str]) -> None:
    with running.client() as web:
        set_cookie = web.post("/sign-in", data={"token": tokens[Role.ANNOTATOR]}).headers["set-cookie"]
        assert tokens[Role.ANNOTATOR] not in set_cookie
        assert "HttpOnly" in set_cookie
        assert "SameSite=strict" in set_cookie
        assert "Secure" not in set_cookie
        assert web.get("/", headers={"Accept": "text/html"}).status_code == 200
        origin = {"Origin": running.url}
        assert web.post("/sign-out", headers=origin).headers["location"] == "/sign-in"
        assert web.get("/api/v1/me").status_code == 401


def test_a_cookie_is_for_tls_only_where_browsers_come_by_tls(running: Running, tokens: dict[Role, str]) -> None:
    with serving(running.site, ApiOptions(alone=False, is_secure=True)) as secure, secure.client() as web:
        answer = web.post("/sign-in", data={"token": tokens[Role.ANNOTATOR]})
        assert "Secure" in answer.headers["set-cookie"]
        assert "strict-transport-security" in answer.headers


def test_another_website_changes_nothing_by_cookie(running: Running, tokens: dict[Role, str]) -> None:
    with running.client() as web:
        web.post("/sign-in", data={"token": tokens[Role.ADMIN]})
        body = {"name": "intruder", "role": "admin"}
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site", "Origin": running.url},
            {},
        ):
            assert web.post("/api/v1/users", json=body, headers=headers).status_code == 403, headers
        same = {"Origin": running.url, "Sec-Fetch-Site": "same-origin"}
        assert web.post("/api/v1/users", json={**body, "role": "annotator"}, headers=same).status_code == 201
        assert "intruder" in [user["name"] for user in web.get("/api/v1/users").json()]


def test_a_page_sends_who_is_not_signed_in_to_the_form(running: Running, tokens: dict[Role, str]) -> None:
    with running.client() as web:
        answer = web.get("/", headers={"Accept": "text/html,*/*"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
        form = web.get("/sign-in")
        assert "default-src 'none'" in form.headers["content-security-policy"]
        assert not re.search(r"(src|href)=", form.text)


def test_sign_ins_that_fail_are_slowed_down(running: Running, tokens: dict[Role, str]) -> None:
    with serving(running.site) as fresh, fresh.client() as web:
        statuses = [web.post("/sign-in", data={"token": f"guess {n}"}).status_code for n in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        assert web.post("/sign-in", data={"token": tokens[Role.ADMIN]}).status_code == 429


def test_alone_a_declared_name_is_taken_and_other_websites_are_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(make_site(tmp_path_factory.mktemp("alone"))) as server, server.client() as web:
        named = web.get("/api/v1/me", headers={"X-Annotate-Name": "Anne"}).json()
        assert named == {"name": "Anne", "role": "admin", "verified": False}
        project = {"id": "p", "title": "P"}
        evil = {"Origin": "https://evil.example"}
        assert web.post("/api/v1/projects", json=project, headers=evil).status_code == 403
        assert web.post("/api/v1/projects", json=project).status_code == 201
        assert web.get("/api/v1/me", headers={"X-Annotate-Name": "x" * 65}).status_code == 422
    with serving(server.site, ApiOptions(alone=False)) as server, server.client() as web:
        assert web.get("/api/v1/me").status_code == 401


def test_a_request_that_calls_the_server_by_another_name_is_refused(running: Running) -> None:
    with running.client() as web:
        for host in ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example:1", ""):
            assert web.get("/health/live", headers={"Host": host}).status_code == 400, host
        for host in ("localhost:8000", "LOCALHOST", "127.0.0.1", "[::1]:8000"):
            assert web.get("/health/live", headers={"Host": host}).status_code == 200, host


def test_every_answer_carries_security_headers_and_an_id(running: Running) -> None:
    with running.client() as web:
        for path in ("/health/live", "/api/v1/me", "/sign-in"):
            headers = web.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert re.fullmatch("[0-9a-f]{16}", headers["x-request-id"])
            assert "access-control-allow-origin" not in headers
            assert "server" not in headers


def test_methods_that_a_route_does_not_have_are_problems(running: Running, tokens: dict[Role, str]) -> None:
    with running.client(Authorization=f"Bearer {tokens[Role.ADMIN]}") as web:
        answer = web.delete("/api/v1/me")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
        assert answer.json()["type"].endswith("method-not-allowed")
        assert web.put("/api/v1/cases").headers["allow"] == "GET, POST"
        assert web.put("/sign-in").headers["allow"] == "GET, POST"
        assert web.get("/api/v1/nothing").json()["status"] == 404


def test_one_person_cannot_take_every_place(tmp_path_factory: pytest.TempPathFactory) -> None:
    site = make_site(tmp_path_factory.mktemp("busy"))
    options = ApiOptions(limits=Limits(person_requests=2, person_waiting=1))
    point = {"kind": "point", "points_mm": [[-41.5, 17.25, 103.0]], "model": "bright"}
    with serving(site, options) as server, server.client() as web:
        session = web.post("/api/v1/projects/bright/cases/case1/sessions").headers["location"]
        site.compute.hold = threading.Event()
        waiting = [
            threading.Thread(target=lambda: httpx.post(f"{server.url}{session}/prompts", json=point)) for _ in "ab"
        ]
        for thread in waiting:
            thread.start()
        watching = {"X-Annotate-Name": "watch"}
        while b"annotate_prompts_waiting 2.0" not in web.get("/metrics", headers=watching).content:
            threading.Event().wait(0.01)
        answers: list[int] = []
        third = threading.Thread(target=lambda: answers.append(httpx.get(f"{server.url}/api/v1/me").status_code))
        third.start()
        threading.Event().wait(1.0)
        assert answers == []
        refused = web.get("/api/v1/me")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        assert web.get("/api/v1/me", headers={"X-Annotate-Name": "somebody else"}).status_code == 200
        site.compute.hold.set()
        for thread in (*waiting, third):
            thread.join()
        assert answers == [200]
        assert web.get("/api/v1/me").status_code == 200


def test_headers_beyond_the_limit_are_refused(running: Running) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 20_000)
        assert re.match(rb"HTTP/1.1 (400|431) ", connection.recv(100))
