"""From the network's grid back to the volume: class values between voxels, or labels that were decided there.

The axes of both grids run the same way (only turned, resampled, cut and padded), so each axis is read by itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from annotate_server.backends.engine.blending import ClassPlanes, most_likely
from annotate_server.backends.monai_bundle.canvas import along
from annotate_server.domain.geometry import Geometry, Shape
from annotate_server.imaging.reorientation import Reorientation, turned_like

Classes = NDArray[np.uint8]
Certainty = NDArray[np.float32]


@dataclass(frozen=True)
class WayBack:
    """Where the voxels of a volume lie on the network's grid.

    `turn` takes the volume's array to the order of the grid's axes; `places` are, for each axis of the turned array,
    the positions of its voxels on the grid, rising.
    """

    turn: Reorientation
    places: tuple[NDArray[np.float64], ...]
    grid: Shape

    @classmethod
    def between(cls, volume: Geometry, grid: Geometry) -> "WayBack":
        """Return the way from a grid to a volume."""
        turn = turned_like(volume, grid)
        places = []
        for axis, side in enumerate(turn.geometry.shape):
            voxels = np.zeros((side, 3))
            voxels[:, axis] = np.arange(side)
            places.append(np.round(grid.index(turn.geometry.world(voxels))[:, axis], 9))
        return cls(turn, tuple(places), grid.shape)

    def nearest(self, values: NDArray[np.generic], outside: float) -> NDArray[np.generic]:
        """Return values (a, b, c) of the grid at the voxels of the turned volume, each from the nearest voxel."""
        rows = [np.clip(np.rint(p), 0, n - 1).astype(np.intp) for p, n in zip(self.places, self.grid, strict=True)]
        found = values[np.ix_(*rows)]
        # What was cut away has no neighbour; half a voxel beyond the last one is still that one's.
        self._outside(found, outside, reach=0.5)
        return found

    def decided(self, planes: Iterable[ClassPlanes]) -> tuple[Classes, Certainty]:
        """Return the class of the largest value, and that value, at the voxels of the turned volume.

        Values are interpolated linearly between the voxels of the grid; `planes` come in the order of the first axis,
        and only those that the next plane of the volume needs are kept.
        """
        depth, height, width = (len(p) for p in self.places)
        classes = np.zeros((depth, height, width), np.uint8)
        certainty = np.ones((depth, height, width), np.float32)
        if self._is_straight():
            for slab in planes:
                found, best = most_likely(slab.values)
                classes[slab.first : slab.last] = found.cpu().numpy()
                certainty[slab.first : slab.last] = best.float().cpu().numpy()
            return classes, certainty
        inside = np.clip(self.places[0], 0, self.grid[0] - 1)
        low = np.floor(inside).astype(np.intp)
        high, share = np.minimum(low + 1, self.grid[0] - 1), inside - low
        kept, begin, done = None, 0, 0
        for slab in planes:
            kept = slab.values if kept is None else torch.cat([kept[:, -1:], slab.values], dim=1)
            begin = slab.last - kept.shape[1]
            while done < depth and high[done] < slab.last:
                near, far = kept[:, low[done] - begin], kept[:, high[done] - begin]
                plane = torch.lerp(near, far, float(share[done])) if share[done] else near
                classes[done], certainty[done] = self._across(plane)
                done += 1
        self._outside(classes, 0, reach=1.0)
        self._outside(certainty, 1.0, reach=1.0)
        return classes, certainty

    def _is_straight(self) -> bool:
        """Say whether the voxels of the turned volume are those of the grid, so that nothing lies between."""
        return all(np.array_equal(p, np.arange(side)) for p, side in zip(self.places, self.grid, strict=True))

    def _across(self, plane: Tensor) -> tuple[Classes, Certainty]:
        """Return class and value at the voxels of one plane of the volume, of class values (classes, b, c) there.

        Where the four voxels around agree on the class, so does everything between them: only the others are
        interpolated for every class.
        """
        labels, best = most_likely(plane)
        rows, columns = (torch.from_numpy(self._inside(axis)).to(plane.device) for axis in (1, 2))
        row, column = rows.floor().long(), columns.floor().long()
        certainty = along(along(best, 0, rows), 1, columns)
        found = labels[row][:, column]
        ahead = functional.pad(labels[None].float(), (0, 1, 0, 1), mode="replicate")[0]
        here = ahead[:-1, :-1]
        same = (here == ahead[1:, :-1]) & (here == ahead[:-1, 1:]) & (here == ahead[1:, 1:])
        mixed_b, mixed_c = torch.nonzero(~same[row][:, column], as_tuple=True)
        if mixed_b.numel():
            corner = _between(plane, (rows[mixed_b], columns[mixed_c]))
            winner, value = most_likely(corner)
            found[mixed_b, mixed_c] = winner
            certainty[mixed_b, mixed_c] = value
        return found.to(torch.uint8).cpu().numpy(), certainty.float().cpu().numpy()

    def _inside(self, axis: int) -> NDArray[np.float64]:
        inside: NDArray[np.float64] = np.clip(self.places[axis], 0, self.grid[axis] - 1)
        return inside

    def _outside(self, values: NDArray[np.generic], outside: float, reach: float) -> None:
        """Write `outside` where the volume reaches beyond the grid by `reach` voxels or more."""
        for axis, (places, side) in enumerate(zip(self.places, self.grid, strict=True)):
            beyond = (places <= -reach - _SLACK) | (places >= side - 1 + reach + _SLACK)
            if beyond.any():
                index = [slice(None)] * 3
                index[axis] = beyond  # type: ignore[call-overload]  # a row of yes and no is an index too
                values[tuple(index)] = outside


_SLACK = 1e-6


def _between(plane: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
    """Return class values (classes, n) at n places (rows, columns) of a plane, linearly between its voxels."""
    (rows, columns), (height, width) = places, plane.shape[1:]
    row, column = rows.floor().long(), columns.floor().long()
    next_row, next_column = (row + 1).clamp(max=height - 1), (column + 1).clamp(max=width - 1)
    down, right = (rows - row).to(plane.dtype), (columns - column).to(plane.dtype)
    above = torch.lerp(plane[:, row, column], plane[:, row, next_column], right)
    below = torch.lerp(plane[:, next_row, column], plane[:, next_row, next_column], right)
    return torch.lerp(above, below, down)
