"""Slices between drawn ones."""

import numpy as np
import pytest
from numpy.typing import NDArray

from annotate_server.imaging.editing.interpolation import drawn_slices, gaps, in_plane_mm, interpolated
from annotate_server.imaging.editing.pairing import paired

PIXEL = (0.7, 1.3)


def disc(centre: tuple[float, float], radius_mm: float, shape: tuple[int, int] = (90, 60)) -> NDArray[np.bool_]:
    rows, columns = ((np.arange(n) - c) * side for n, c, side in zip(shape, centre, PIXEL, strict=True))
    inside: NDArray[np.bool_] = rows[:, None] ** 2 + columns[None] ** 2 <= radius_mm**2
    return inside


def share(found: NDArray[np.bool_], expected: NDArray[np.bool_]) -> float:
    return 2.0 * float((found & expected).sum()) / float(found.sum() + expected.sum())


def between(before: NDArray[np.bool_], after: NDArray[np.bool_], count: int) -> list[NDArray[np.bool_]]:
    return list(interpolated(before, after, count, PIXEL))


def test_a_cone_comes_out_as_a_cone() -> None:
    found = between(disc((45, 30), 20.0), disc((45, 30), 8.0), 5)
    for number, area in enumerate(found, 1):
        assert share(area, disc((45, 30), 20.0 - 2.0 * number)) > 0.97


def test_an_oblique_tube_moves_along_even_where_its_ends_do_not_overlap() -> None:
    found = between(disc((28, 20), 6.0), disc((56, 40), 6.0), 3)
    for number, area in enumerate(found, 1):
        assert share(area, disc((28 + 7 * number, 20 + 5 * number), 6.0)) > 0.93


def test_a_branch_meets_both_of_its_ends() -> None:
    ends = disc((30, 30), 7.0) | disc((62, 30), 7.0)
    found = between(disc((46, 30), 17.0), ends, 3)
    assert found[2][30, 30]
    assert found[2][62, 30]
    assert found[2].sum() < found[0].sum()


def test_two_parts_do_not_melt_into_each_other() -> None:
    left, right = disc((20, 15), 6.0), disc((70, 45), 6.0)
    for area in between(left | right, left | right, 2):
        assert np.array_equal(area, left | right)


def test_a_part_without_a_partner_runs_out_half_way() -> None:
    stays, ends = disc((20, 15), 6.0), disc((75, 50), 6.0)
    found = between(stays | ends, stays, 5)
    beside = [int((area & ~stays).sum()) for area in found]
    assert beside[0] > beside[1] > 0
    assert beside[3:] == [0, 0]
    assert all((area >= stays).all() for area in found)


def test_far_parts_are_no_pair_and_near_ones_are() -> None:
    far = list(paired(disc((5, 5), 2.0), disc((85, 55), 2.0), PIXEL))
    near = list(paired(disc((5, 5), 2.0), disc((5, 12), 2.0), PIXEL))
    assert len(far) == 2
    assert len(near) == 1
    assert not list(paired(np.zeros((4, 5), np.bool_), np.zeros((4, 5), np.bool_), PIXEL))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gaps_are_found_along_any_axis(axis: int) -> None:
    segment = np.zeros((9, 9, 9), np.bool_)
    planes = np.moveaxis(segment, axis, 0)
    planes[1, 2:4, 5], planes[4, 3, 3], planes[5, 3, 3], planes[8, 1, 1] = True, True, True, True
    drawn = drawn_slices(segment, axis)
    assert drawn == [1, 4, 5, 8]
    assert list(gaps(drawn)) == [(1, 4), (5, 8)]
    assert in_plane_mm((3.0, 2.0, 1.0), axis) == ((2.0, 1.0), (3.0, 1.0), (3.0, 2.0))[axis]
