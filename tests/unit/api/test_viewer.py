"""The viewer is served as it was built, to whoever is signed in, and nothing beside it."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from api_server import Running, make_site, serving

from annotate_server.api.services import ApiOptions
from annotate_server.api.viewer_build import viewer_build
from annotate_server.domain.person import Role

SURFACES = "polySeg.bundle.0123456789abcdef.js"
BUNDLE = "app.bundle.0123456789abcdef.js"
FILES = {
    "index.html": ("text/html; charset=utf-8", True, False, b"<!doctype html><title>viewer</title>"),
    "worklist.html": ("text/html; charset=utf-8", True, False, b"<!doctype html><title>worklist</title>"),
    "app-config.js": ("text/javascript; charset=utf-8", False, False, b"window.config = {}"),
    BUNDLE: ("text/javascript; charset=utf-8", True, True, b"start()"),
    SURFACES: ("text/javascript; charset=utf-8", True, True, b"surfaces()"),
    "codec.wasm": ("application/wasm", True, False, b"\0asm"),
}


def build_into(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    entries = {}
    for name, (kind, is_gzip, is_immutable, content) in FILES.items():
        stored = gzip.compress(content) if is_gzip else content
        (folder / (f"{name}.gz" if is_gzip else name)).write_bytes(stored)
        entries[name] = {
            "type": kind,
            "is_gzip": is_gzip,
            "is_immutable": is_immutable,
            "stored_bytes": len(stored),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    manifest = {"format": 1, "viewer": "stock 1.0", "files": entries}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "private.txt").write_text("the secret is not in the manifest")
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = build_into(tmp_path_factory.mktemp("viewer"))
    with serving(make_site(tmp_path_factory.mktemp("site")), ApiOptions(viewer=folder)) as server:
        yield server


@pytest.fixture
def web(running: Running) -> Iterator[httpx.Client]:
    with running.client(Accept="text/html") as client:
        yield client


def test_the_start_page_leads_to_the_worklist(web: httpx.Client) -> None:
    assert web.get("/").headers["location"] == "/viewer/worklist"
    assert web.get("/viewer").headers["location"] == "/viewer/"


@pytest.mark.parametrize("name", FILES)
def test_a_file_comes_as_it_was_built(web: httpx.Client, name: str) -> None:
    kind, is_gzip, _, content = FILES[name]
    answer = web.get(f"/viewer/{name}")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, kind, content)
    assert answer.headers.get("content-encoding") == ("gzip" if is_gzip else None)
    plain = web.get(f"/viewer/{name}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == content


@pytest.mark.parametrize("address", ["", "annotate?StudyInstanceUIDs=1.2.3", "annotate/server", "local"])
def test_an_address_of_the_viewers_own_answers_its_page(web: httpx.Client, address: str) -> None:
    answer = web.get(f"/viewer/{address}")
    assert answer.content == FILES["index.html"][3]
    assert answer.headers["cache-control"] == "no-store"


def test_the_worklist_is_a_page_of_its_own(web: httpx.Client) -> None:
    answer = web.get("/viewer/worklist")
    assert answer.content == FILES["worklist.html"][3]
    assert answer.headers["cache-control"] == "no-store"


def test_only_what_has_a_digest_in_its_name_is_kept_for_ever(web: httpx.Client) -> None:
    assert "immutable" in web.get(f"/viewer/{BUNDLE}").headers["cache-control"]
    assert web.get("/viewer/app-config.js").headers["cache-control"] == "no-store"
    codec = web.get("/viewer/codec.wasm")
    assert codec.headers["cache-control"] == "private, no-cache"
    again = web.get("/viewer/codec.wasm", headers={"If-None-Match": codec.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_every_file_comes_with_the_policy_since_workers_bring_their_own(web: httpx.Client) -> None:
    for name in ("", BUNDLE, "codec.wasm"):
        policy = web.get(f"/viewer/{name}").headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-eval'" not in policy.replace("'wasm-unsafe-eval'", "")
        assert "http" not in policy
        script = next(part for part in policy.split("; ") if part.startswith("script-src"))
        assert "unsafe-inline" not in script


def test_only_the_worker_that_makes_surfaces_may_make_functions_of_text(web: httpx.Client) -> None:
    may = {name for name in FILES if "'unsafe-eval'" in web.get(f"/viewer/{name}").headers["content-security-policy"]}
    assert may == {SURFACES}


@pytest.mark.parametrize(
    "name",
    [
        "private.txt",
        "manifest.json",
        "../private.txt",
        "..%2f..%2fetc%2fpasswd.txt",
        "%2e%2e/x.js",
        "index.html.gz",
        "/etc/a.b",
    ],
)
def test_what_the_manifest_does_not_name_is_not_there(running: Running, name: str) -> None:
    with httpx.Client(base_url=running.url) as client:
        answer = client.get(f"/viewer/{name}")
    assert answer.status_code == 404
    assert b"secret" not in answer.content


def test_who_is_not_signed_in_gets_no_file_and_a_browser_the_sign_in_page(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    site = make_site(tmp_path_factory.mktemp("site"))
    site.services.users.add("ann", Role.ANNOTATOR)
    options = ApiOptions(viewer=build_into(tmp_path_factory.mktemp("viewer")))
    with serving(site, options) as server, server.client() as client:
        assert client.get(f"/viewer/{BUNDLE}").status_code == 401
        page = client.get("/viewer/", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["location"]) == (303, "/sign-in")


def test_without_a_built_viewer_the_pages_say_how_to_build_it(tmp_path: Path) -> None:
    with serving(make_site(tmp_path), ApiOptions(viewer=tmp_path / "none")) as server, server.client() as client:
        start, viewer = client.get("/"), client.get("/viewer/")
        assert (start.status_code, viewer.status_code) == (200, 404)
        assert "make viewer" in start.text
        assert "make viewer" in viewer.text


def test_a_viewer_that_is_built_while_the_server_runs_is_served_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "viewer"
    with serving(make_site(tmp_path), ApiOptions(viewer=folder)) as server, server.client() as client:
        assert client.get("/viewer/").status_code == 404
        build_into(folder)
        assert client.get("/viewer/").content == FILES["index.html"][3]


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"format": 2, "viewer": "x", "files": {}}', '{"format": 1}'])
def test_a_manifest_that_cannot_be_read_is_no_viewer(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    assert viewer_build(tmp_path) is None
