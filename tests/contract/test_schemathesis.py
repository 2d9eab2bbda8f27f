"""The server against its own description: Schemathesis asks what the description allows and what it does not."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from server_process import ServerProcess, running

from annotate_server.client import AnnotateClient
from annotate_server.domain.project import Project, ReviewPolicy
from annotate_server.testing.phantoms import make_sample_data

HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
SECONDS = 75
CONFIG = """\
seed = 1
hooks = {hooks}

[generation]
database = "none"

# An id that nobody has is the usual one in what is generated: most of the time they are those of what is there.
[dictionaries]
revisions = {{ values = ["*"] }}
{dictionaries}
[parameters]
{parameters}
# Any revision but the present one is stale: most changes are asked for on whatever there is.
"header.If-Match" = {{ dictionary = "revisions", probability = 0.8 }}

[checks]
# What a schema cannot say is refused with a problem: a point outside of the volume, a segment that is not there,
# a session that has ended, a revision that is not the present one.
positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 410, 412, 422, 428, 429]
# If-Match is looked at before the body: a header that names no revision is a precondition that failed.
negative_data_rejection.expected-statuses = ["4xx"]

# Bytes that are no file of a kind that is read.
[[operations]]
include-name = ["POST /api/v1/cases", "POST /api/v1/projects/{{project_id}}/cases/{{case_id}}/labels"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 415, 422, 429]
"""


Ids = Mapping[str, Sequence[str | int]]


@dataclass(frozen=True)
class Prepared:
    """A server with something of everything in it; `ids` are what there is, by what the paths call it."""

    server: ServerProcess
    token: str
    ids: Ids


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[Prepared]:
    make_sample_data(tmp_path / "samples")
    with running(tmp_path / "workspace", tmp_path / "samples/images") as server:
        server.wait_until_ready().wait_for_cases(3)
        with server.client("ann") as ann, server.client("root") as root:
            ids = _something_of_everything(ann, root)
        answer = httpx.post(f"{server.url}/api/v1/users", json={"name": "root", "role": "admin"})
        yield Prepared(server, answer.json()["token"], ids)


@pytest.mark.slow
def test_the_server_keeps_what_its_description_says(prepared: Prepared, tmp_path: Path) -> None:
    config, report = tmp_path / "schemathesis.toml", tmp_path / "report.json"
    config.write_text(_config(prepared.ids), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("st")), "--config-file", str(config), "--no-color", "run"]
    options = [
        f"{prepared.server.url}/api/v1/openapi.json",
        *("--header", f"Authorization: Bearer {prepared.token}"),
        *("--max-time", str(SECONDS), "--max-examples", "10", "--continue-on-failure"),
        *("--exclude-path-regex", "/events$"),  # a stream of events ends with its job: there is no answer to wait for
        *("--report", "json", "--report-json-path", str(report)),
    ]
    run = subprocess.run([*command, *options], check=False, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert run.returncode == 0, run.stdout[-8000:] + prepared.server.log()
    with prepared.server.client(token=prepared.token) as client:  # the run has not locked itself out
        assert client.projects()


def _something_of_everything(ann: AnnotateClient, root: AnnotateClient) -> Ids:
    """Open, draft, submit and leave; return the ids of it all, among them those of sessions in every state."""
    chest, torso = (case.id for case in root.cases() if case.modality != "MR")
    segments = root.model("demo_ct").segments
    root.add_project(Project("seen", "Seen twice", segments, ("demo_ct",), review=ReviewPolicy.OTHER_PERSON))
    job = root.draft_case(chest, "demo_ct")
    root.wait(job.id)
    submitted, left, present = ann.open("seen", chest), root.open("any_structure", chest), root.open("demo_ct", torso)
    label = submitted.submit()
    left.leave()
    return {
        "case_id": [case.id for case in root.cases()],
        "session_id": [present.id, root.open("any_structure", torso).id, left.id, submitted.id],
        "label_id": [label.id],
        "prediction_id": [root.prediction(chest).id],
        "job_id": [job.id],
        "project_id": ["seen", "demo_ct", "any_structure"],
        "name": ["demo_ct", "any_structure"],
        "index": [1, 2],
    }


def _config(ids: Ids) -> str:
    dictionaries = "".join(f"{name} = {{ values = {json.dumps(values)} }}\n" for name, values in ids.items())
    parameters = "".join(f'"path.{name}" = {{ dictionary = "{name}", probability = 0.8 }}\n' for name in ids)
    return CONFIG.format(hooks=json.dumps(str(HOOKS)), dictionaries=dictionaries, parameters=parameters)
