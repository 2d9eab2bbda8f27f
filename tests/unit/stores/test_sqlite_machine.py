"""Whatever several people do in whatever order, the store holds what the domain says."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store_values import ANNE, NOW, SPLEEN, filled_database, interaction, label, session

from annotate_server.domain.annotation import Label, LabelState, Session, SessionState
from annotate_server.domain.errors import CaseTaken, StaleRevision, StateError
from annotate_server.domain.person import Person, Role
from annotate_server.domain.project import CaseStatus
from annotate_server.stores.sqlite_audit import audit_faults
from annotate_server.stores.sqlite_labels import SqliteLabels
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.stores.sqlite_sessions import SqliteSessions

CASES = st.sampled_from(["case1", "case2"])
PEOPLE = st.sampled_from(["anne", "bela", "cora"])
PICK = st.integers(0, 100)
LEASE = timedelta(seconds=120)


class Annotation(RuleBasedStateMachine):
    """Sessions and labels, beside a model of them in memory."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.opened = filled_database(self.folder)
        self.database = self.opened.__enter__()
        self.now = NOW
        self.sessions: dict[str, Session] = {}
        self.labels: dict[str, Label] = {}
        self.store = SqliteSessions(self.database, self._clock)
        self.label_store = SqliteLabels(self.database)

    def teardown(self) -> None:
        if hasattr(self, "opened"):
            self.opened.__exit__(None, None, None)
            shutil.rmtree(self.folder)

    def _clock(self) -> datetime:
        return self.now

    def _is_live(self, each: Session) -> bool:
        return each.state is SessionState.OPEN and each.lease_until is not None and self.now < each.lease_until

    def _take(self, mine: Session, act: Callable[[Session, Person], None]) -> bool:
        """Say whether `act` takes the case, as it should; a session whose lease ran out makes way."""
        others = [each for each in self.sessions.values() if each.case_id == mine.case_id and each.id != mine.id]
        is_taken = any(self._is_live(other) for other in others)
        try:
            act(mine, Person(mine.person, Role.ANNOTATOR))
        except CaseTaken:
            assert is_taken
            return False
        assert not is_taken
        for other in others:
            if other.state is SessionState.OPEN:
                self.sessions[other.id] = replace(other, state=SessionState.EXPIRED)
        self.sessions[mine.id] = mine
        return True

    def _change(self, pick: int, change: Callable[[Session], Session], keep: Callable[[Session, Person], None]) -> None:
        """Change one session if the domain allows it; the store refuses what was done on an older draft."""
        if not self.sessions:
            return
        current = list(self.sessions.values())[pick % len(self.sessions)]
        try:
            changed = change(current)
        except StateError:
            return
        keep(changed, ANNE)
        self.sessions[current.id] = changed

    @rule(case_id=CASES, person=PEOPLE)
    def open(self, case_id: str, person: str) -> None:
        name = f"s{len(self.sessions)}"
        self._take(replace(session(name, case_id, person), lease_until=self.now + LEASE), self.store.open)

    @rule(pick=PICK, mark=st.sampled_from("cdef"))
    def record(self, pick: int, mark: str) -> None:
        self._change(pick, lambda s: s.recorded(interaction(s.next_number, mark)), self.store.record)

    @rule(pick=PICK)
    def undo(self, pick: int) -> None:
        self._change(pick, Session.undone, self.store.move)

    @rule(pick=PICK)
    def redo(self, pick: int) -> None:
        self._change(pick, Session.redone, self.store.move)

    @rule(pick=PICK, is_locked=st.booleans())
    def lock(self, pick: int, is_locked: bool) -> None:
        locked = frozenset({SPLEEN.index} if is_locked else ())
        self._change(pick, lambda s: s.with_locked(locked), self.store.move)

    @rule(pick=PICK)
    def leave(self, pick: int) -> None:
        self._change(pick, lambda s: s.ended(SessionState.ABANDONED), self.store.end)

    @rule(pick=PICK)
    def resume(self, pick: int) -> None:
        if not self.sessions:
            return
        chosen = list(self.sessions.values())[pick % len(self.sessions)]
        try:
            mine = chosen.reopened(self.now + LEASE)
        except StateError:
            return
        self._take(mine, self.store.resume)

    @rule(pick=PICK)
    def submit(self, pick: int) -> None:
        def accept(ended: Session, person: Person) -> None:
            made = replace(label(f"l{len(self.labels)}", ended.case_id), session_id=ended.id)
            self.label_store.accept(made, ended, person)
            self.labels[made.id] = made

        self._change(pick, lambda s: s.ended(SessionState.SUBMITTED), accept)

    @rule(pick=PICK, verdict=st.sampled_from([LabelState.APPROVED, LabelState.RETURNED]))
    def review(self, pick: int, verdict: LabelState) -> None:
        waiting = [each for each in self.labels.values() if each.state is LabelState.SUBMITTED]
        if waiting:
            given = waiting[pick % len(waiting)].reviewed("dora", verdict, "as it is")
            self.label_store.review(given, Person("dora", Role.REVIEWER))
            self.labels[given.id] = given

    @rule(pick=PICK)
    def change_an_older_draft(self, pick: int) -> None:
        for current in list(self.sessions.values())[pick % 3 :: 3]:
            if current.state is SessionState.OPEN and current.revision:
                older = replace(current, revision=current.revision - 1, applied=0, interactions=())
                try:
                    self.store.record(older.recorded(interaction(1)), ANNE)
                except StaleRevision:
                    continue
                raise AssertionError("an older draft was changed")

    @rule(seconds=st.sampled_from([1, 59, 60, 119, 120]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def the_store_holds_the_same(self) -> None:
        if not hasattr(self, "store"):
            return
        for each in self.sessions.values():
            assert self.store.get(each.id) == each
        for made in self.labels.values():
            assert self.label_store.get(made.id) == made

    @invariant()
    def the_worklist_says_so(self) -> None:
        if not hasattr(self, "store"):
            return
        for item in SqliteProjects(self.database).items("liver", self.now):
            live = [s for s in self.sessions.values() if s.case_id == item.case_id and self._is_live(s)]
            newest = [each for each in self.labels.values() if each.case_id == item.case_id][-1:]
            assert len(live) <= 1
            assert item.session_id == (live[0].id if live else None)
            expected = CaseStatus(newest[0].state) if newest else CaseStatus.OPEN
            assert item.status is (CaseStatus.IN_WORK if live else expected)
            assert item.label_id == (newest[0].id if newest else None)

    @invariant()
    def the_audit_trail_is_whole(self) -> None:
        if hasattr(self, "store"):
            with self.database.reading() as connection:
                assert list(audit_faults(connection)) == []


TestAnnotation = Annotation.TestCase
TestAnnotation.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
