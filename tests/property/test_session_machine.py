"""Any order of edits, prompts, undo, redo, locks and restarts: the draft is what a plain list of states says."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from annotation_bench import ANN, LIVER, SPLEEN, Bench
from conftest import oblique_geometry
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from annotate_server.domain.annotation import Session
from annotate_server.domain.errors import LockedSegment
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Segment
from annotate_server.imaging.frame import Frame

GRID = oblique_geometry((5, 6, 7))
CORNERS = st.tuples(*(st.integers(0, n - 1) for n in GRID.shape))


class SessionMachine(RuleBasedStateMachine):
    """A session beside its model: the list of all states, and which one is in force."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.bench = Bench(Path(self.folder.name), GRID).furnished(1)
        self.session: Session = self.bench.annotator.open("organs", "c0", ANN)
        self.states: list[np.ndarray] = [np.zeros(GRID.shape, np.uint8)]
        self.segments: list[tuple[Segment, ...]] = [(LIVER, SPLEEN)]
        self.at = 0
        self.locked: frozenset[int] = frozenset()
        self.revision = 0

    def teardown(self) -> None:
        self.bench.close()
        self.folder.cleanup()

    @property
    def now(self) -> np.ndarray:
        return self.states[self.at]

    def _go_on(self, state: np.ndarray, segments: tuple[Segment, ...] | None = None) -> None:
        self.states[self.at + 1 :] = [state]
        self.segments[self.at + 1 :] = [segments or self.segments[self.at]]
        self.at += 1
        self.revision += 1

    def _touches_lock(self, before: np.ndarray, after: np.ndarray) -> bool:
        changed = before != after
        return any(((before == index) | (after == index))[changed].any() for index in self.locked)

    @initialize()
    def seen(self) -> None:
        assert self.bench.annotator.frame(self.session.id, ANN).revision == 0

    @rule(start=CORNERS, stop=CORNERS, value=st.integers(0, 2))
    def edit(self, start: tuple[int, int, int], stop: tuple[int, int, int], value: int) -> None:
        box = Box(
            tuple(min(a, b) for a, b in zip(start, stop, strict=True)),
            tuple(max(a, b) + 1 for a, b in zip(start, stop, strict=True)),
        )
        after = self.now.copy()
        after[box.slices] = value
        frame = Frame("", "", self.revision, box, np.full(box.shape, value, np.uint8), "")
        try:
            answer = self.bench.annotator.edit(self.session.id, ANN, frame, self.revision)
        except LockedSegment:
            assert self._touches_lock(self.now, after)
            return
        assert not self._touches_lock(self.now, after)
        self._go_on(after)
        patched = self.states[self.at - 1].copy()
        patched[answer.box.slices] = answer.voxels
        np.testing.assert_array_equal(patched, after)

    @rule(at=CORNERS, segment=st.sampled_from([LIVER, SPLEEN]))
    def prompt(self, at: tuple[int, int, int], segment: Segment) -> None:
        after = self.now.copy()
        cube = tuple(slice(max(0, n - 1), max(0, n - 1) + 3) for n in at)
        taken = np.zeros(GRID.shape, bool)
        taken[cube] = True
        after[taken & (after == 0)] = segment.index
        try:
            self.bench.annotator.prompt(self.session.id, ANN, self.bench.point(*at, segment), "cube", None)
        except LockedSegment:
            assert segment.index in self.locked
            return
        assert segment.index not in self.locked
        self._go_on(after)

    @precondition(lambda self: self.at > 0)
    @rule()
    def undo(self) -> None:
        self._move(self.at - 1)

    @precondition(lambda self: self.at + 1 < len(self.states))
    @rule()
    def redo(self) -> None:
        self._move(self.at + 1)

    def _move(self, to: int) -> None:
        move = self.bench.annotator.undo if to < self.at else self.bench.annotator.redo
        try:
            move(self.session.id, ANN)
        except LockedSegment:
            assert self._touches_lock(self.now, self.states[to])
            return
        assert not self._touches_lock(self.now, self.states[to])
        self.at = to
        self.revision += 1

    @rule(locked=st.frozensets(st.sampled_from([1, 2])))
    def lock(self, locked: frozenset[int]) -> None:
        self.bench.annotator.lock(self.session.id, ANN, locked)
        self.locked = locked

    @rule(colour=st.tuples(*[st.integers(0, 255)] * 3))
    def recolour(self, colour: tuple[int, int, int]) -> None:
        changed = replace(self.segments[self.at][0], colour=colour)
        self.bench.annotator.alter_segment(self.session.id, ANN, changed)
        self._go_on(self.now, (changed, *self.segments[self.at][1:]))

    @rule()
    def restart(self) -> None:
        self.bench = self.bench.again()

    @invariant()
    def the_draft_is_the_state_in_force(self) -> None:
        frame = self.bench.annotator.frame(self.session.id, ANN)
        np.testing.assert_array_equal(frame.voxels, self.now)
        assert (frame.revision, frame.segments) == (self.revision, self.segments[self.at])
        assert (frame.can_undo, frame.can_redo) == (self.at > 0, self.at + 1 < len(self.states))


SessionMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSession = SessionMachine.TestCase
