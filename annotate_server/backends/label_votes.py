"""Labels of one grid on another: each voxel takes the label that weighs most around it, and none is ever mixed."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Box, Geometry

Labels = NDArray[np.uint8]
_CORNERS = tuple(product((0, 1), repeat=3))


def on_grid(labels: Labels, source: Geometry, target: Geometry) -> tuple[Labels, Box]:
    """Return labels of one grid on another, and the box of the target that they fill; (k, j, i) each.

    Every target voxel takes the label that weighs most among the eight source voxels around its centre, weighed as in
    linear interpolation: outlines become smooth where the target is finer, and no label is ever mixed. Equal grids
    are copied. The box is the smallest that holds all labels; it is empty where none reaches the target.
    """
    if source.matches(target):
        found = Box.around(labels) or Box((0, 0, 0), (0, 0, 0))
        return labels[found.slices], found
    occupied = Box.around(labels)
    reached = None if occupied is None else _reached(occupied, source, target)
    if reached is None:
        return np.zeros((0, 0, 0), np.uint8), Box((0, 0, 0), (0, 0, 0))
    vote = _Vote(labels, source, target)
    block = np.stack([vote.plane(k, reached) for k in range(reached.start[0], reached.stop[0])])
    inner = Box.around(block)
    if inner is None:
        return np.zeros((0, 0, 0), np.uint8), Box((0, 0, 0), (0, 0, 0))
    k, j, i = (a + b for a, b in zip(reached.start, inner.start, strict=True))
    depth, height, width = inner.shape
    return block[inner.slices], Box((k, j, i), (k + depth, j + height, i + width))


def _reached(occupied: Box, source: Geometry, target: Geometry) -> Box | None:
    """Return the box of the target in which voxels can take a label; None where there is none."""
    ends = zip(occupied.start, occupied.stop, strict=True)
    corners = np.array(list(product(*((start - 1.0, float(stop)) for start, stop in ends))))
    index = target.index(source.world(corners))
    low = np.clip(np.floor(index.min(axis=0)), 0, target.shape).astype(int)
    high = np.clip(np.ceil(index.max(axis=0)) + 1, 0, target.shape).astype(int)
    if (high <= low).any():
        return None
    return Box((int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2])))


class _Vote:
    """Takes the label of the weightiest neighbours, one plane of the target at a time."""

    def __init__(self, labels: Labels, source: Geometry, target: Geometry) -> None:
        """Prepare the map from target to source voxels; the border of the source is background."""
        self._padded = np.pad(labels, 1)
        self._is_uniform = _uniform(self._padded)
        turn = np.linalg.inv(source.affine[:3, :3])
        self._steps = turn @ target.affine[:3, :3]
        self._offset = turn @ (np.array(target.origin_mm) - np.array(source.origin_mm)) + 1.0

    def plane(self, k: int, box: Box) -> Labels:
        """Return the labels (j, i) of one target plane within a box."""
        lower, rest = self._places(k, box)
        plane: Labels = self._padded[lower].copy()
        mixed = np.nonzero(~self._is_uniform[lower])
        corner, fraction = tuple(part[mixed] for part in lower), [part[mixed] for part in rest]
        plane[mixed] = self._weightiest(corner, fraction)
        return plane

    def _places(self, k: int, box: Box) -> tuple[tuple[NDArray[np.intp], ...], list[NDArray[np.float64]]]:
        """Return for each voxel of a target plane the source voxel below it and how far it lies beyond that one."""
        j = np.arange(box.start[1], box.stop[1])[:, None]
        i = np.arange(box.start[2], box.stop[2])[None, :]
        lower, rest = [], []
        for axis, (along_k, along_j, along_i) in enumerate(self._steps):
            place = along_k * k + along_j * j + along_i * i + self._offset[axis]
            inside = np.clip(place, 0.0, self._padded.shape[axis] - 1.001)
            below = inside.astype(np.intp)
            lower.append(below)
            rest.append(inside - below)
        return tuple(lower), rest

    def _weightiest(self, corner: tuple[NDArray[np.intp], ...], fraction: list[NDArray[np.float64]]) -> Labels:
        """Return the winning label of each place; of equals the one nearest to the beginning of the axes."""
        labels = np.empty((len(_CORNERS), len(corner[0])), np.uint8)
        weights = np.empty((len(_CORNERS), len(corner[0])), np.float32)
        for number, steps in enumerate(_CORNERS):
            labels[number] = self._padded[tuple(c + step for c, step in zip(corner, steps, strict=True))]
            sides = (f if step else 1.0 - f for f, step in zip(fraction, steps, strict=True))
            weights[number] = np.prod(list(sides), axis=0)
        votes = np.stack([(weights * (labels == candidate)).sum(axis=0) for candidate in labels])
        winner: Labels = np.take_along_axis(labels, votes.argmax(axis=0)[None], axis=0)[0]
        return winner


def _uniform(padded: Labels) -> NDArray[np.bool_]:
    """Say of each voxel whether it and the seven after it hold one label."""
    same = np.zeros(padded.shape, np.bool_)
    first = padded[:-1, :-1, :-1]
    inner = np.ones(first.shape, np.bool_)
    a, b, c = first.shape
    for di, dj, dk in _CORNERS[1:]:
        inner &= padded[di : di + a, dj : dj + b, dk : dk + c] == first
    same[:-1, :-1, :-1] = inner
    return same
