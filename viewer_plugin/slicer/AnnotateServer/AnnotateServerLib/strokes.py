"""Strokes: from a hand in a slice view to a prompt; no widgets, so that it can be tested."""

from __future__ import annotations

from typing import NamedTuple

POINT, SCRIBBLE, LASSO, BOX = "point", "scribble", "lasso", "box"
KINDS = (POINT, SCRIBBLE, LASSO, BOX)
_MOST_POINTS = 5000
_LEAST_STEP_MM = 0.5
_LEAST_LASSO = 3
Place = tuple[float, float, float]


class Stroke(NamedTuple):
    """A finished stroke: its points are RAS mm of the view."""

    kind: str
    points: tuple[Place, ...]
    is_positive: bool


class Hand:
    """Follows a pressed button; `points` are what is drawn so far, to be shown."""

    def __init__(self) -> None:
        self.points: list[Place] = []
        self._kind, self._is_positive = POINT, True

    @property
    def is_drawing(self) -> bool:
        """Say whether the button is down."""
        return bool(self.points)

    @property
    def outline(self) -> tuple[Place, ...]:
        """Return the line to be shown: a lasso is closed, a box is a diagonal until the view knows better."""
        if self._kind == LASSO and len(self.points) > 2:
            return (*self.points, self.points[0])
        return tuple(self.points)

    def press(self, kind: str, place: Place, is_positive: bool) -> None:
        """Begin a stroke."""
        self._kind, self._is_positive, self.points = kind, is_positive, [place]

    def move(self, place: Place) -> None:
        """Go on with it."""
        if not self.points:
            return
        if self._kind in (POINT, BOX):
            self.points[1:] = [] if self._kind == POINT else [place]
        elif _apart_mm(self.points[-1], place) >= _LEAST_STEP_MM and len(self.points) < _MOST_POINTS:
            self.points.append(place)

    def release(self, place: Place) -> Stroke | None:
        """End it; None where there is too little of it to mean something."""
        self.move(place)
        points, self.points = tuple(self.points), []
        if not points or (self._kind == LASSO and len(points) < _LEAST_LASSO):
            return None
        if self._kind == BOX and (len(points) < 2 or _apart_mm(*points) < _LEAST_STEP_MM):
            return None
        return Stroke(self._kind, points, self._is_positive)

    def drop(self) -> None:
        """Forget what was begun."""
        self.points = []


def _apart_mm(one: Place, other: Place) -> float:
    return sum((a - b) ** 2 for a, b in zip(one, other)) ** 0.5
