"""Known shapes through every editing function, with what they have to become."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.geometry import Box
from annotate_server.domain.helper import Combination
from annotate_server.imaging.distance import depth_mm
from annotate_server.imaging.editing.combining import combined
from annotate_server.imaging.editing.geodesic import filled_from, reach_of
from annotate_server.imaging.editing.holes import holes_by_slice, holes_in
from annotate_server.imaging.editing.islands import island_at, islands_of
from annotate_server.imaging.editing.margins import grown, shrunk
from annotate_server.imaging.editing.occupied import box_of_value
from annotate_server.imaging.editing.region_growing import connected_to, usual_range
from annotate_server.imaging.editing.smoothing import smoothed
from annotate_server.imaging.editing.threshold import within_range

SPACING = (3.1, 0.7, 1.3)
SHAPE = (17, 70, 39)


def away_mm(shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = SPACING) -> NDArray[np.float64]:
    axes = [(np.arange(n) - (n - 1) / 2 - 0.13) * side for n, side in zip(shape, spacing, strict=True)]
    distance: NDArray[np.float64] = np.sqrt(sum(np.square(axis) for axis in np.ix_(*axes)))
    return distance


def ball(radius_mm: float) -> NDArray[np.bool_]:
    return away_mm() <= radius_mm


def volume_mm3(segment: NDArray[np.bool_]) -> float:
    return float(segment.sum()) * math.prod(SPACING)


def ball_mm3(radius_mm: float) -> float:
    return 4.0 / 3.0 * math.pi * radius_mm**3


@pytest.mark.parametrize("radius_mm", [10.0, 14.0])
def test_a_ball_grown_by_3_mm_has_the_volume_of_the_larger_ball(radius_mm: float) -> None:
    after = grown(ball(radius_mm), SPACING, 3.0)
    assert volume_mm3(after) == pytest.approx(ball_mm3(radius_mm + 3.0), rel=0.08)
    assert (after >= ball(radius_mm)).all()


@pytest.mark.parametrize("radius_mm", [14.0, 18.0])
def test_a_ball_shrunk_by_3_mm_has_the_volume_of_the_smaller_ball(radius_mm: float) -> None:
    after = shrunk(ball(radius_mm), SPACING, 3.0)
    assert volume_mm3(after) == pytest.approx(ball_mm3(radius_mm - 3.0), rel=0.1)
    assert (after <= ball(radius_mm)).all()


def test_a_margin_is_a_length_and_no_number_of_voxels() -> None:
    point = np.zeros((9, 41, 31), np.bool_)
    point[4, 20, 15] = True
    box = Box.around(grown(point, SPACING, 6.5))
    assert box is not None
    assert box.shape == (1 + 2 * 2, 1 + 2 * 9, 1 + 2 * 5)


def test_nothing_grows_to_nothing_and_everything_does_not_shrink_at_the_border_of_the_array() -> None:
    assert not grown(np.zeros((4, 5, 6), np.bool_), SPACING, 9.0).any()
    assert shrunk(np.ones((4, 5, 6), np.bool_), SPACING, 9.0).all()


def test_smoothing_keeps_a_ball_and_takes_off_a_spike() -> None:
    segment = ball(14.0)
    spiky = segment.copy()
    spiky[8, 34, :] = True
    after = smoothed(spiky, np.zeros_like(segment), SPACING, 2.0)
    assert not after[8, 34, :3].any()
    assert volume_mm3(after) == pytest.approx(volume_mm3(segment), rel=0.06)


def test_smoothing_works_in_millimetres() -> None:
    corner = np.zeros((30, 60, 60), np.bool_)
    corner[:15, :, :30] = True
    nobody = np.zeros_like(corner)
    fine = corner & ~smoothed(corner, nobody, (1.0, 1.0, 1.0), 2.0)
    coarse = corner & ~smoothed(corner, nobody, (3.0, 1.0, 1.0), 2.0)
    slices, more_slices = (int(lost.any(axis=(1, 2)).sum()) for lost in (coarse, fine))
    assert 0 < slices < more_slices


def test_smoothing_leaves_the_border_with_a_neighbour_where_it_is() -> None:
    mine, theirs = np.zeros((12, 40, 40), np.bool_), np.zeros((12, 40, 40), np.bool_)
    mine[2:10, 5:35, 5:20], theirs[2:10, 5:35, 20:35] = True, True
    after = smoothed(mine, theirs, SPACING, 2.0)
    assert not (after & theirs).any()
    assert after[4:8, 12:28, 19].all()
    assert not after[2, 5, 5]


def test_a_hole_is_filled_and_a_dent_is_not() -> None:
    shell = ball(14.0) & ~ball(6.0)
    assert np.array_equal(holes_in(shell), ball(6.0))
    tunnel = shell.copy()
    tunnel[8:, 34:36, 19] = False
    assert not holes_in(tunnel).any()


def test_slice_by_slice_a_tunnel_is_a_hole() -> None:
    tube = np.zeros((5, 20, 18), np.bool_)
    tube[:, 4:16, 3:15] = True
    tube[:, 8:12, 7:11] = False
    assert not holes_in(tube).any()
    assert np.array_equal(holes_by_slice(tube, 0), _block(tube.shape, (0, 8, 7), (5, 12, 11)))
    assert not holes_by_slice(tube, 1).any()


def test_islands_by_size_and_by_seed() -> None:
    segment = np.zeros((8, 20, 20), np.bool_)
    segment[1:4, 2:6, 2:6], segment[5, 10, 10:13], segment[6, 11, 13] = True, True, True
    assert np.array_equal(islands_of(segment, 5), _block(segment.shape, (1, 2, 2), (4, 6, 6)))
    assert islands_of(segment, 4).sum() == segment.sum()
    assert island_at(segment, (6, 11, 13)).sum() == 4
    assert not island_at(segment, (0, 0, 0)).any()
    assert not islands_of(np.zeros_like(segment), 1).any()


def test_what_is_connected_is_what_a_plain_search_finds() -> None:
    random = np.random.default_rng(5)
    for density in (0.3, 0.5, 0.9):
        allowed = random.random((6, 13, 11)) < density
        seed = tuple(int(n) for n in np.argwhere(allowed)[7])
        waiting, plain = [seed], np.zeros_like(allowed)
        while waiting:
            place = waiting.pop()
            if not all(0 <= p < n for p, n in zip(place, allowed.shape, strict=True)):
                continue
            if allowed[place] and not plain[place]:
                plain[place] = True
                for axis in range(3):
                    for step in (-1, 1):
                        waiting.append(tuple(p + step * (a == axis) for a, p in enumerate(place)))
        assert np.array_equal(connected_to(allowed, (seed[0], seed[1], seed[2])), plain)
    assert not connected_to(np.zeros((2, 3, 4), np.bool_), (1, 1, 1)).any()


def test_the_usual_range_holds_the_seeds_surroundings_and_not_an_outlier() -> None:
    voxels = np.random.default_rng(2).normal(100.0, 5.0, SHAPE)
    voxels[8, 34, 20] = 4000.0
    low, high = usual_range(voxels, (8, 34, 19), SPACING)
    assert 75.0 < low < 90.0
    assert 110.0 < high < 125.0
    flat = np.full(SHAPE, 7, np.int16)
    assert usual_range(flat, (0, 0, 0), SPACING) == (6.5, 7.5)
    assert usual_range(np.full(SHAPE, np.nan), (0, 0, 0), SPACING)[0] != 0


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(2, 4, [2, 3, 4]), (1.5, 2.5, [2]), (-1e9, 1, [0, 1]), (300, 400, []), (5, 1e12, [5, 6])],
)
def test_a_threshold_holds_both_ends_in_every_type(low: float, high: float, expected: list[int]) -> None:
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.float32):
        voxels = np.arange(7).astype(dtype).reshape(1, 1, 7)
        assert np.flatnonzero(within_range(voxels, low, high)).tolist() == expected, dtype


def test_what_is_not_a_number_lies_in_no_range() -> None:
    voxels = np.array([[[np.nan, np.inf, 1.0]]], np.float32)
    assert within_range(voxels, -1e30, 1e30).tolist() == [[[False, False, True]]]


def test_a_fill_without_edges_is_a_ball_of_its_distance() -> None:
    flat = np.zeros(SHAPE, np.float32)
    seed = (8, 34, 19)
    box = reach_of(seed, 9.0, SPACING, SHAPE)
    inner = tuple(s - b for s, b in zip(seed, box.start, strict=True))
    found = filled_from(flat[box.slices], np.ones(box.shape, np.bool_), (inner[0], inner[1], inner[2]), SPACING, 9.0)
    # Ways of 26 directions are longer than straight ones: the ball comes out as a polyhedron within it.
    assert 0.6 * ball_mm3(9.0) < volume_mm3(found) < 1.02 * ball_mm3(9.0)
    axes = [(np.arange(n) - s) * side for n, s, side in zip(box.shape, inner, SPACING, strict=True)]
    assert (
        np.sqrt(
            max(float(sum(np.square(a[p]) for a, p in zip(axes, place, strict=True))) for place in np.argwhere(found))
        )
        <= 9.0
    )


def test_a_fill_stops_at_an_edge_be_it_sharp_or_blurred_and_goes_round_what_is_not_allowed() -> None:
    noise = np.random.default_rng(1).normal(0.0, 4.0, (9, 60, 60))
    ramp = np.clip((np.arange(60) - 30) / 4.0, 0.0, 1.0)
    for edge in (ramp, ramp > 0):
        voxels = (100.0 + 80.0 * edge[None, None, :] + noise).astype(np.float32)
        found = filled_from(voxels, np.ones(voxels.shape, np.bool_), (4, 30, 15), (2.0, 1.0, 1.0), 30.0)
        assert found[4, 20:40, 8:26].mean() > 0.9
        assert found[:, :, 36:].mean() < 0.01
    wall = np.ones((9, 60, 60), np.bool_)
    wall[:, :, 25] = False
    assert not filled_from(noise, wall, (4, 30, 15), (2.0, 1.0, 1.0), 30.0)[:, :, 25:].any()


def test_segments_of_one_layer_combine_as_sets() -> None:
    mine, other = _block((3, 4, 5), (0, 0, 0), (2, 2, 2)), _block((3, 4, 5), (2, 2, 2), (3, 4, 5))
    for combination, expected, left in (
        (Combination.UNION, mine | other, False),
        (Combination.COPY, other, False),
        (Combination.INTERSECTION, np.zeros_like(mine), True),
        (Combination.DIFFERENCE, mine, True),
    ):
        after, theirs = combined(mine, other, combination)
        assert np.array_equal(after, expected)
        assert np.array_equal(theirs, other if left else np.zeros_like(other))


def test_the_box_of_a_value_is_that_of_the_plain_way() -> None:
    random = np.random.default_rng(8)
    for dtype in (np.bool_, np.uint8, np.uint16):
        for most in (1, 3, 60):
            labels = np.zeros((5, 12, 9), dtype)
            places = random.integers(0, labels.shape, (most, 3))
            labels[tuple(places.T)] = 1
            assert box_of_value(labels, 1) == Box.around(labels == 1)
            assert box_of_value(labels[::-1, 2:, ::2], 1) == Box.around(labels[::-1, 2:, ::2] == 1)
        assert box_of_value(np.zeros((2, 3, 4), dtype), 1) is None
        assert box_of_value(np.zeros((0, 3, 4), dtype), 1) is None


def test_depths_are_exact_distances_in_areas_and_volumes_of_any_layout() -> None:
    random = np.random.default_rng(3)
    volume = random.random((7, 20, 24)) < 0.97
    expected = ndimage.distance_transform_edt(volume, sampling=SPACING)
    assert np.allclose(depth_mm(volume, SPACING), expected, atol=1e-4)
    assert np.allclose(depth_mm(np.asfortranarray(volume), SPACING), expected, atol=1e-4)
    area = volume[0]
    assert np.allclose(
        depth_mm(area, SPACING[:2]), ndimage.distance_transform_edt(area, sampling=SPACING[:2]), atol=1e-4
    )
    assert np.isinf(depth_mm(np.ones((2, 3, 4), np.bool_), SPACING)).all()


def _block(shape: tuple[int, ...], start: tuple[int, int, int], stop: tuple[int, int, int]) -> NDArray[np.bool_]:
    block = np.zeros(shape, np.bool_)
    block[Box(start, stop).slices] = True
    return block
