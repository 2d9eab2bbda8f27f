"""What the stock clients of MONAI Label were seen to send (`tests/peer/record.py`) is answered as it was then."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from monailabel_site import Site, serving_site

GOLDEN = Path(__file__).parent / "monailabel_golden"
CLIENTS = ("slicer_module", "slicer_reviewer", "ohif_plugin")
"""The Python client sends the same bytes as Slicer's module."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving_site(tmp_path_factory.mktemp("golden")) as made:
        yield made


def recorded(client: str) -> Sequence[Mapping[str, Any]]:
    exchanges: Sequence[Mapping[str, Any]] = json.loads((GOLDEN / f"{client}.json").read_text())
    return exchanges


def test_every_client_has_a_recording() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(CLIENTS)


@pytest.mark.slow
def test_recorded_requests_are_answered_as_they_were(site: Site) -> None:
    differing = []
    with httpx.Client(base_url=site.url, timeout=60, follow_redirects=True) as web:
        for client in CLIENTS:
            named = dict(site.cases)
            for number, exchange in enumerate(recorded(client)):
                answer = web.send(request_of(web, exchange, named))
                found, wanted = told(answer), {key: exchange[key] for key in ("status", "kind", "keys")}
                if found != wanted:
                    differing.append((client, number, exchange["method"], exchange["path"], wanted, found))
                if answer.status_code >= 400:
                    assert len(answer.json()["detail"]) > 5
                if exchange["path"] == "/session/":
                    named["sent"] = answer.json()["session_id"]
    assert not differing


def request_of(web: httpx.Client, exchange: Mapping[str, Any], cases: Mapping[str, str]) -> httpx.Request:
    path = exchange["path"]
    for name, case_id in cases.items():
        path = path.replace(f"{{{name}}}", case_id)
    body = exchange.get("body", "").encode() or base64.b64decode(exchange.get("body_base64", ""))
    request = web.build_request(exchange["method"], path, headers=exchange["headers"], content=body or None)
    assert urlsplit(str(request.url)).path == urlsplit(path).path
    return request


def told(answer: httpx.Response) -> Mapping[str, Any]:
    """Return what of an answer is compared."""
    kind = answer.headers.get("content-type", "").split(";")[0]
    words = answer.json() if kind.endswith("json") and answer.content else None
    keys = sorted(words) if isinstance(words, dict) and answer.status_code == 200 else []
    return {"status": answer.status_code, "kind": kind, "keys": keys}
