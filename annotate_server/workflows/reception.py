"""Reception: who sits at which desk, one caller at a time, and until when the case is held.

**Concurrency.** `_door` guards the tables and is never held while something slow is done. Each session has a turn that
one caller holds at a time; it is taken before the desk is looked up, so nobody works at a desk that was cleared.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from annotate_server.domain.annotation import Session, SessionState
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import NotAllowed, SessionExpired, StaleRevision
from annotate_server.domain.person import Person
from annotate_server.workflows.desk import Desk, set_up
from annotate_server.workflows.records import Records

IDLE_S = 60.0
"""A pause that is longer than this does not count as work on the case."""


@dataclass
class Lease:
    """Until when a session is held, when its person was last seen at work, and for how long they worked."""

    until: datetime
    seen: datetime
    active_s: float


@dataclass
class Reception:
    """The desks of all sessions at work; at most `most_desks` stay set up, the others are set up again when needed."""

    records: Records
    lease_s: float = 120.0
    most_desks: int = 64
    clock: Clock = now
    _desks: OrderedDict[str, Desk] = field(default_factory=OrderedDict, init=False)
    _leases: dict[str, Lease] = field(default_factory=dict, init=False)
    _turns: WeakValueDictionary[str, threading.RLock] = field(default_factory=WeakValueDictionary, init=False)
    """Locks by session, for as long as somebody holds or waits for one: an id that is made up leaves nothing behind."""
    _door: threading.RLock = field(default_factory=threading.RLock, init=False)

    @contextmanager
    def at(self, session_id: str, person: Person, if_match: int | None = None) -> Iterator[Desk]:
        """Give the desk of a session of one's own, with its turn, at the revision that the caller saw.

        Raises SessionExpired after the lease, StateError for a session that has ended, NotAllowed for somebody else's,
        StaleRevision where the draft has gone on.
        """
        with self.turn(session_id):
            desk = self._desk(session_id)
            session = desk.session if desk is not None else self.records.sessions.get(session_id)
            must_own(session, person)
            session.must_be_open("changed")
            self._hold(session, person, None)
            if desk is None:
                desk = self._set_up(session)
            if if_match is not None and if_match != desk.session.revision:
                raise StaleRevision(
                    f"the draft is at revision {desk.session.revision}, the change was made on {if_match}",
                    remedy="Fetch what changed since, and try again.",
                )
            yield desk

    def turn(self, session_id: str) -> threading.RLock:
        """Return the lock of a session."""
        with self._door:
            turn = self._turns.get(session_id)
            if turn is None:
                turn = self._turns[session_id] = threading.RLock()
            return turn

    def heartbeat(self, session_id: str, person: Person, active_s: float) -> Session:
        """Hold the lease without waiting for the turn; `active_s` are seconds of work since the last sign of life."""
        desk = self._desk(session_id)
        session = desk.session if desk is not None else self.records.sessions.get(session_id)
        must_own(session, person)
        session.must_be_open("held")
        self._hold(session, person, active_s)
        return self.with_lease(session)

    def current(self, session_id: str) -> Session:
        """Return a session as it stands, whatever its state; raises NotFound."""
        desk = self._desk(session_id)
        return self.with_lease(desk.session if desk is not None else self.records.sessions.get(session_id))

    def begin(self, session: Session) -> None:
        """Hold a session that was opened or resumed; the turn is held by the caller where others may know it."""
        with self._door:
            self._leases[session.id] = self._lease_of(session)
            desk = self._desks.get(session.id)
            if desk is not None:
                desk.session = replace(desk.session, state=SessionState.OPEN, lease_until=session.lease_until)

    def clear(self, session_id: str) -> None:
        """Clear a desk: its session has ended, or can be set up again."""
        with self._door:
            self._desks.pop(session_id, None)
            self._leases.pop(session_id, None)
        self.records.drafts.remove(session_id)

    def lease_end(self) -> datetime:
        """Return until when a session is held that gives a sign of life now."""
        return self.clock() + timedelta(seconds=self.lease_s)

    def with_lease(self, session: Session) -> Session:
        """Return a session with the lease and the seconds of work that are in force."""
        with self._door:
            lease = self._leases.get(session.id)
        return session if lease is None else replace(session, lease_until=lease.until, active_s=lease.active_s)

    def _desk(self, session_id: str) -> Desk | None:
        with self._door:
            desk = self._desks.get(session_id)
            if desk is not None:
                self._desks.move_to_end(session_id)
            return desk

    def _set_up(self, session: Session) -> Desk:
        desk = set_up(session, self.records)
        with self._door:
            self._desks[session.id] = desk
            surplus = tuple(self._desks)[: -self.most_desks]
        for other in surplus:
            turn = self.turn(other)
            if turn.acquire(blocking=False):
                try:
                    self.clear(other)
                finally:
                    turn.release()
        return desk

    def _hold(self, session: Session, person: Person, active_s: float | None) -> None:
        """Renew the lease; keeps that it has expired, and raises SessionExpired, where it has.

        An action (`active_s` None) counts the time since the last sign of life as work, up to IDLE_S. The stored lease
        is renewed when a quarter of it is gone: not every click writes it.
        """
        moment = self.clock()
        with self._door:
            lease = self._leases.setdefault(session.id, self._lease_of(session))
            has_expired = moment > lease.until
            if not has_expired:
                gap = max(0.0, (moment - lease.seen).total_seconds())
                lease.active_s += min(gap, IDLE_S if active_s is None else max(0.0, active_s))
                lease.seen = moment
                is_fresh = (lease.until - moment).total_seconds() > 0.75 * self.lease_s
                lease.until = lease.until if is_fresh else self.lease_end()
            until, active = lease.until, lease.active_s
        if has_expired:
            with self.turn(session.id):
                self.records.sessions.end(self.with_lease(session).ended(SessionState.EXPIRED), person)
                self.clear(session.id)
            raise SessionExpired(
                f"the lease of session {session.id} has run out", remedy="Resume it: nothing in it was lost."
            )
        if not is_fresh:
            self.records.sessions.renew(session.id, until, active)

    def _lease_of(self, session: Session) -> Lease:
        moment = self.clock()
        return Lease(session.lease_until or moment, moment, session.active_s)


def must_own(session: Session, person: Person) -> None:
    """Refuse somebody else's session."""
    if session.person != person.name:
        raise NotAllowed(f"the session is {session.person}'s")
