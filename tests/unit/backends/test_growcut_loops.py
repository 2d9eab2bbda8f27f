"""The compiled loops and the working grid of the backend `growcut`."""

import heapq
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry
from numpy.typing import NDArray

from annotate_server.backends.growcut import fingerprint as fingerprints
from annotate_server.backends.growcut import grid as grids
from annotate_server.backends.growcut.adapter import GrowCutBackend
from annotate_server.backends.growcut.fingerprint import fingerprint
from annotate_server.backends.growcut.flood import BARRIER, UNREACHED, flood
from annotate_server.backends.growcut.grid import Grid, bounds
from annotate_server.backends.growcut.relax import relaxed
from annotate_server.domain.geometry import Box
from annotate_server.domain.model import ModelVersion
from annotate_server.imaging import compiled
from annotate_server.imaging.editing import occupied
from annotate_server.stores.folder_apps import read_app

SPACING = (5.0, 1.0, 2.0)


def by_heap(intensity: NDArray[np.float32], seeds: NDArray[np.uint8], toll: NDArray[np.float32]) -> NDArray[np.int64]:
    """The least cost of each voxel, by the textbook."""
    cost = np.full(seeds.shape, UNREACHED, np.int64)
    queue = [(0, tuple(place)) for place in np.argwhere((seeds > 0) & (seeds != BARRIER)).tolist()]
    for _, place in queue:
        cost[place] = 0
    heapq.heapify(queue)
    while queue:
        level, place = heapq.heappop(queue)
        if level > cost[place]:
            continue
        for axis in range(3):
            for step in (-1, 1):
                other = tuple(p + step * (a == axis) for a, p in enumerate(place))
                if not all(0 <= p < n for p, n in zip(other, seeds.shape, strict=True)) or seeds[other] == BARRIER:
                    continue
                price = np.float32(10.0 * SPACING[axis] / min(SPACING)) * (1 + toll[other])
                reach = level + max(1, int(price + abs(intensity[place] - intensity[other])))
                if reach < cost[other]:
                    cost[other] = reach
                    heapq.heappush(queue, (reach, other))
    return cost


def test_the_flood_finds_the_least_cost_everywhere() -> None:
    random = np.random.default_rng(7)
    shape = (5, 9, 7)
    intensity = (random.random(shape) * 200).astype(np.float32)
    toll = random.random(shape).astype(np.float32)
    seeds = np.where(random.random(shape) < 0.2, BARRIER, 0).astype(np.uint8)
    seeds[0, 0, 0], seeds[4, 8, 6] = 1, 2
    found = flood(intensity, seeds, SPACING, toll)
    assert np.array_equal(found.cost, by_heap(intensity, seeds, toll))
    assert (np.diff(found.cost.ravel()[found.order]) >= 0).all()


def test_each_voxel_goes_to_the_nearer_seed_in_millimetres() -> None:
    seeds = np.zeros((9, 9, 9), np.uint8)
    seeds[4, 0, 4], seeds[0, 8, 4] = 1, 2
    labels = flood(np.zeros(seeds.shape, np.float32), seeds, SPACING).labels
    assert labels[3, 5, 4] == 1
    assert labels[0, 5, 4] == 2


def test_the_flood_stops_at_an_edge_and_goes_round_a_barrier() -> None:
    step = np.zeros((3, 3, 20), np.float32)
    step[..., 12:] = 500.0
    seeds = np.zeros(step.shape, np.uint8)
    seeds[1, 1, 0], seeds[1, 1, 19] = 1, 2
    assert np.array_equal(flood(step, seeds, (1, 1, 1)).labels == 1, step == 0)
    seeds[:, :, 5] = BARRIER
    walled = flood(step, seeds, (1, 1, 1)).labels
    assert (walled[:, :, 6:] == 2).all()


def test_what_no_seed_reaches_stays_free() -> None:
    seeds = np.zeros((3, 4, 5), np.uint8)
    seeds[:, :, 2], seeds[0, 0, 0] = BARRIER, 1
    found = flood(np.zeros(seeds.shape, np.float32), seeds, SPACING)
    assert (found.labels[:, :, 3:] == 0).all()
    assert (found.cost[:, :, 3:] == UNREACHED).all()


def test_a_linear_field_is_the_smoothest_between_two_planes() -> None:
    fixed = np.zeros((4, 21, 5), np.bool_)
    fixed[:, 0], fixed[:, 20] = True, True
    field = np.zeros(fixed.shape, np.float32)
    field[:, 20] = 10.0
    smooth = relaxed(field, fixed, SPACING)
    assert np.abs(smooth - np.linspace(0, 10, 21)[:, None]).max() < 0.05


def test_a_source_bulges_the_field() -> None:
    fixed = np.zeros((3, 21, 3), np.bool_)
    fixed[:, 0], fixed[:, 20] = True, True
    bulge = relaxed(np.zeros(fixed.shape, np.float32), fixed, SPACING, source=0.1)
    assert bulge[1, 10, 1] == pytest.approx(0.1 * 10 * 10 / 2, rel=0.05)


def test_a_working_grid_reduces_the_finest_axis_until_it_is_small() -> None:
    geometry = oblique_geometry((10, 61, 40))
    grid = Grid.over(geometry, Box((1, 1, 3), (10, 60, 38)), 6000)
    assert np.prod(grid.shape) <= 6000
    assert grid.factors[0] == 1
    assert grid.factors[1] > 1
    voxels = np.arange(np.prod(geometry.shape), dtype=np.int32).reshape(geometry.shape)
    cell = grid.mean(voxels)[2, 1, 1]
    first = [s + n * f for s, n, f in zip(grid.box.start, (2, 1, 1), grid.factors, strict=True)]
    block = voxels[
        first[0] : first[0] + 1, first[1] : first[1] + grid.factors[1], first[2] : first[2] + grid.factors[2]
    ]
    assert cell == pytest.approx(block.mean(), rel=1e-5)
    assert grid.cells(np.array([first]))[0].tolist() == [2, 1, 1]
    assert grid.spread(grid.mean(voxels)).shape == grid.box.shape
    assert grid.interpolated(grid.mean(voxels)).shape == grid.box.shape


def test_what_is_not_finite_counts_as_the_least() -> None:
    geometry = oblique_geometry((4, 5, 6))
    voxels = np.ones(geometry.shape, np.float32)
    voxels[0, 0, 0], voxels[1, 1, 1], voxels[2, 2, 2] = np.nan, -np.inf, -3.0
    values = Grid.over(geometry, Box.whole(geometry.shape), 1000).mean(voxels)
    assert values[0, 0, 0] == values[1, 1, 1] == -3.0


def test_the_bounds_are_those_of_the_plain_way() -> None:
    occupied = np.zeros((6, 7, 8), np.bool_)
    assert bounds(occupied) is None
    occupied[2, 3:5, 1], occupied[4, 1, 6] = True, True
    assert bounds(occupied) == Box.around(occupied)


def test_without_a_place_for_machine_code_the_loops_are_compiled_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def njit(*, cache: bool) -> object:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiled, "njit", njit)
    assert compiled.compiled(len)("abc") == 3
    assert asked == [True, False]


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_cells_are_the_means_of_numpy_with_the_faces_repeated(kind: type[np.generic]) -> None:
    geometry = oblique_geometry((7, 23, 31))
    voxels = (np.random.default_rng(6).normal(60.0, 20.0, geometry.shape)).astype(kind)
    grid = Grid(Box((1, 2, 3), (7, 22, 30)), (4, 3, 5), geometry.cropped(Box((1, 2, 3), (7, 22, 30))))
    padded = np.pad(voxels[grid.box.slices].astype(np.float32), [(0, 2), (0, 1), (0, 3)], mode="edge")
    expected = padded.reshape(2, 4, 7, 3, 6, 5).mean(axis=(1, 3, 5), dtype=np.float32)
    found = grid.mean(voxels)
    exact = np.dtype(kind).kind in "iu"
    assert np.array_equal(found, expected) if exact else np.allclose(found, expected, rtol=1e-6)
    bright = voxels.astype(np.float64) > 60.0
    shares = np.pad(bright[grid.box.slices], [(0, 2), (0, 1), (0, 3)], mode="edge").reshape(2, 4, 7, 3, 6, 5)
    assert np.array_equal(grid.occupied(bright), shares.mean(axis=(1, 3, 5)) >= 0.5)


def test_the_fingerprint_tells_where_other_segments_are_and_nothing_else() -> None:
    random = np.random.default_rng(9)
    labels = random.integers(0, 4, (5, 11, 13)).astype(np.uint8)
    whole = fingerprint(labels, 2)
    assert fingerprint(labels.astype(np.uint16), 2) == whole
    assert fingerprint(np.where(labels == 2, 0, labels).astype(np.uint8), 2) == whole
    assert fingerprint(np.where(labels == 1, 3, labels).astype(np.uint8), 2) == whole
    assert fingerprint(labels, 3) != whole
    seen = {whole}
    for place in random.integers(0, labels.shape, (200, 3)):
        other = labels.copy()
        other[tuple(place)] = 0 if labels[tuple(place)] in (1, 3) else 1
        seen.add(fingerprint(other, 2))
    assert len(seen) > 150
    assert fingerprint(np.zeros((5, 11, 13), np.uint8), 2) == fingerprint(None, 2) == 0


def test_shifted_rows_have_another_fingerprint() -> None:
    labels = np.zeros((3, 4, 9), np.uint8)
    seen = set()
    for k, j in np.ndindex(3, 4):
        row = labels.copy()
        row[k, j, 2:5] = 1
        seen.add(fingerprint(row, 2))
    assert len(seen) == 12


def test_the_first_prompt_waits_for_no_compiler() -> None:
    GrowCutBackend().load(ModelVersion(read_app(Path(__file__).parents[3] / "apps" / "any_structure")), "cpu")
    loops = (grids._means, fingerprints._hashed, occupied._ends)
    before = [set(loop.signatures) for loop in loops]
    geometry = oblique_geometry((6, 20, 22))
    for kind in (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64):
        voxels = np.zeros(geometry.shape, kind)
        voxels.flags.writeable = False
        Grid.over(geometry, Box((1, 2, 3), (6, 20, 21)), 500).mean(voxels)
    for kind in (np.uint8, np.uint16):
        labels = np.zeros(geometry.shape, kind)
        labels.flags.writeable = False
        fingerprint(labels, 1)
    bounds(np.zeros(geometry.shape, np.bool_))
    assert [set(loop.signatures) for loop in loops] == before
