"""Requests that are handed on to an archive: as they came, to it alone, and what may go wrong on the way."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from api_server import Running, make_site, serving
from fake_archive import Answer, FakeArchive, fake_archive

from annotate_server.api.dicomweb.archive_door import renamed
from annotate_server.api.services import ApiOptions, Limits
from annotate_server.domain.person import Role
from annotate_server.stores.dicomweb_line import ArchiveLine

SECRET = "Basic c2VjcmV0"  # noqa: S105  of a fake


@dataclass
class Between:
    """A server between an archive and whoever asks."""

    archive: FakeArchive
    running: Running
    web: httpx.Client


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Between]:
    site = make_site(tmp_path_factory.mktemp("site"))
    with fake_archive() as archive:
        line = ArchiveLine(archive.address(timeout_s=1.0, authorization=SECRET))
        site = replace(site, services=replace(site.services, archive=line))
        options = ApiOptions(limits=Limits(upload_bytes=1 << 20))
        with serving(site, options) as running, running.client() as web:
            yield Between(archive, running, web)
        line.hang_up()


def test_query_and_conditions_arrive_as_they_were_sent_and_nothing_else_does(between: Between) -> None:
    query = "includefield=00081030&includefield=all&PatientName=A*B%5EC&x=%2a&y=a+b%20c,d&limit=10"
    between.archive.answers["/studies"] = Answer()
    sent = {"If-None-Match": '"abc"', "Accept": "application/dicom+json", "Cookie": "a=b", "Connection": "keep-alive"}
    assert between.web.get(f"/dicomweb/studies?{query}", headers=sent).status_code == 200
    asked = between.archive.asked[-1]
    assert asked.target == f"/rs/studies?{query}"
    assert (asked.headers["If-None-Match"], asked.headers["Accept"]) == ('"abc"', "application/dicom+json")
    assert asked.headers["Authorization"] == SECRET
    assert asked.headers["Host"] == between.archive.url.removeprefix("http://")
    assert not {"Cookie", "Forwarded", "X-Forwarded-For"} & {name.title() for name in asked.headers}


@pytest.mark.parametrize("status", [204, 304, 400, 404, 406, 410, 500, 501])
def test_what_the_archive_answers_is_answered(between: Between, status: int) -> None:
    between.archive.answers["/studies/1.2/metadata"] = Answer(status, b"", {"ETag": '"t"'})
    answer = between.web.get("/dicomweb/studies/1.2/metadata")
    assert (answer.status_code, answer.headers.get("etag")) == (status, '"t"'), answer.text


def test_what_the_archive_says_of_itself_and_its_visitors_stays_behind(between: Between) -> None:
    headers = {
        "Content-Type": "text/html",
        "Set-Cookie": "a=b",
        "Server": "Archive 1",
        "Access-Control-Allow-Origin": "*",
        "Keep-Alive": "timeout=5",
        "Content-Security-Policy": "script-src *",
    }
    between.archive.answers["/studies"] = Answer(404, b"<script>alert(1)</script>", headers)
    answer = between.web.get("/dicomweb/studies")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert not {"set-cookie", "server", "keep-alive", "access-control-allow-origin"} & set(answer.headers)
    between.web.get("/dicomweb/studies")
    assert "cookie" not in between.archive.asked[-1].headers


@pytest.mark.parametrize(
    ("status", "expected", "words"),
    [
        (301, 502, "sends on to another address"),
        (302, 502, "sends on to another address"),
        (307, 502, "sends on to another address"),
        (401, 502, "ANNOTATE_ARCHIVE_USER"),
        (403, 502, "does not let the server in"),
        (503, 503, "cannot answer now"),
    ],
)
def test_an_answer_that_leads_elsewhere_or_is_about_the_server_is_a_problem(
    between: Between, status: int, expected: int, words: str
) -> None:
    headers = {"Location": "http://127.0.0.1:1/elsewhere", "WWW-Authenticate": "Basic"}
    between.archive.answers["/studies"] = Answer(status, b"", headers)
    count = len(between.archive.asked)
    answer = between.web.get("/dicomweb/studies")
    assert (answer.status_code, answer.headers["content-type"]) == (expected, "application/problem+json")
    assert words in answer.json()["detail"]
    assert "www-authenticate" not in answer.headers
    assert len(between.archive.asked) == count + 1


def test_an_archive_that_is_silent_is_too_slow(between: Between) -> None:
    held = threading.Event()
    between.archive.answers["/studies"] = Answer(wait=held)
    answer = between.web.get("/dicomweb/studies")
    held.set()
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:annotate-server:problem:archive-too-slow")
    assert "did not answer within 1 s" in answer.json()["detail"]


def test_an_answer_that_is_cut_off_is_cut_off_and_no_whole_one(between: Between) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    between.archive.answers["/studies/1/series/2/instances/3/frames/1"] = Answer(200, b"half", headers, cut=True)
    with pytest.raises(httpx.RemoteProtocolError):
        between.web.get("/dicomweb/studies/1/series/2/instances/3/frames/1")


@pytest.mark.parametrize(
    "path",
    [
        "/dicomweb/../api/v1/cases/x",
        "/dicomweb/studies/..%2f..%2fpatients",
        "/dicomweb/studies/%2e%2e/%2e%2e/tools",
        "/dicomweb/patients",
        "/dicomweb//127.0.0.1/x",
        "/dicomweb/studies/a%20b",
        "/dicomweb/studies/1@evil",
    ],
)
def test_no_address_leads_out_of_the_archives_dicomweb(between: Between, path: str) -> None:
    count = len(between.archive.asked)
    url = httpx.URL(between.running.url)
    with httpx.Client() as client:
        request = client.build_request("GET", url)
        request.extensions["target"] = path.encode()
        assert client.send(request).status_code == 404
    assert len(between.archive.asked) == count


def test_json_names_the_server_where_the_archive_named_itself(between: Between) -> None:
    text = f'[{{"00081190":{{"vr":"UR","Value":["{between.archive.url}/rs/studies/1.2"]}}}}]' * 2000
    between.archive.answers["/studies"] = Answer(content=text.encode(), headers={"Content-Type": "application/json"})
    for accepted in ("gzip", "identity"):
        answer = between.web.get("/dicomweb/studies", headers={"Accept-Encoding": accepted})
        assert answer.text == text.replace(f"{between.archive.url}/rs", f"{between.running.url}/dicomweb")
        assert answer.headers.get("content-encoding", "identity") == accepted


def test_an_address_is_replaced_wherever_it_is_split() -> None:
    text = b"x http://a/rs/1 http://a/r http://a/rs y"

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(text), size):
            yield text[start : start + size]

    async def joined(size: int) -> bytes:
        return b"".join([part async for part in renamed(pieces(size), b"http://a/rs", b"http://bb/dicomweb")])

    for size in range(1, len(text) + 1):
        assert asyncio.run(joined(size)) == text.replace(b"http://a/rs", b"http://bb/dicomweb")


def test_only_reviewers_store_and_nobody_deletes(between: Between, tmp_path_factory: pytest.TempPathFactory) -> None:
    users = between.running.site.services.users
    between.archive.answers["/studies"] = Answer(200, b"{}")
    token = {role: users.add(f"one {role}", role) for role in Role}
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}
    try:
        for role, status in ((Role.ANNOTATOR, 403), (Role.REVIEWER, 200)):
            headers = {**kind, "Authorization": f"Bearer {token[role]}"}
            assert between.web.post("/dicomweb/studies", content=b"body", headers=headers).status_code == status
        asked = between.archive.asked[-1]
        assert (asked.method, asked.body, asked.headers["Content-Type"]) == ("POST", b"body", kind["Content-Type"])
        assert asked.headers["Authorization"] == SECRET
        headers = {**kind, "Authorization": f"Bearer {token[Role.ADMIN]}"}
        count = len(between.archive.asked)
        assert between.web.post("/dicomweb/studies", content=b"x" * (2 << 20), headers=headers).status_code == 413
        assert between.web.delete("/dicomweb/studies/1.2", headers=headers).status_code == 405
        assert between.web.put("/dicomweb/studies/1.2", headers=headers).status_code == 405
        assert between.web.post("/dicomweb/series", content=b"x", headers=headers).status_code == 405
        assert len(between.archive.asked) == count
        assert between.web.get("/dicomweb/studies").status_code == 401
    finally:
        for role in Role:
            users.remove(f"one {role}")


def test_an_archive_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with fake_archive() as gone:
        address = gone.address()
    site, line = make_site(tmp_path), ArchiveLine(address)
    site = replace(site, services=replace(site.services, archive=line))
    with serving(site) as running, running.client() as web:
        answer = web.get("/dicomweb/studies")
    line.hang_up()
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:annotate-server:problem:archive-unreachable")
    assert "cannot be reached" in answer.json()["detail"]
