"""kill -9 of the trainer, and now and then of the whole server, at random moments: trainings go on, what serves stays.

Two kills by default; ANNOTATE_KILLS=50 asks for more. With -s the figures are printed.
"""

import hashlib
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from server_process import ServerProcess, running
from test_kill import faults
from toy_model import NAME, approve, write_app, write_phantoms

from annotate_server.client import AnnotateClient
from annotate_server.client.answers import RemoteJob
from annotate_server.domain.training import TrainingPoint

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("ANNOTATE_KILLS", "2"))
RECIPE = "steps = 60\nfull_steps = 120\nfull_learning_rate = 5e-3\nsweep = [0.5, 1.0]\ncheckpoint_every = 10"
CASES = 6
SERVER_EVERY = 7
"""Each so manieth kill is one of the whole server."""
LONGEST_S = 25.0
"""Within which a kill comes after a trainer has begun: it imports for some seconds, then learns, then drafts."""
TRAINER_NICE = 15


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    apps = write_app(tmp_path / "apps", RECIPE)
    studies = write_phantoms(tmp_path / "studies", CASES)
    settings = {"ANNOTATE_APPS": json.dumps([str(apps)]), "ANNOTATE_DEVICE": "cpu"}
    with running(tmp_path / "workspace", studies, settings) as started:
        yield started.wait_until_ready().wait_for_cases(CASES)


@dataclass
class Killing:
    """A server whose trainer is killed again and again, and what was seen of it."""

    server: ServerProcess
    own: str
    moments: random.Random = field(default_factory=lambda: random.Random(6))  # noqa: S311
    trainer_kills: int = 0
    server_kills: int = 0
    jobs: set[str] = field(default_factory=set)
    with_curve: int = 0
    resumed: int = 0

    def once(self, client: AnnotateClient) -> None:
        """Kill at a random moment of a training; order another where the last has ended."""
        job, before = self._trainer(client)
        time.sleep(self.moments.uniform(0.0, LONGEST_S))
        curve = client.curve(job.id)
        if self.moments.randrange(SERVER_EVERY) == 0:
            self.server.kill()
            self.server.start()
            self.server_kills += 1
        else:
            try:
                before.kill()
            except psutil.NoSuchProcess:
                return  # it ended before its moment came
            self.trainer_kills += 1
        self._resumes(job, curve)

    def _trainer(self, client: AnnotateClient) -> tuple[RemoteJob, psutil.Process]:
        """Return the training that runs, and its process; one that has ended makes room for the next."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            job = client.train(self.own, is_full=True)
            self.jobs.add(job.id)
            for worker in self.server.workers():
                if worker.nice() >= TRAINER_NICE:
                    return job, worker
            time.sleep(0.02)
        raise AssertionError(f"no trainer came:\n{self.server.log()}")

    def _resumes(self, job: RemoteJob, before: tuple[TrainingPoint, ...]) -> None:
        """See that the points of the curve are still there: what a checkpoint held is not computed again."""
        if not before:
            return
        self.with_curve += 1
        with self.server.client() as client:
            after = {point.step: point.elapsed_s for point in client.curve(job.id)}
        kept = [after.get(point.step) == point.elapsed_s for point in before]
        self.resumed += all(kept[:-1])


def served(server: ServerProcess, client: AnnotateClient, own: str) -> tuple[str, str]:
    """Return the version that serves, and the SHA-256 of the weights on the disk."""
    learned = client.model(own).learned
    assert learned is not None
    weights = client.version_weights(own, str(learned.champion))
    (sha256,) = weights.values()
    content = (server.workspace / "blobs" / sha256[:2] / sha256).read_bytes()
    return str(learned.champion), hashlib.sha256(content).hexdigest()


def assert_whole(server: ServerProcess, client: AnnotateClient, own: str) -> int:
    """Assert that every version that is listed is there to its last byte; return how many there are."""
    learned = client.model(own).learned
    assert learned is not None
    for version in learned.versions:
        for sha256 in client.version_weights(own, version).values():
            content = (server.workspace / "blobs" / sha256[:2] / sha256).read_bytes()
            assert hashlib.sha256(content).hexdigest() == sha256
    return len(learned.versions)


def test_trainings_go_on_after_kills_and_what_serves_never_changes(server: ServerProcess, tmp_path: Path) -> None:
    with server.client() as client:
        approve(client, NAME, tmp_path, range(1, CASES + 1))
        own = client.train(NAME).order["model"]
    killing = Killing(server, own)
    seen: dict[str, str] = {}
    while killing.trainer_kills + killing.server_kills < KILLS:
        with server.client() as client:
            killing.once(client)
        with server.client() as client:
            version, sha256 = served(server, client, own)
            assert seen.setdefault(version, sha256) == sha256
            assert_whole(server, client, own)
    with server.client() as client:
        job = client.train(own, is_full=True)
        client.wait(job.id, 400)
        states = [client.job(each).state for each in killing.jobs]
        assert set(states) == {"succeeded"}
        version, sha256 = served(server, client, own)
        assert seen.setdefault(version, sha256) == sha256
        count = assert_whole(server, client, own)
    assert count >= 2
    assert not any((server.workspace / "training" / job.id).rglob("*.safetensors"))
    assert server.terminate() == 0
    assert faults(server.workspace) == []
    print(  # noqa: T201  the figures, with -s
        f"\n{killing.trainer_kills} kills of the trainer and {killing.server_kills} of the server;"
        f" {len(states)} trainings, all ended well; {count} versions, all whole;"
        f" {len(seen)} versions served, each with one SHA-256;"
        f" the curve went on after {killing.resumed} of {killing.with_curve} kills that came after its first point"
    )
