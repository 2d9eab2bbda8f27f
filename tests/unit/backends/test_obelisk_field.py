"""Where the OBELISK backend looks: the framing rules, on bodies made of ellipses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from annotate_server.backends.obelisk.field import USUAL_MM, Trunk, find_trunk
from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.geometry import Box

SPACING = (5.0, 2.0, 2.0)
ROWS, COLUMNS = 150, 220


def ellipse(centre: tuple[float, float], half: tuple[float, float]) -> NDArray[np.bool_]:
    rows, columns = ((np.arange(n) - c) / h for n, c, h in zip((ROWS, COLUMNS), centre, half, strict=True))
    inside: NDArray[np.bool_] = rows[:, None] ** 2 + columns[None] ** 2 <= 1.0
    return inside


def body(slices: int = 80, *, arms: bool = False, table: bool = False) -> NDArray[np.int16]:
    """A trunk of 220 x 320 mm in slices towards the feet."""
    plane = np.full((ROWS, COLUMNS), -1000, np.int16)
    plane[ellipse((70, 110), (55, 80))] = 40
    if arms:
        plane[ellipse((70, 15), (14, 12)) | ellipse((70, 205), (14, 12))] = 40
    if table:
        plane[132:134, 20:200] = 200
    return np.repeat(plane[None], slices, axis=0)


def trunk(slices: int = 80, rectangle: tuple[int, int, int, int] = (15, 126, 30, 191)) -> Trunk:
    return Trunk(np.repeat(np.array([rectangle]), slices, axis=0), SPACING)


def test_the_trunk_is_found_without_arms_and_table() -> None:
    for voxels in (body(12), body(12, arms=True), body(12, table=True)):
        found = find_trunk(voxels, SPACING).rectangles
        assert found.shape == (12, 4)
        assert np.abs(found - [15, 126, 30, 191]).max() <= 4


def test_the_trunk_is_as_long_as_the_volume_whatever_the_slices_and_none_where_there_is_air() -> None:
    voxels = body(31)
    voxels[20:] = -1000
    found = find_trunk(voxels, (1.0, 2.0, 2.0))
    assert found.rectangles.shape == (31, 4)
    assert found.length_mm == 31.0
    assert (found.rectangles[21:] == -1).all()
    assert (found.rectangles[:18] >= 0).all()


def test_a_window_cuts_margins_off_the_trunk_in_millimetres() -> None:
    assert trunk().window(100.0, 300.0) == Box((20, 15 + 2, 30 + 8), (60, 126 - 2, 191 - 8))


def test_a_window_takes_the_usual_outline_of_its_slices() -> None:
    rectangles = np.repeat(np.array([[15, 126, 30, 191]]), 80, axis=0)
    rectangles[20:25], rectangles[30] = (0, 150, 0, 220), -1
    assert Trunk(rectangles, SPACING).window(100.0, 300.0) == trunk().window(100.0, 300.0)


@pytest.mark.parametrize("rectangle", [(15, 60, 30, 191), (15, 126, 30, 90), (-1, -1, -1, -1)])
def test_a_limb_a_narrow_field_and_air_are_refused(rectangle: tuple[int, int, int, int]) -> None:
    with pytest.raises(NotMadeFor, match="body"):
        trunk(80, rectangle).window(0.0, 200.0)


def test_a_short_volume_gets_one_window_that_is_stretched_over_its_ends() -> None:
    assert [w.start[0] for w in trunk(20).sweep()] == [-5]
    assert [w.stop[0] for w in trunk(20).sweep()] == [25]
    whole = trunk(34).sweep()
    assert [(w.start[0], w.stop[0]) for w in whole] == [(0, 34)]


@settings(deadline=None, max_examples=60)
@given(slices=st.integers(38, 400), spacing=st.sampled_from([1.0, 2.5, 5.0]))
def test_windows_cover_a_long_volume_without_leaving_it(slices: int, spacing: float) -> None:
    long = Trunk(np.repeat(np.array([[15, 126, 30, 191]]), slices, axis=0), (spacing, 2.0, 2.0))
    windows = long.sweep()
    if long.length_mm <= USUAL_MM:
        assert len(windows) == 1
        return
    assert windows[0].start[0] == 0
    assert windows[-1].stop[0] == pytest.approx(slices, abs=1)
    steps = np.diff([w.start[0] for w in windows]) * spacing
    assert (steps <= 70.0 + spacing).all()
    assert all(abs(w.shape[0] * spacing - USUAL_MM) <= spacing for w in windows)


def test_windows_where_only_a_head_is_are_left_out() -> None:
    rectangles = np.repeat(np.array([[15, 126, 30, 191]]), 160, axis=0)
    rectangles[:60] = (50, 90, 80, 140)
    windows = Trunk(rectangles, SPACING).sweep()
    assert windows
    assert all(window.shape[2] * 2.0 > 150.0 for window in windows)
    with pytest.raises(NotMadeFor, match="nowhere"):
        trunk(160, (50, 90, 80, 140)).sweep()


def test_the_second_window_runs_from_above_the_dome_to_below_the_organs() -> None:
    first = trunk(160).window(100.0, 285.0)
    around = trunk(160).around(150.0, 250.0, first)
    assert (around.start[0], around.stop[0]) == (round(142 / 5), round((142 + USUAL_MM) / 5))
    lower = trunk(160).around(60.0, 265.0, trunk(160).window(60.0, 285.0))
    assert lower.stop[0] * 5.0 == pytest.approx(275.0, abs=5.0)
    cut = trunk(160).around(60.0, 245.0, trunk(160).window(60.0, 245.0))
    assert cut.stop[0] * 5.0 == pytest.approx(275.0, abs=5.0)
    endless = trunk(160).around(60.0, 500.0, trunk(160).window(60.0, 245.0))
    assert endless.shape[0] * 5.0 == pytest.approx(225.0, abs=5.0)


def test_the_second_window_stays_within_the_volume_and_a_short_one_keeps_its_first() -> None:
    first = trunk(60).window(0.0, 185.0)
    assert trunk(60).around(0.0, 170.0, first).start[0] == 0
    last = trunk(60).around(200.0, 300.0, trunk(60).window(115.0, 300.0))
    assert last.stop[0] == 60
    assert last.shape[0] * 5.0 == pytest.approx(USUAL_MM, abs=5.0)
    short = trunk(20).sweep()[0]
    assert trunk(20).around(10.0, 90.0, short) is short
