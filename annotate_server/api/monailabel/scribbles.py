"""Scribbles that come as voxels of a labelmap, as Slicer sends them, become strokes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import InvalidPrompt
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.prompt import Prompt, PromptKind

FOREGROUND, BACKGROUND = "foreground_scribbles", "background_scribbles"
_MOST_STROKES = 300
_Run = tuple[int, int, int]
"""Voxels of one row: j, first i, last i."""


@dataclass(frozen=True)
class Stroke:
    """A line through voxels (k, j, i): it belongs to the segment, or does not."""

    voxels: tuple[tuple[int, int, int], ...]
    is_positive: bool

    def prompt(self, geometry: Geometry, index: int) -> Prompt:
        """Return it in LPS mm."""
        points = tuple((float(x), float(y), float(z)) for x, y, z in geometry.world(self.voxels))
        return Prompt(PromptKind.SCRIBBLE, points, index, self.is_positive)


def strokes_of(layers: Iterable[tuple[Labelmap, tuple[Segment, ...]]]) -> tuple[Stroke, ...]:
    """Return the strokes in labelmaps, each with its segments by name; what belongs to the segment comes first.

    Raises InvalidPrompt where nothing says what belongs to it, or there are too many strokes.
    """
    found = []
    for layer, segments in layers:
        for segment in segments:
            if segment.name in (FOREGROUND, BACKGROUND):
                is_positive = segment.name == FOREGROUND
                found += [Stroke(line, is_positive) for line in _lines(layer, segment.index)]
    if not any(stroke.is_positive for stroke in found):
        raise InvalidPrompt("no scribble says what belongs to the segment", remedy="Draw one into it first.")
    if len(found) > _MOST_STROKES:
        raise InvalidPrompt(f"there are {len(found)} strokes, more than {_MOST_STROKES}", remedy="Draw fewer.")
    return tuple(sorted(found, key=lambda stroke: not stroke.is_positive))


def _lines(layer: Labelmap, index: int) -> Iterator[tuple[tuple[int, int, int], ...]]:
    """Yield lines that run through all voxels of an index and, but for a corner here and there, through no other."""
    for k, plane in enumerate(layer.voxels):
        for chain in _chains(plane == index):
            yield tuple((k, j, i) for j, i in _snake(chain))


def _chains(mask: NDArray[np.bool_]) -> list[list[_Run]]:
    """Return the runs of a plane in chains: each run touches the one before it, one row up."""
    open_chains: list[list[_Run]] = []
    ended: list[list[_Run]] = []
    for j in np.flatnonzero(mask.any(axis=1)):
        edges = np.flatnonzero(np.diff(mask[j].astype(np.int8), prepend=0, append=0))
        going = []
        for first, stop in zip(edges[::2], edges[1::2], strict=True):
            run = (int(j), int(first), int(stop) - 1)
            chain = next((c for c in open_chains if _touch(c[-1], run)), None)
            if chain is None:
                chain = []
            else:
                open_chains.remove(chain)
            chain.append(run)
            going.append(chain)
        ended += open_chains
        open_chains = going
    return ended + open_chains


def _touch(above: _Run, below: _Run) -> bool:
    return below[0] == above[0] + 1 and above[1] <= below[2] and below[1] <= above[2]


def _snake(chain: list[_Run]) -> Iterator[tuple[int, int]]:
    """Yield the ends of runs (j, i), each run begun at its end that is nearer to where the line is."""
    at: int | None = None
    for j, first, last in chain:
        is_turned_round = at is not None and abs(at - last) < abs(at - first)
        start, at = (last, first) if is_turned_round else (first, last)
        yield j, start
        if at != start:
            yield j, at
