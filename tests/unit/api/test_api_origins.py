"""Pages of other websites: none may ask, but those that the administrator named, who may read errors too."""

from collections.abc import Iterator

import httpx
import pytest
from api_server import make_site, serving

from annotate_server.api.services import ApiOptions
from annotate_server.api.who import COOKIE
from annotate_server.domain.errors import InvalidSettings
from annotate_server.domain.person import Role
from annotate_server.settings import read_settings

VIEWER, EVIL = "https://viewer.example:3000", "http://evil.example"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
FROM_PAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    options = ApiOptions(origins=frozenset({VIEWER}))
    with serving(make_site(tmp_path_factory.mktemp("site")), options) as running, running.client() as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/info/", 200),
        ("POST", "/activelearning/random", 200),
        ("POST", "/infer/nothing", 404),
        ("GET", "/x", 404),
    ],
)
def test_a_named_website_reads_answers_and_errors(web: httpx.Client, method: str, path: str, status: int) -> None:
    answer = web.request(method, path, headers={"Origin": VIEWER, **FROM_PAGE})
    assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (status, VIEWER)
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


def test_a_named_website_is_told_beforehand_what_it_may_send(web: httpx.Client) -> None:
    answer = web.options("/train/", headers={"Origin": VIEWER, **ASKS})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == VIEWER
    assert {"POST", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    assert {"Content-Type", "Authorization"} <= set(answer.headers["access-control-allow-headers"].split(", "))


def test_another_website_reads_and_changes_nothing(web: httpx.Client) -> None:
    assert web.post("/activelearning/random", json={}, headers={"Origin": EVIL, **FROM_PAGE}).status_code == 403
    for answer in (
        web.get("/info/", headers={"Origin": EVIL}),
        web.options("/train/", headers={"Origin": EVIL, **ASKS}),
    ):
        assert "access-control-allow-origin" not in answer.headers
        assert answer.status_code in (200, 405)
        assert "Origin" in answer.headers["vary"], "a cache must not give one website's answer to another"


def test_the_cookie_of_the_sign_in_is_of_no_use_to_a_named_website(tmp_path_factory: pytest.TempPathFactory) -> None:
    options = ApiOptions(origins=frozenset({VIEWER}))
    with serving(make_site(tmp_path_factory.mktemp("people")), options) as running, running.client() as client:
        token = running.site.services.users.add("ann", Role.ADMIN)
        signed = client.post("/sign-in", data={"token": token}, headers={"Origin": running.url})
        assert COOKIE in signed.cookies or COOKIE in client.cookies
        asked = client.post("/activelearning/random", json={}, headers={"Origin": VIEWER, **FROM_PAGE})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (403, VIEWER)
        client.cookies.clear()
        bearer = {"Origin": VIEWER, "Authorization": f"Bearer {token}"}
        assert client.post("/activelearning/random", json={}, headers=bearer).status_code == 200


@pytest.mark.parametrize("wrong", ["*", "null", "https://viewer.example/", "viewer.example", "https://Viewer.example"])
def test_what_is_no_website_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("ANNOTATE_ALLOWED_ORIGINS", f'["{wrong}"]')
    with pytest.raises(InvalidSettings, match="allowed_origins"):
        read_settings()


def test_websites_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNOTATE_ALLOWED_ORIGINS", '["https://viewer.example:3000", "http://[::1]:3000"]')
    assert read_settings().allowed_origins == ("https://viewer.example:3000", "http://[::1]:3000")
