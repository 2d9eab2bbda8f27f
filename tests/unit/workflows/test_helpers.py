"""Helpers on a draft: what an answer holds, what is never touched, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import oblique_geometry
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from annotate_server.domain.errors import Cancelled, InvalidLabelmap, InvalidRequest, LockedSegment
from annotate_server.domain.geometry import Box, Vector
from annotate_server.domain.helper import Combination, HelperKind, HelperOrder, IslandRule
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.model import Prediction
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume
from annotate_server.workflows.helpers import carry_out

GRID = oblique_geometry((13, 44, 31))
MINE, OTHER, THIRD = (Segment(n, name, (9, 9, 9)) for n, name in ((2, "Mine"), (5, "Other"), (7, "Third")))
SEGMENTS = (MINE, OTHER, THIRD)
MIDDLE = (6, 22, 15)


def away_mm(centre: tuple[int, int, int] = MIDDLE) -> NDArray[np.float64]:
    axes = [(np.arange(n) - c) * s for n, c, s in zip(GRID.shape, centre, GRID.spacing_mm, strict=True)]
    away: NDArray[np.float64] = np.sqrt(sum(np.square(axis) for axis in np.ix_(*axes)))
    return away


BALL = away_mm() <= 9.0
NOISE = np.random.default_rng(4).normal(0.0, 4.0, GRID.shape)
VOLUME = Volume((40.0 + 60.0 * BALL + NOISE).astype(np.int16), GRID)


def draft(mine: NDArray[np.bool_], other: NDArray[np.bool_] | None = None) -> Labelmap:
    voxels = np.zeros(GRID.shape, np.uint8)
    voxels[mine] = MINE.index
    if other is not None:
        voxels[other] = OTHER.index
    return Labelmap(voxels, GRID, SEGMENTS)


def world(place: tuple[float, float, float]) -> Vector:
    x, y, z = GRID.world([place])[0]
    return float(x), float(y), float(z)


def after(before: Labelmap, answer: Prediction) -> NDArray[np.uint8]:
    """The draft with the answer in it, as the caller of a helper applies it."""
    voxels = before.voxels.copy()
    inside = voxels[answer.box.slices]
    for segment in answer.segments:
        inside[(inside == segment.index) & (answer.labels != segment.index)] = 0
    for segment in answer.segments:
        inside[answer.labels == segment.index] = segment.index
    return voxels


def help_with(order: HelperOrder, before: Labelmap, locked: frozenset[int] = frozenset()) -> NDArray[np.bool_]:
    answer = carry_out(order, VOLUME, before, MINE, Control(), locked=locked)
    found: NDArray[np.bool_] = after(before, answer) == MINE.index
    changed = Box.around(found != (before.voxels == MINE.index))
    if order.kind is not HelperKind.COMBINE:
        assert answer.box == (changed or Box((0, 0, 0), (0, 0, 0)))
        assert set(np.unique(answer.labels)) <= {0, MINE.index}
    return found


NOTHING = np.zeros(GRID.shape, np.bool_)
SEED = HelperOrder(HelperKind.REGION_GROWING, seed_mm=world(MIDDLE))
ORDERS = (
    HelperOrder(HelperKind.THRESHOLD, low=70.0, high=130.0),
    HelperOrder(HelperKind.THRESHOLD, low=70.0, high=130.0, within=MINE.index),
    SEED,
    replace(SEED, low=60.0, high=200.0),
    HelperOrder(HelperKind.GEODESIC_FILL, seed_mm=world(MIDDLE), distance_mm=12.0),
    HelperOrder(HelperKind.SMOOTH, distance_mm=1.5),
    HelperOrder(HelperKind.FILL_HOLES),
    HelperOrder(HelperKind.FILL_HOLES, by_slice=True, axis=1),
    HelperOrder(HelperKind.ISLANDS),
    HelperOrder(HelperKind.ISLANDS, rule=IslandRule.MINIMUM_SIZE, volume_ml=0.02),
    HelperOrder(HelperKind.INTERPOLATE),
    HelperOrder(HelperKind.INTERPOLATE, axis=2),
    HelperOrder(HelperKind.MARGIN, distance_mm=3.0),
    HelperOrder(HelperKind.MARGIN, distance_mm=-2.0),
    HelperOrder(HelperKind.MARGIN, distance_mm=0.0),
    HelperOrder(HelperKind.COMBINE, other=OTHER.index, combination=Combination.DIFFERENCE),
    HelperOrder(HelperKind.COMBINE, other=OTHER.index, combination=Combination.INTERSECTION),
)


@settings(deadline=None, max_examples=60)
@given(order=st.sampled_from(ORDERS), seed=st.integers(0, 2**20), density=st.sampled_from([0.02, 0.3, 0.8]))
def test_no_helper_touches_another_segment_or_its_input(order: HelperOrder, seed: int, density: float) -> None:
    voxels = np.random.default_rng(seed).choice(
        np.array([0, MINE.index, OTHER.index, THIRD.index], np.uint8),
        GRID.shape,
        p=[1 - density, density / 2, density / 4, density / 4],
    )
    voxels[MIDDLE] = 0
    voxels[0, 0, :2], voxels[12, 0, 0] = (MINE.index, OTHER.index), MINE.index
    before = Labelmap(voxels, GRID, SEGMENTS)
    kept = voxels.copy()
    answer = carry_out(order, VOLUME, before, MINE, Control(), locked=frozenset({OTHER.index}))
    assert np.array_equal(voxels, kept)
    result = after(before, answer)
    for other in (OTHER, THIRD):
        assert np.array_equal(result == other.index, kept == other.index)


def test_a_threshold_makes_the_segment_what_lies_in_the_range() -> None:
    found = help_with(HelperOrder(HelperKind.THRESHOLD, low=70.0, high=400.0), draft(away_mm((1, 1, 1)) < 4))
    assert np.array_equal(found, BALL)
    within = HelperOrder(HelperKind.THRESHOLD, low=70.0, high=400.0, within=MINE.index)
    block = np.zeros_like(BALL)
    block[4:9, 10:30, 2:14] = True
    assert np.array_equal(help_with(within, draft(block)), BALL & block)


def test_growing_from_a_seed_finds_its_range_and_stays_connected() -> None:
    apart = Volume((VOLUME.voxels + 60 * (away_mm((1, 3, 3)) < 4)).astype(np.int16), GRID)
    answer = carry_out(SEED, apart, draft(NOTHING), MINE, Control())
    found = after(draft(NOTHING), answer) == MINE.index
    assert (found & BALL).sum() > 0.97 * BALL.sum()
    assert not (found & ~BALL).any()
    assert "Grown within" in answer.notes[0]


def test_growing_keeps_what_was_there() -> None:
    earlier = away_mm((2, 5, 5)) < 4
    found = help_with(SEED, draft(earlier))
    assert (found >= earlier).all()
    assert found[MIDDLE]


def test_a_geodesic_fill_goes_up_to_the_edge() -> None:
    order = HelperOrder(HelperKind.GEODESIC_FILL, seed_mm=world(MIDDLE), distance_mm=16.0)
    found = help_with(order, draft(NOTHING))
    assert (found & BALL).sum() > 0.9 * BALL.sum()
    assert (found & ~BALL).sum() < 0.02 * BALL.sum()


def test_holes_are_filled_around_what_another_segment_holds_in_them() -> None:
    shell, core = BALL & ~(away_mm() < 5), away_mm() < 2
    found = help_with(HelperOrder(HelperKind.FILL_HOLES), draft(shell, core))
    assert np.array_equal(found, BALL & ~core)


def test_islands_stay_by_rule() -> None:
    small = away_mm((1, 3, 3)) < 3.2
    both = draft(BALL | small)
    at_seed = HelperOrder(HelperKind.ISLANDS, rule=IslandRule.AT_SEED, seed_mm=world((1, 3, 3)))
    exact = float(BALL.sum()) * GRID.voxel_ml
    by_size = HelperOrder(HelperKind.ISLANDS, rule=IslandRule.MINIMUM_SIZE, volume_ml=exact)
    assert np.array_equal(help_with(HelperOrder(HelperKind.ISLANDS), both), BALL)
    assert np.array_equal(help_with(at_seed, both), small)
    assert np.array_equal(help_with(by_size, both), BALL)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_third_slice_of_a_ball_is_enough_to_get_it_back(axis: int) -> None:
    drawn = np.zeros_like(BALL)
    inside = np.flatnonzero(BALL.any(axis=tuple(a for a in range(3) if a != axis)))
    kept = [*inside[::3], inside[-1]]
    np.moveaxis(drawn, axis, 0)[kept] = np.moveaxis(BALL, axis, 0)[kept]
    found = help_with(HelperOrder(HelperKind.INTERPOLATE, axis=axis), draft(drawn))
    assert 2.0 * (found & BALL).sum() / (found.sum() + BALL.sum()) > 0.93
    assert (found >= drawn).all()


def test_interpolating_where_nothing_is_missing_says_so() -> None:
    answer = carry_out(HelperOrder(HelperKind.INTERPOLATE), VOLUME, draft(BALL), MINE, Control())
    assert answer.box.is_empty
    assert answer.notes


def test_a_margin_grows_into_the_free_and_shrinks_from_the_neighbour() -> None:
    beside = (away_mm() > 9.0) & (away_mm() < 14.0) & (np.arange(GRID.shape[2]) > 15)
    larger = help_with(HelperOrder(HelperKind.MARGIN, distance_mm=3.0), draft(BALL, beside))
    assert not (larger & beside).any()
    assert larger[6, 22, 15 - 8]
    smaller = help_with(HelperOrder(HelperKind.MARGIN, distance_mm=-3.0), draft(BALL, beside))
    assert 0 < smaller.sum() < BALL.sum()


@pytest.mark.parametrize("combination", [Combination.UNION, Combination.COPY])
def test_voxels_move_from_an_unlocked_segment_to_the_active_one(combination: Combination) -> None:
    theirs = away_mm((2, 6, 6)) < 5
    before = draft(BALL, theirs)
    order = HelperOrder(HelperKind.COMBINE, other=OTHER.index, combination=combination)
    answer = carry_out(order, VOLUME, before, MINE, Control())
    result = after(before, answer)
    assert np.array_equal(result == MINE.index, BALL | theirs if combination is Combination.UNION else theirs)
    assert not (result == OTHER.index).any()
    assert answer.segments == (MINE, OTHER)
    with pytest.raises(LockedSegment, match="Other"):
        carry_out(order, VOLUME, before, MINE, Control(), locked=frozenset({OTHER.index}))


def test_a_union_from_nothing_and_an_intersection_of_strangers() -> None:
    theirs = away_mm((2, 6, 6)) < 5
    union = HelperOrder(HelperKind.COMBINE, other=OTHER.index)
    assert np.array_equal(help_with(union, draft(NOTHING, theirs)), theirs)
    shared = replace(union, combination=Combination.INTERSECTION)
    answer = carry_out(shared, VOLUME, draft(BALL, theirs), MINE, Control())
    assert not (after(draft(BALL, theirs), answer) == MINE.index).any()
    assert "share no voxel" in answer.notes[0]
    assert carry_out(
        replace(union, combination=Combination.DIFFERENCE), VOLUME, draft(BALL, theirs), MINE, Control()
    ).box.is_empty


@pytest.mark.parametrize(
    "order",
    [order for order in ORDERS if order.kind not in (HelperKind.THRESHOLD, HelperKind.REGION_GROWING,
     HelperKind.GEODESIC_FILL, HelperKind.COMBINE)],
)  # fmt: skip
def test_an_empty_segment_is_refused_by_what_needs_one(order: HelperOrder) -> None:
    with pytest.raises(InvalidRequest, match="'Mine' is empty"):
        carry_out(order, VOLUME, draft(NOTHING), MINE, Control())


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        (replace(SEED, seed_mm=world((6, 22, 99))), "outside the volume"),
        (replace(SEED, seed_mm=(float("nan"), 0.0, 0.0)), "finite"),
        (replace(SEED, seed_mm=world((2, 6, 6))), "lies in 'Other'"),
        (replace(SEED, low=10.0), "both low and high"),
        (replace(SEED, low=500.0, high=600.0), "own intensity"),
        (HelperOrder(HelperKind.THRESHOLD, low=0.0, high=float("inf")), "finite"),
        (HelperOrder(HelperKind.THRESHOLD, low=0.0, high=1.0, within=OTHER.index), "take its voxels"),
        (HelperOrder(HelperKind.THRESHOLD, low=0.0, high=1.0, within=77), "no segment of the index 77"),
        (HelperOrder(HelperKind.SMOOTH, distance_mm=0.0), "more than 0"),
        (HelperOrder(HelperKind.SMOOTH, distance_mm=500.0), "at most 15"),
        (HelperOrder(HelperKind.MARGIN, distance_mm=-101.0), "at most 100"),
        (HelperOrder(HelperKind.GEODESIC_FILL, seed_mm=world(MIDDLE), distance_mm=1e6), "at most 100"),
        (HelperOrder(HelperKind.GEODESIC_FILL, seed_mm=world(MIDDLE), distance_mm=-1.0), "more than 0"),
        (HelperOrder(HelperKind.ISLANDS, rule=IslandRule.MINIMUM_SIZE), "volume_ml"),
        (HelperOrder(HelperKind.ISLANDS, rule=IslandRule.AT_SEED), "seed_mm"),
        (HelperOrder(HelperKind.ISLANDS, rule=IslandRule.AT_SEED, seed_mm=world((0, 0, 0))), "does not lie in"),
        (HelperOrder(HelperKind.COMBINE, other=MINE.index), "with itself"),
        (HelperOrder(HelperKind.COMBINE, other=THIRD.index), "'Third' is empty"),
        (HelperOrder(HelperKind.COMBINE, other=0), "no segment"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_with_a_sentence(order: HelperOrder, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        carry_out(order, VOLUME, draft(BALL, away_mm((2, 6, 6)) < 5), MINE, Control())


def test_one_slice_is_too_few_to_interpolate() -> None:
    one = BALL & (np.arange(GRID.shape[0]) == 6)[:, None, None]
    with pytest.raises(InvalidRequest, match="two slices"):
        carry_out(HelperOrder(HelperKind.INTERPOLATE), VOLUME, draft(one), MINE, Control())


@pytest.mark.parametrize("order", ORDERS)
def test_a_locked_segment_a_strange_grid_and_a_cancel_stop_every_helper(order: HelperOrder) -> None:
    before = draft(BALL, away_mm((2, 6, 6)) < 5)
    with pytest.raises(LockedSegment, match="'Mine' is locked"):
        carry_out(order, VOLUME, before, MINE, Control(), locked=frozenset({MINE.index}))
    elsewhere = Labelmap(np.zeros((3, 4, 5), np.uint8), oblique_geometry((3, 4, 5)), SEGMENTS)
    with pytest.raises(InvalidLabelmap, match="another grid"):
        carry_out(order, VOLUME, elsewhere, MINE, Control())
    with pytest.raises(Cancelled):
        carry_out(order, VOLUME, before, MINE, Control(is_cancelled=lambda: True))


def test_interpolation_reports_and_can_be_stopped_between_gaps() -> None:
    drawn = BALL & (np.arange(GRID.shape[0]) % 2 == 0)[:, None, None]
    heard: list[tuple[float, str]] = []
    carry_out(
        HelperOrder(HelperKind.INTERPOLATE), VOLUME, draft(drawn), MINE,
        Control(report=lambda fraction, text: heard.append((fraction, text))),
    )  # fmt: skip
    assert [fraction for fraction, _ in heard] == sorted(fraction for fraction, _ in heard)
    assert heard[-1][0] == 1.0
    assert any("gap 2 of" in text for _, text in heard)
    with pytest.raises(Cancelled):
        carry_out(
            HelperOrder(HelperKind.INTERPOLATE), VOLUME, draft(drawn), MINE,
            Control(is_cancelled=iter([False, False, True]).__next__),
        )  # fmt: skip


def test_a_large_index_gets_room() -> None:
    large = replace(MINE, index=300)
    before = Labelmap(np.where(BALL, 300, 0).astype(np.uint16), GRID, (large,))
    answer = carry_out(HelperOrder(HelperKind.MARGIN, distance_mm=3.0), VOLUME, before, large, Control())
    assert answer.labels.dtype == np.uint16
    assert (answer.labels == 300).any()
