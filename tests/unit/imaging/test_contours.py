import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.imaging.contours import added_path, contours

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


def blob(seed: int) -> NDArray[np.bool_]:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(6, 23, 17)), (0.8, 2.0, 2.0))
    return noise > noise.std()


def brute_force(truth: NDArray[np.bool_], predicted: NDArray[np.bool_], tolerance_px: float) -> list[int]:
    """Contour pixels of the truth, slice by slice, further than the tolerance from any one of the prediction."""
    counts = []
    for true_plane, plane in zip(truth, predicted, strict=True):
        edges = [np.argwhere(p & ~ndimage.binary_erosion(p, CROSS)) for p in (true_plane, plane)]
        lengths = [min((np.hypot(*(a - b)) for b in edges[1]), default=np.inf) for a in edges[0]]
        counts.append(sum(length > tolerance_px + 1e-9 for length in lengths))
    return counts


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tolerance_px", [0, 1])
def test_added_path_counts_the_true_contour_beyond_the_tolerance(seed: int, tolerance_px: int) -> None:
    truth, predicted = blob(seed), blob(seed) ^ (blob(seed + 10) & blob(seed + 20))
    predicted[2] = False
    path = added_path(truth, predicted, (0.5, 0.5), tolerance_px)
    expected = brute_force(truth, predicted, tolerance_px)
    assert path.added_px.tolist() == expected
    assert path.length_mm == pytest.approx(0.5 * sum(expected))
    assert path.relative == pytest.approx(sum(expected) / contours(truth).sum())
    assert path.by_slice_mm.tolist() == pytest.approx([0.5 * n for n in expected])


def test_a_square_moved_by_one_pixel_needs_nothing_within_a_pixel() -> None:
    truth = np.zeros((1, 12, 12), np.bool_)
    truth[0, 2:8, 2:8] = True
    moved = np.roll(truth, 1, axis=2)
    assert added_path(truth, moved, (1.0, 1.0), 1).length_mm == 0.0
    # At tolerance 0 the left side (6 pixels) is new and the inner 4 pixels of the right one; the rest is shared.
    assert added_path(truth, moved, (1.0, 1.0), 0).length_mm == 10.0


def test_the_square_drawn_from_nothing_is_its_whole_contour() -> None:
    truth = np.zeros((2, 12, 12), np.bool_)
    truth[1, 2:8, 2:8] = True
    path = added_path(truth, np.zeros_like(truth), (2.0, 0.5), 1)
    assert path.added_px.tolist() == [0, 20]
    assert path.pixel_mm == 1.0
    assert path.relative == 1.0


def test_what_is_too_much_is_not_drawn() -> None:
    nothing = np.zeros((3, 9, 9), np.bool_)
    too_much = nothing.copy()
    too_much[1, 2:5, 2:5] = True
    path = added_path(nothing, too_much, (1.0, 1.0), 1)
    assert path.length_mm == 0.0
    assert path.relative == 0.0


def test_contours_are_drawn_in_the_slice_and_closed_at_the_border() -> None:
    whole = np.ones((3, 5, 4), np.bool_)
    expected = np.ones((5, 4), np.bool_)
    expected[1:-1, 1:-1] = False
    assert all((plane == expected).all() for plane in contours(whole))


def test_other_tolerances_are_refused() -> None:
    nothing = np.zeros((1, 2, 2), np.bool_)
    with pytest.raises(ValueError, match="not at 2"):
        added_path(nothing, nothing, (1.0, 1.0), 2)
