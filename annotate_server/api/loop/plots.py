"""Plots as SVG, made of numbers only: no script, no style of their own, a sentence for who cannot see them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 26, 36
_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Dot:
    """A point; `title` is told when the mouse rests on it. `is_hollow` marks one of a second kind."""

    x: float
    y: float
    title: str = ""
    is_hollow: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line with a word beside it."""

    x: float
    word: str


@dataclass(frozen=True)
class Plot:
    """What a plot shows: dots, lines through points, and marks; `about` is its sentence.

    The y axis goes from 0 to a round number that is `least_y` at least. With a diagonal both axes go from `start` to 1.
    """

    about: str
    x_name: str
    y_name: str
    dots: Sequence[Dot] = ()
    lines: Sequence[Sequence[tuple[float, float]]] = ()
    marks: Sequence[Mark] = ()
    least_y: float = 0.0
    has_diagonal: bool = False
    start: float = 0.0

    def svg(self) -> str:
        """Return the plot."""
        axes = _Axes.of(self)
        parts = [*axes.grid(), *_marks(axes, self.marks)]
        if self.has_diagonal:
            parts.append(_polyline(axes, [(self.start, self.start), (1.0, 1.0)], "diagonal"))
        parts += [_polyline(axes, line, f"line line-{number}") for number, line in enumerate(self.lines) if line]
        parts += [_dot(axes, dot) for dot in self.dots]
        names = (
            f'<text class="name" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">'
            f"{escape(self.x_name)}</text>"
            f'<text class="name" x="2" y="{_TOP - 14}">{escape(self.y_name)}</text>'
        )
        return (
            f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(self.about)}">'
            f"{''.join(parts)}{names}</svg>"
        )


@dataclass(frozen=True)
class _Axes:
    """Where numbers lie in the picture."""

    x_start: float
    x_end: float
    y_start: float
    y_end: float

    @classmethod
    def of(cls, plot: Plot) -> "_Axes":
        if plot.has_diagonal:
            return cls(plot.start, 1.0, plot.start, 1.0)
        points = [*((dot.x, dot.y) for dot in plot.dots), *(point for line in plot.lines for point in line)]
        xs = [x for x, _ in points] or [0.0, 1.0]
        ys = [y for _, y in points if math.isfinite(y)]
        x_end = max(*xs, min(xs) + 1)
        return cls(min(xs), x_end, 0.0, _rounded_up(max(plot.least_y, *ys, 1e-6) if ys else max(plot.least_y, 1.0)))

    def x(self, value: float) -> float:
        share = (value - self.x_start) / (self.x_end - self.x_start)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = min(1.0, max(0.0, (value - self.y_start) / (self.y_end - self.y_start)))
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    def grid(self) -> Iterable[str]:
        """Yield lines and numbers of both axes."""
        for value in _ticks(self.y_start, self.y_end):
            at = self.y(value)
            yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>'
            yield f'<text x="{_LEFT - 6}" y="{at + 4}" text-anchor="end">{value:g}</text>'
        for value in _ticks(self.x_start, self.x_end):
            at = self.x(value)
            yield f'<text x="{at}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{value:g}</text>'


def _ticks(start: float, end: float) -> list[float]:
    """Return about five round numbers from `start` to `end`."""
    step = _rounded_up((end - start) / 5)
    first = math.ceil(start / step - 1e-9)
    return [round(n * step, 9) for n in range(first, math.floor(end / step + 1e-9) + 1)]


def _rounded_up(value: float) -> float:
    """Return the next round number."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _STEPS if step * power >= value * (1 - 1e-9))


def _marks(axes: _Axes, marks: Sequence[Mark]) -> Iterable[str]:
    for mark in marks:
        at = axes.x(mark.x)
        yield f'<line class="mark" x1="{at}" x2="{at}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        yield f'<text class="mark" x="{at + 3}" y="{_TOP + 9}">{escape(mark.word)}</text>'


def _polyline(axes: _Axes, points: Sequence[tuple[float, float]], kind: str) -> str:
    path = " ".join(f"{axes.x(x)},{axes.y(y)}" for x, y in points if math.isfinite(y))
    return f'<polyline class="{kind}" fill="none" points="{path}"/>'


def _dot(axes: _Axes, dot: Dot) -> str:
    kind = "dot hollow" if dot.is_hollow else "dot"
    title = f"<title>{escape(dot.title)}</title>" if dot.title else ""
    return f'<circle class="{kind}" cx="{axes.x(dot.x)}" cy="{axes.y(dot.y)}" r="3.5">{title}</circle>'
