"""Turns: what is asked of the server one after the other, written as generators, run by the window's event loop.

A generator yields a `Request` and is handed its value, or its Problem thrown in; it yields a `Pause` to let time pass,
and None to let the window breathe. What it returns is handed to who began it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Callable, NamedTuple

import qt

from AnnotateServerLib.line import Line, Request
from AnnotateServerLib.problem import Problem


class Pause(NamedTuple):
    """Let so many milliseconds pass."""

    milliseconds: int


Steps = Generator


class Turn(NamedTuple):
    """Steps, what a person reads while they are taken, and who is called at the end: with the value, or the problem."""

    steps: Steps
    doing: str = ""
    done: Callable[[object], None] | None = None
    failed: Callable[[Problem], None] | None = None


class Turns:
    """Takes turns one by one. `heard()` is called whenever `doing` or `fraction` change."""

    def __init__(self, line: Line, heard: Callable[[], None]) -> None:
        self._line, self._heard = line, heard
        self._waiting: deque = deque()
        self._turn: Turn | None = None
        self._sending: object = None
        self._is_over = False
        self.doing, self.fraction = "", 0.0

    @property
    def is_idle(self) -> bool:
        """Say whether nothing is under way, nor waits."""
        return self._turn is None and not self._waiting

    def begin(self, turn: Turn) -> None:
        """Take a turn when those before it are done."""
        if self._is_over:
            turn.steps.close()
            return
        self._waiting.append(turn)
        if self._turn is None:
            self._later(0, self._next)

    def stop(self) -> None:
        """Give up what is under way, if a person sees it; the others keep their turn."""
        if self._sending is not None and self.doing:
            self._sending.stop()

    def close(self) -> None:
        """Take no further turn."""
        self._is_over = True
        for turn in self._waiting:
            turn.steps.close()
        self._waiting.clear()

    def _next(self) -> None:
        if self._turn is not None or not self._waiting or self._is_over:
            return
        self._turn = self._waiting.popleft()
        self._say(self._turn.doing)
        self._step(None, None)

    def _step(self, value: object, problem: Problem | None) -> None:
        """Go on to the next thing that is yielded."""
        turn, self._sending = self._turn, None
        if self._is_over:
            turn.steps.close()
            return
        try:
            asked = turn.steps.send(value) if problem is None else turn.steps.throw(problem)
        except StopIteration as end:
            self._ended(turn.done, end.value)
        except Problem as found:
            self._ended(turn.failed, found)
        except BaseException:
            self._ended(None, None)  # a mistake of ours must not hold up what waits
            raise
        else:
            self._begin(asked)

    def _begin(self, asked: object) -> None:
        if isinstance(asked, Request):
            going_on = (lambda value: self._step(value, None), lambda problem: self._step(None, problem))
            self._sending = self._line.send(asked, *going_on, self._moved)
        else:
            self._later(asked.milliseconds if isinstance(asked, Pause) else 0, lambda: self._step(None, None))

    def _ended(self, told: Callable[[object], None] | None, value: object) -> None:
        self._turn = None
        self._say("")
        self._later(0, self._next)
        if told is not None:
            told(value)

    def _moved(self, way: str, fraction: float) -> None:
        self.fraction = fraction
        if self.doing:
            self._heard()

    def _say(self, doing: str) -> None:
        self.fraction = 0.0
        if doing != self.doing:
            self.doing = doing
            self._heard()

    def _later(self, milliseconds: int, act: Callable[[], None]) -> None:
        qt.QTimer.singleShot(milliseconds, act)
