import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.imaging.surface import element_areas, neighbour_codes, on_surface, surface_distances

SPACING = (3.1, 0.7, 1.3)


def blob(seed: int, shape: tuple[int, int, int] = (9, 17, 13)) -> NDArray[np.bool_]:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0.8, 2.0, 1.5))
    return noise > noise.std()


def brute_force(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Distances and areas of both surfaces, point against point, in double precision."""
    points, areas = [], []
    for occupied in (truth, predicted):
        codes = neighbour_codes(occupied)
        points.append(np.argwhere(on_surface(codes)) * np.array(SPACING))
        areas.append(element_areas(SPACING)[codes[on_surface(codes)]])
    lengths = np.linalg.norm(points[0][:, None] - points[1][None], axis=2)
    return [(lengths.min(axis=1), areas[0]), (lengths.min(axis=0), areas[1])]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tolerance_mm", [0.5, 1.0, 2.0])
def test_surface_dice_is_the_share_of_area_within_the_tolerance(seed: int, tolerance_mm: float) -> None:
    truth, predicted = blob(seed), blob(seed) ^ (blob(seed + 100) & blob(seed + 200))
    sides = brute_force(truth, predicted)
    within = sum(area[distance <= tolerance_mm + 1e-9].sum() for distance, area in sides)
    expected = within / sum(area.sum() for _, area in sides)
    assert surface_distances(truth, predicted, SPACING).dice(tolerance_mm) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_hausdorff_95_is_the_larger_percentile_by_area(seed: int) -> None:
    truth, predicted = blob(seed), blob(seed + 50)
    expected = []
    for distance, area in brute_force(truth, predicted):
        candidates = sorted(set(distance))
        expected.append(next(d for d in candidates if area[distance <= d].sum() >= 0.95 * area.sum()))
    assert surface_distances(truth, predicted, SPACING).hausdorff_mm(95) == pytest.approx(max(expected), abs=1e-4)


def test_areas_of_single_elements_are_those_of_their_triangles() -> None:
    area = element_areas((2.0, 3.0, 5.0))
    assert area[0] == area[255] == 0.0
    # One corner inside: a triangle between the midpoints of three edges of lengths 2, 3 and 5.
    corner = 0.5 * np.linalg.norm(np.cross([-1.0, 1.5, 0.0], [-1.0, 0.0, 2.5]))
    assert area[1] == area[128] == area[254] == pytest.approx(corner)
    # Half of the cube inside: a plane of one voxel's face. Bit 4a + 2b + c is the voxel at offset (a, b, c).
    assert area[0b00001111] == pytest.approx(3.0 * 5.0)
    assert area[0b00110011] == pytest.approx(2.0 * 5.0)
    assert area[0b01010101] == pytest.approx(2.0 * 3.0)


def test_inside_out_the_surface_is_the_same() -> None:
    area = element_areas(SPACING)
    np.testing.assert_allclose(area, area[::-1])


def test_the_area_of_a_ball_is_near_the_true_one() -> None:
    k, j, i = np.ogrid[-14:15, -24:25, -20:21]
    ball = (k * 1.0) ** 2 + (j * 0.6) ** 2 + (i * 0.7) ** 2 < 12.0**2
    area = surface_distances(ball, ball, (1.0, 0.6, 0.7)).truth_area_mm2.sum()
    # Marching cubes of a binary ball is rougher than the ball: some 9 % too much is known, and never too little.
    assert 1.0 <= area / (4 * np.pi * 12.0**2) < 1.12


def test_a_surface_at_exactly_the_tolerance_is_within_it() -> None:
    truth = np.zeros((5, 9, 9), np.bool_)
    truth[:, :, :4] = True
    predicted = np.zeros_like(truth)
    predicted[:, :, :6] = True
    assert surface_distances(truth, predicted, (1.0, 1.0, 0.35)).dice(0.7) == 1.0
    assert surface_distances(truth, predicted, (1.0, 1.0, 0.35)).dice(0.69) < 1.0


def test_a_structure_at_the_border_of_the_array_is_closed_there() -> None:
    whole = np.ones((2, 3, 4), np.bool_)
    distances = surface_distances(whole, whole, (1.0, 1.0, 1.0))
    assert distances.truth_mm.size == 3 * 4 * 5 - 1 * 2 * 3
    assert distances.dice(0.0) == 1.0


def test_two_empty_structures_agree() -> None:
    nothing = np.zeros((3, 4, 5), np.bool_)
    distances = surface_distances(nothing, nothing, SPACING)
    assert distances.dice(1.0) == 1.0
    assert distances.hausdorff_mm() == 0.0


@pytest.mark.parametrize("swapped", [False, True])
def test_one_empty_structure_is_infinitely_far(swapped: bool) -> None:
    something, nothing = blob(1), np.zeros((9, 17, 13), np.bool_)
    pair = (nothing, something) if swapped else (something, nothing)
    distances = surface_distances(*pair, SPACING)
    assert distances.dice(2.0) == 0.0
    assert distances.hausdorff_mm() == np.inf
