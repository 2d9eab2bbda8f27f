"""kill -9 of the whole server at random moments: nothing that was acknowledged is lost or torn.

Five kills each by default; ANNOTATE_KILLS=50 asks for more. With -s the figures are printed.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from server_process import ServerProcess, running
from small_studies import SHAPE, add_project, small_chest, write_chest

from annotate_server.client import AnnotateClient, ClientSession
from annotate_server.client.answers import RemoteLabel
from annotate_server.domain.errors import TryLater
from annotate_server.domain.geometry import Box
from annotate_server.domain.helper import HelperKind, HelperOrder
from annotate_server.domain.labelmap import LabelVoxels, Segment
from annotate_server.imaging.labelmap_files import LabelmapFormat, read_labelmap

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("ANNOTATE_KILLS", "5"))
_LONGEST_S = {"submit": 0.025, "upload": 1.2, "change": 0.25}
"""Within which a kill comes: a submit takes about 20 ms, the first upload a second; changes go on."""


@dataclass
class Killing:
    """A server that is killed and started again, and what was seen of it."""

    server: ServerProcess
    moments: random.Random
    answering_s: list[float] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)

    def during(self, longest_s: float, *works: Callable[[], None]) -> None:
        """Kill it at a random moment while the works go on, and start it again."""
        threads = [threading.Thread(target=work) for work in works]
        children = psutil.Process(self.server.process.pid).children(recursive=True)
        for thread in threads:
            thread.start()
        time.sleep(self.moments.uniform(0.0, longest_s))
        self.server.kill()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert_gone(children)
        began = time.monotonic()
        self.server.start()
        self.answering_s.append(time.monotonic() - began)
        self.server.wait_until_ready()
        self.ready_s.append(time.monotonic() - began)

    def end(self, what: str) -> None:
        """Ask it to end, have the workspace checked, and say how long it took to start."""
        assert self.server.terminate() == 0
        assert faults(self.server.workspace) == []
        worst = f"answers after {max(self.answering_s):.2f} s, ready after {max(self.ready_s):.2f} s at worst"
        print(f"\n{len(self.ready_s)} kills during {what}: {worst}")  # noqa: T201  the figures, with -s


def assert_gone(processes: list[psutil.Process]) -> None:
    """Assert that processes end by themselves: nobody is left to end them."""
    deadline = time.monotonic() + 10
    while left := [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, f"still there: {[p.cmdline() for p in left]}"
        time.sleep(0.02)


def faults(workspace: Path) -> list[str]:
    command = [sys.executable, "-m", "annotate_server.cli.main", "workspace", "check", "--json"]
    done = subprocess.run([*command, "--workspace", workspace], capture_output=True, text=True, check=False)
    return list(json.loads(done.stdout)["faults"])


@dataclass(frozen=True)
class Seen:
    """What a person has on the screen."""

    voxels: LabelVoxels
    segments: tuple[Segment, ...]

    @classmethod
    def of(cls, session: ClientSession) -> "Seen":
        return cls(session.draft.copy(), session.segments)

    def assert_in(self, session: ClientSession) -> None:
        np.testing.assert_array_equal(session.draft, self.voxels)
        assert session.segments == self.segments


@dataclass
class Annotating:
    """A person who changes a draft without a pause, and remembers every state that was acknowledged.

    `asked` is the change that is under way: what it will lead to where that is known, and the position in `states`.
    """

    name: str
    choices: random.Random
    client: AnnotateClient
    session: ClientSession
    states: list[Seen]
    at: int = 0
    asked: tuple[int, Seen | None] | None = None
    acknowledged: int = 0
    unanswered: int = 0
    kept_unanswered: int = 0

    def until_it_dies(self) -> None:
        while True:
            try:
                self.change()
            except TryLater:
                self.client.close()
                return
            self.acknowledged += 1

    def change(self) -> None:
        """Make one change and take it for acknowledged."""
        ways = [self._edit] * 9 + [self._rename] + [self._prompt]
        ways += [self._helper] if self.session.draft.any() else []
        ways += [self._undo] * (4 if self.at else 0) + [self._redo] * (2 if self.at + 1 < len(self.states) else 0)
        self.asked = None
        self.choices.choice(ways)()
        self.take()

    def take(self) -> None:
        """Take the change that was asked for as done, and compare it with what was expected."""
        at, expected = self.asked
        if expected is not None:
            expected.assert_in(self.session)
        if at > self.at and not any(expected is state for state in self.states):  # no redo
            self.states[at:] = [Seen.of(self.session)]
        self.at, self.asked = at, None

    def go_on(self, client: AnnotateClient) -> None:
        """Take the session up after a restart: it is as it was, or further by the one change that was not answered."""
        revision, now = self.session.revision, self.states[self.at]
        self.client, self.session = client, client.resume(self.session.id)
        self.unanswered += self.asked is not None
        if self.session.revision == revision:
            now.assert_in(self.session)
            self.asked = None
        else:
            assert self.session.revision == revision + 1
            assert self.asked is not None
            self.kept_unanswered += 1
            self.take()
        self._steps_back_and_forth()

    def walk_back(self) -> None:
        """Undo everything: each state is as it was acknowledged."""
        while self.at:
            self.session.undo()
            self.at -= 1
            self.states[self.at].assert_in(self.session)
        assert not self.session.can_undo

    def _steps_back_and_forth(self) -> None:
        steps = min(self.at, 3)
        for step in range(1, steps + 1):
            self.session.undo()
            self.states[self.at - step].assert_in(self.session)
        for _ in range(steps):
            self.session.redo()
        self.states[self.at].assert_in(self.session)

    def _edit(self) -> None:
        start = tuple(self.choices.randrange(length - 6) for length in SHAPE)
        size = tuple(self.choices.randint(1, 6) for _ in SHAPE)
        box = Box(start, tuple(np.add(start, size).tolist()))
        after = self.session.draft.copy()
        after[box.slices] = self.choices.randrange(4)
        self.asked = (self.at + 1, Seen(after, self.session.segments))
        self.session.edit(box, after[box.slices].copy())

    def _rename(self) -> None:
        chosen = self.choices.choice(self.session.segments)
        other = replace(chosen, name=f"Segment {self.choices.randrange(10**6)}")
        segments = tuple(other if each.index == chosen.index else each for each in self.session.segments)
        self.asked = (self.at + 1, Seen(self.session.draft.copy(), segments))
        self.session.alter_segment(other)

    def _prompt(self) -> None:
        self.asked = (self.at + 1, None)
        index = np.array([[self.choices.randrange(length) for length in SHAPE]])
        self.session.point("any_structure", small_chest().world(index)[0], segment=self.choices.randint(1, 3))

    def _helper(self) -> None:
        self.asked = (self.at + 1, None)
        distance_mm = self.choices.choice((-9.0, 9.0))
        drawn = [int(index) for index in np.unique(self.session.draft) if index]
        segment = self.choices.choice(drawn)
        self.session.help(HelperOrder(HelperKind.MARGIN, distance_mm=distance_mm), segment=segment)

    def _undo(self) -> None:
        self.asked = (self.at - 1, self.states[self.at - 1])
        self.session.undo()

    def _redo(self) -> None:
        self.asked = (self.at + 1, self.states[self.at + 1])
        self.session.redo()


def test_kills_during_prompts_and_edits_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    for number in range(2):
        write_chest(tmp_path / "studies" / f"{number}.nii", seed=number)
    with running(tmp_path / "workspace", tmp_path / "studies") as server:
        server.wait_until_ready().wait_for_cases(2)
        killing = Killing(server, random.Random(11))  # noqa: S311  moments, not secrets
        people = [annotating(server, name, seed) for seed, name in enumerate(("ann", "bob"))]
        for _ in range(KILLS):
            killing.during(_LONGEST_S["change"], *(person.until_it_dies for person in people))
            for person in people:
                person.go_on(server.client(person.name))
        for person in people:
            person.walk_back()
            person.client.close()
        counts = [sum(getattr(p, n) for p in people) for n in ("acknowledged", "unanswered", "kept_unanswered")]
        assert counts[0] > KILLS
        killing.end("prompts and edits ({} acknowledged, {} not answered, {} of them kept)".format(*counts))


def annotating(server: ServerProcess, name: str, number: int) -> Annotating:
    """Open a case of one's own."""
    client = server.client(name)
    if number == 0:
        add_project(client)
    case = client.declare_modality(sorted(case.id for case in client.cases())[number], "CT")
    session = client.open("small", case.id)
    return Annotating(name, random.Random(number), client, session, [Seen.of(session)])  # noqa: S311  as above


def test_kills_during_submits_lose_no_label_that_was_acknowledged(tmp_path: Path) -> None:
    write_chest(tmp_path / "studies" / "chest.nii")
    with running(tmp_path / "workspace", tmp_path / "studies") as server:
        server.wait_until_ready().wait_for_cases(1)
        with server.client() as client:
            add_project(client)
            (case,) = client.cases()
        killing = Killing(server, random.Random(12))  # noqa: S311  moments, not secrets
        submitting = Submitting(case.id, killing)
        for _ in range(KILLS):
            submitting.one(tmp_path)
        with server.client() as client:
            labels = client.labels("small", case.id)
            assert [label.id for label in labels] == [label for label, _ in submitting.expected]
            for label, voxels in submitting.expected:
                assert_label(client, label, voxels, tmp_path)
        counts = (submitting.acknowledged, KILLS - submitting.acknowledged, submitting.kept_unanswered)
        killing.end("submits ({} acknowledged, {} not answered, {} of them kept)".format(*counts))


def test_kills_during_uploads_lose_no_case_that_was_acknowledged(tmp_path: Path) -> None:
    with running(tmp_path / "workspace") as server:
        server.wait_until_ready()
        with server.client() as client:
            add_project(client)
        killing = Killing(server, random.Random(13))  # noqa: S311  moments, not secrets
        acknowledged: list[str] = []
        for number in range(KILLS):
            volume = write_chest(tmp_path / f"{number}.nii", seed=number)
            with server.client() as client:
                killing.during(_LONGEST_S["upload"], lambda: uploaded(client, volume, acknowledged))  # noqa: B023
            with server.client() as client:
                there = [case.id for case in client.cases()]
                assert set(acknowledged) <= set(there)
                assert len(there) <= number + 1
                for case in there[-2:]:
                    client.open("small", case).leave()
        uploads = [path.name for path in (server.workspace / "uploads").iterdir()]
        assert not [name for name in uploads if name.startswith(".")]
        kept = len(there) - len(acknowledged)
        killing.end(
            f"uploads ({len(acknowledged)} acknowledged, {KILLS - len(acknowledged)} not answered, {kept} of them kept)"
        )


def uploaded(client: AnnotateClient, volume: Path, acknowledged: list[str]) -> None:
    try:
        acknowledged += [case.id for case in client.upload(volume)]
    except TryLater:
        return


@dataclass
class Submitting:
    """Submits one label after the other; `expected` are those that have to be there, with their voxels."""

    case_id: str
    killing: Killing
    expected: list[tuple[str, LabelVoxels]] = field(default_factory=list)
    open_session: str | None = None
    acknowledged: int = 0
    kept_unanswered: int = 0

    def one(self, folder: Path) -> None:
        """Submit while the server is killed, and look at what became of it."""
        server = self.killing.server
        client = server.client()
        session = client.resume(self.open_session) if self.open_session else client.open("small", self.case_id)
        if not self.open_session and self.expected:
            np.testing.assert_array_equal(session.draft, self.expected[-1][1])  # it goes on from the newest label
        noise = self.killing.moments.randbytes(8 * 9 * 10)
        session.edit(Box((4, 5, 6), (12, 14, 16)), np.frombuffer(noise, np.uint8).reshape(8, 9, 10) % 4)
        answers: list[RemoteLabel] = []
        self.killing.during(_LONGEST_S["submit"], lambda: answered(session, answers))
        client.close()
        with server.client() as client:
            self._look(client, session, answers)
            if self.open_session is None:
                assert_label(client, *self.expected[-1], folder)

    def _look(self, client: AnnotateClient, session: ClientSession, answers: list[RemoteLabel]) -> None:
        labels = client.labels("small", self.case_id)
        new = [label.id for label in labels[len(self.expected) :]]
        assert len(new) <= 1
        self.acknowledged += len(answers)
        if answers:
            assert new == [answers[0].id]
        if new:
            self.kept_unanswered += not answers
            self.expected.append((new[0], session.draft.copy()))
            self.open_session = None
        else:
            again = client.resume(session.id)
            np.testing.assert_array_equal(again.draft, session.draft)
            again.undo()
            again.redo()
            self.open_session = session.id


def answered(session: ClientSession, answers: list[RemoteLabel]) -> None:
    try:
        answers.append(session.submit())
    except TryLater:
        return


def assert_label(client: AnnotateClient, label_id: str, voxels: LabelVoxels, folder: Path) -> None:
    path = folder / "label.seg.nrrd"
    path.unlink(missing_ok=True)
    client.download_label(label_id, LabelmapFormat.NRRD, path)
    (back,) = read_labelmap(path, small_chest())
    np.testing.assert_array_equal(back.voxels, voxels)
