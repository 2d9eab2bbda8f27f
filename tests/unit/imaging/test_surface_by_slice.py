import numpy as np
import pytest
from scipy import ndimage

from annotate_server.imaging.surface import surface_distances
from annotate_server.imaging.surface_by_slice import SliceCorrection


@pytest.mark.parametrize("spacing", [(5.0, 0.8, 0.9), (0.4, 1.0, 0.7), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("tolerance_mm", [1.0, 2.5])
def test_after_every_slice_the_figure_equals_a_fresh_one(
    spacing: tuple[float, float, float], tolerance_mm: float
) -> None:
    random = np.random.default_rng(3)
    noise = [ndimage.gaussian_filter(random.normal(size=(11, 21, 17)), (1, 2, 2)) for _ in range(2)]
    truth, predicted = noise[0] > noise[0].std(), noise[1] > noise[1].std()
    correction = SliceCorrection(truth, predicted, spacing, tolerance_mm)
    present = predicted.copy()
    for k in random.permutation(len(truth)):
        assert correction.dice() == pytest.approx(surface_distances(truth, present, spacing).dice(tolerance_mm))
        correction.correct(int(k))
        present[k] = truth[k]
    assert correction.dice() == pytest.approx(1.0)


def test_what_was_given_stays_as_it_was() -> None:
    truth = np.zeros((4, 6, 5), np.bool_)
    truth[1:3, 2:4, 1:4] = True
    predicted = np.zeros_like(truth)
    correction = SliceCorrection(truth, predicted, (3.0, 1.0, 1.0), 1.0)
    assert correction.dice() == 0.0
    correction.correct(1)
    assert 0.0 < correction.dice() < 1.0
    assert not predicted.any()


def test_a_spurious_slice_is_taken_away() -> None:
    truth = np.zeros((4, 6, 5), np.bool_)
    predicted = truth.copy()
    predicted[3, 1:3, 1:3] = True
    correction = SliceCorrection(truth, predicted, (3.0, 1.0, 1.0), 1.0)
    assert correction.dice() == 0.0
    correction.correct(3)
    assert correction.dice() == 1.0
