"""The desk: one session, its draft on a sheet, and everything that changes it, one after the other.

The server owns undo: a stroke of the host is one edit, and undo and redo are asked for there. What the host drew is
sent when the hand lets go; where the server cannot be reached it stays drawn, and is sent when it can.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Callable

import numpy as np
import qt

from AnnotateServerLib import client, frame
from AnnotateServerLib.answers import Job, Label, Prompt, Session
from AnnotateServerLib.frame import Box, Frame
from AnnotateServerLib.labelmaps import at_once
from AnnotateServerLib.line import Line, Request
from AnnotateServerLib.masking import Masking
from AnnotateServerLib.problem import PROGRAM, Problem
from AnnotateServerLib.sheet import Drawn, Sheet
from AnnotateServerLib.turns import Pause, Turn, Turns

EDIT_PAUSE_MS = 40
RETRY_MS = 3000
HEARTBEAT_MS = 20_000
JOB_PAUSE_MS = 400
_MOST_TRIES = 5
_LONGEST_REST_S = 60.0


class Desk:
    """A session at work. `heard()` is called whenever something that a panel shows has changed."""

    def __init__(self, line: Line, session: Session, heard: Callable[[], None]) -> None:
        self.session, self.revision = session, session.revision
        self.locked = session.locked
        self.can_undo, self.can_redo = session.can_undo, session.can_redo
        self.sheet: Sheet | None = None
        self.problem: Problem | None = None
        self.notes: tuple[str, ...] = ()
        self.job: Job | None = None
        self.drafted = session.model_version or ""
        self.has_unsent = self.is_over = False
        self.turns = Turns(line, heard)
        self._watch = Turns(line, heard)
        self._heard = heard
        self._caught: list[Drawn] = []
        self._history: list[bool] = []
        """Our changes, oldest first: whether each only takes back what a prompt did where masking forbids it."""
        self._depth = 0
        self._is_held, self._is_waiting = False, False
        self._worked_at, self._worked_s = time.monotonic(), 0.0
        self._heart = qt.QTimer()
        self._heart.connect("timeout()", self.beat)
        self._heart.start(HEARTBEAT_MS)

    @property
    def id(self) -> str:
        """Return the session's id."""
        return self.session.id

    @property
    def is_reachable(self) -> bool:
        """Say whether the server answered last."""
        return self.problem is None or self.problem.kind != "unreachable"

    @property
    def is_busy(self) -> bool:
        """Say whether a person waits for something: one prediction is in flight at a time."""
        return bool(self.turns.doing)

    # What a person does

    def prompt(self, asked: Prompt, masking: Masking, intensities: Callable[[Box], np.ndarray] | None = None) -> None:
        """Let a model answer a prompt, under the host's masking; `intensities` are the volume's in a box."""
        if self.is_busy:
            self._say(Problem(f"One thing at a time: {self.turns.doing} …", "Wait for it, or cancel it."))
            return
        self._turn("Asking the model", self._prompted(asked, masking, intensities))

    def undo(self) -> None:
        """Take the newest change back."""
        self._turn("Undo", self._stepped(client.undo(self.id), -1))

    def redo(self) -> None:
        """Make the change again that was taken back last."""
        self._turn("Redo", self._stepped(client.redo(self.id), 1))

    def lock(self, locked: tuple[int, ...]) -> None:
        """Lock these segments and no others."""
        self._turn("", self._locked(locked))

    def draft(self, model: str) -> None:
        """Let a model draft the whole case; prompts and edits go on meanwhile."""
        self._turn("Ordering a draft", self._ordered(model))

    def cancel(self) -> None:
        """Stop what a person waits for."""
        self.turns.stop()
        if self.job is not None and not self.job.has_ended:
            self._watch.begin(Turn(self._cancelled(self.job.id), failed=self._say))

    def submit(self, done: Callable[[Label], None]) -> None:
        """Make the draft a label; the session ends."""
        self._turn("Submitting", self._submitted(), done)

    def leave(self, done: Callable[[object], None]) -> None:
        """Give the case free; the session can be gone on with later."""
        self._turn("Leaving", self._left(), done)

    def refresh(self) -> None:
        """Fetch what changed on the server."""
        self._turn("Loading the draft", self._fetched())

    def show(self, make: Callable[[bytes], Generator]) -> None:
        """Show the draft on a new sheet, which `make` makes of the draft's file, in steps."""
        self._turn("Loading the draft", self._shown(make))

    # What the host does

    def drew(self) -> None:
        """Say that the host changed the sheet: it is sent once the hand rests."""
        if self.is_over or self.sheet is None or self.sheet.is_writing:
            return
        self.worked()
        if not self.has_unsent:
            self.has_unsent = True
            self._heard()
        if not self._is_held and not self._is_waiting:
            self._is_waiting = True
            qt.QTimer.singleShot(EDIT_PAUSE_MS, self._flush)

    def hold(self, is_held: bool) -> None:
        """Say that a stroke is being drawn, or that the hand let go: a stroke is one edit, and one undo."""
        self._is_held = is_held
        if not is_held and self.has_unsent:
            self.drew()

    def catch(self) -> None:
        """Keep what was drawn: the sheet is about to go. It is sent like any other edit."""
        if self.sheet is not None and self.has_unsent:
            drawn = at_once(self.sheet.drawn())
            if drawn is not None:
                self._caught.append(drawn)
        self.sheet = None
        if self._caught:
            self._turn("", self._sent())
        self._heard()

    def worked(self) -> None:
        """Note that somebody is at work, for the time that a label took."""
        now = time.monotonic()
        self._worked_s += min(now - self._worked_at, _LONGEST_REST_S)
        self._worked_at = now

    def dismiss(self) -> None:
        """Forget what went wrong."""
        self.problem, self.notes = None, ()
        self._heard()

    def beat(self) -> None:
        """Keep the lease; nothing is said while something else is under way, which keeps it too."""
        if not self.is_over and self.turns.is_idle:
            self._turn("", self._beaten())

    def close(self) -> None:
        """Stop: nothing is sent from here on."""
        self.is_over = True
        self._heart.stop()
        self.turns.close()
        self._watch.close()

    # The steps

    def _prompted(self, asked: Prompt, masking: Masking, intensities: Callable | None) -> Generator:
        self.worked()
        yield from self._sent()
        sheet = self._standing()
        before = None if masking.is_open else sheet.copy.copy()
        found = self._take((yield client.prompt(self.id, asked)))
        if before is None or found.box.is_empty:
            return
        was, now = before[found.box.slices], sheet.copy[found.box.slices]
        values = intensities(found.box) if masking.intensities is not None and intensities is not None else None
        allowed = masking.editable(was, values)
        kept = np.where(allowed, now, was)
        if (kept != now).any():
            sheet.write(found.box, kept)
            yield from self._sent()
            if self._depth:
                self._history[self._depth - 1] = True

    def _stepped(self, request: Request, way: int) -> Generator:
        """Go back or forth; what masking took back of a prompt goes with the prompt."""
        yield from self._sent()
        is_paired = way < 0 and self._depth > 0 and self._history[self._depth - 1]
        self._take((yield request), way)
        if way > 0:
            is_paired = self._depth < len(self._history) and self._history[self._depth]
        if is_paired:
            self._take((yield request), way)

    def _locked(self, locked: tuple[int, ...]) -> Generator:
        yield from self._sent()
        session = yield client.lock(self.id, locked)
        self.locked = session.locked

    def _ordered(self, model: str) -> Generator:
        yield from self._sent()
        self.job = yield client.draft(self.id, model)
        self._watch.begin(Turn(self._watched(self.job.id), failed=self._say))

    def _watched(self, job_id: str) -> Generator:
        """Follow a job; its draft is in the session when it has succeeded."""
        while not self.job.has_ended:
            yield Pause(JOB_PAUSE_MS)
            try:
                self.job = yield client.job(job_id)
            except Problem as problem:
                if not problem.may_pass:
                    raise
                self._say(problem)
                yield Pause(RETRY_MS)
            self._heard()
        if self.job.state == "succeeded":
            self.refresh()
        elif self.job.state == "failed":
            raise Problem(f"The draft failed: {self.job.problem}", "", PROGRAM, "job-failed")

    def _cancelled(self, job_id: str) -> Generator:
        self.job = yield client.cancel(job_id)

    def _submitted(self) -> Generator:
        yield from self._sent()
        label = yield client.submit(self.id, self.revision)
        self.close()
        return label

    def _left(self) -> Generator:
        yield from self._sent()
        yield client.leave(self.id)
        self.close()

    def _beaten(self) -> Generator:
        worked_s, self._worked_s = self._worked_s, 0.0
        try:
            session = yield client.heartbeat(self.id, min(worked_s, 3600.0))
        except Problem:
            self._worked_s += worked_s
            raise
        if self.has_unsent:
            yield from self._sent()
        elif session.revision != self.revision:  # another window, or a job, changed the draft
            yield from self._fetched()

    def _fetched(self) -> Generator:
        yield from self._sent()
        self._take((yield client.changes(self.id, self.revision)), None)
        yield from self._asked_drafter()

    def _asked_drafter(self) -> Generator:
        """Learn which version drafted the case; a server that does not say is no reason to stop."""
        try:
            self.drafted = yield client.drafted(self.id)
        except Problem as problem:
            if problem.status != 404:
                raise

    def _shown(self, make: Callable[[bytes], Generator]) -> Generator:
        content = yield client.draft_file(self.id)
        self.sheet, self.revision = yield from make(content)
        self.session = self.session._replace(segments=self.sheet.segments)
        self._take((yield client.changes(self.id, self.revision)), None)
        yield from self._asked_drafter()

    def _sent(self) -> Generator:
        """Send what the host changed and the server does not have."""
        while self._caught:
            yield from self._edited(self._caught[0])
            del self._caught[0]
        sheet = self.sheet
        if sheet is None:
            self.has_unsent = False
            return
        yield from self._listed(sheet)
        for tried in range(_MOST_TRIES):
            drawn = yield from sheet.drawn()
            if drawn is None:
                self.has_unsent = False
                return
            self.has_unsent = True
            try:
                yield from self._edited(drawn)
                sheet.sent(drawn)
            except Problem as problem:
                yield from self._mended(problem, sheet, tried)
        raise Problem("The draft changes faster than an edit can be sent.", "Close the other windows of this session.")

    def _edited(self, drawn: Drawn) -> Generator:
        content = frame.encoded_edit(drawn.box, drawn.voxels, self.revision, self.session.geometry)
        answer = yield client.edit(self.id, content, self.revision)
        self._note(answer)

    def _mended(self, problem: Problem, sheet: Sheet, tried: int) -> Generator:
        """Do what can be done about a refused edit, so that it can be sent again; else raise the problem."""
        if tried == _MOST_TRIES - 1:
            raise problem
        if problem.status == 412:
            self._take((yield client.changes(self.id, self.revision)), None)
        elif problem.kind == "locked-segment":
            sheet.revert(self.locked)
            self._say(problem)
        else:
            raise problem

    def _listed(self, sheet: Sheet) -> Generator:
        """Tell the server which segments the host added, altered and removed."""
        for name in sheet.added():
            segment = sheet.describe(name)
            answer = yield client.add_segment(self.id, segment)
            sheet.adopt(name, segment)
            self._take(answer)
        for segment in sheet.altered():
            self._take((yield client.alter_segment(self.id, segment)))
        for index in sheet.removed():
            sheet.forget(index)
            self._take((yield client.remove_segment(self.id, index)))

    # What they have in common

    def _turn(self, doing: str, steps: Generator, done: Callable | None = None) -> None:
        self.turns.begin(
            Turn(self._kept(steps), doing, lambda value: self._succeeded(doing, value, done), self._failed)
        )

    def _kept(self, steps: Generator) -> Generator:
        """Take steps; where the lease ran out the session is resumed, and the step that failed is repeated."""
        value, problem = None, None
        while True:
            try:
                asked = steps.send(value) if problem is None else steps.throw(problem)
            except StopIteration as end:
                return end.value
            value, problem = None, None
            try:
                value = yield asked
            except Problem as found:
                problem = found
            if problem is not None and problem.status == 410:
                value, problem = yield from self._again(asked)

    def _again(self, asked: Request) -> Generator:
        """Resume the session, and ask once more; return the value, or the problem."""
        try:
            yield client.resume(self.id)
            return (yield asked), None
        except Problem as problem:
            return None, problem

    def _succeeded(self, doing: str, value: object, done: Callable | None) -> None:
        is_over = self.problem is not None and self.problem.kind in ("unreachable", "cancelled")
        if is_over and (doing or not self.is_reachable):
            self.problem = None
        self._heard()
        if done is not None:
            done(value)

    def _failed(self, problem: Problem) -> None:
        self._say(problem)
        if (self.has_unsent or self._caught) and problem.may_pass and not self.is_over and not self._is_waiting:
            self._is_waiting = True
            qt.QTimer.singleShot(RETRY_MS, self._flush)

    def _flush(self) -> None:
        self._is_waiting = False
        if not self.is_over and not self._is_held:
            self._turn("", self._sent())

    def _take(self, found: Frame, way: int | None = 0) -> Frame:
        """Show what changed; `way` is -1 for an undo, 1 for a redo, 0 for a new change, None for those of others."""
        if found.geometry and found.geometry != self.session.geometry:
            raise Problem("The draft is of another grid than the case.", "Open the case again.")
        if self.sheet is not None:
            self.sheet.take(found)
        self._note(found, way)
        return found

    def _note(self, found: Frame, way: int | None = 0) -> None:
        self._remember(found.revision, way)
        self.revision, self.can_undo, self.can_redo = found.revision, found.can_undo, found.can_redo
        if found.segments is not None:
            self.session = self.session._replace(segments=found.segments)
        if found.notes:
            self.notes = found.notes
        self._heard()

    def _remember(self, revision: int, way: int | None) -> None:
        if way:
            self._depth = min(max(0, self._depth + way), len(self._history))
        elif way == 0 and revision == self.revision + 1:
            self._history[self._depth :] = [False]
            self._depth += 1
        elif revision != self.revision:
            self._history, self._depth = [], 0

    def _standing(self) -> Sheet:
        if self.sheet is None:
            raise Problem("The draft is not shown: its node was deleted.", "Press “Show the draft again”.")
        return self.sheet

    def _say(self, problem: Problem) -> None:
        self.problem = problem
        self._heard()
