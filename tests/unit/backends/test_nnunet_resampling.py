"""Resampling axis by axis against scikit-image and SciPy on whole arrays, which is what nnU-Net calls."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.transform import resize

from annotate_server.backends.engine.blending import ClassPlanes
from annotate_server.backends.nnunet.labels import Outputs
from annotate_server.backends.nnunet.plans import Resampling
from annotate_server.backends.nnunet.resampling import Taps, resampled, thick_axis
from annotate_server.backends.nnunet.restoring import restored
from annotate_server.domain.geometry import Shape

CUBIC, LINEAR = Resampling(3), Resampling(1)


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(9, 14, 11), (18, 9, 11), (4, 31, 6), (9, 14, 23)])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_splines_are_those_of_resize_on_the_whole_array(shape: Shape, order: int) -> None:
    values = noise(9, 14, 11)
    expected = resize(values.astype(float), shape, order, mode="edge", anti_aliasing=False)
    assert resampled(values, shape, None, Resampling(order)) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("thick", [0, 1, 2])
def test_slices_across_a_thick_axis_are_resampled_alone_and_repeated(thick: int) -> None:
    values, shape = noise(7, 9, 8), (12, 15, 11)
    inside = [side for axis, side in enumerate(shape) if axis != thick]
    slices = [
        resize(each.astype(float), inside, 3, mode="edge", anti_aliasing=False)
        for each in np.moveaxis(values, thick, 0)
    ]
    stacked = np.stack(slices, axis=thick)
    steps = [np.arange(new) if axis != thick else (np.arange(new) + 0.5) * stacked.shape[thick] / new - 0.5
             for axis, new in enumerate(shape)]  # fmt: skip
    expected = ndimage.map_coordinates(stacked, np.meshgrid(*steps, indexing="ij"), order=0, mode="nearest")
    assert resampled(values, shape, thick, CUBIC) == pytest.approx(expected, abs=2e-6)


def test_a_volume_that_fits_is_left_as_it_is() -> None:
    values = noise(5, 6, 7)
    assert resampled(values, (5, 6, 7), None, CUBIC) is values


@pytest.mark.parametrize(
    ("current_mm", "new_mm", "axis"),
    [
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 1.0), (1.0, 4.0, 1.0), 1),
        ((1.0, 1.0, 3.0), (1.0, 1.0, 1.0), None),
        ((0.5, 3.0, 3.0), (1.0, 1.0, 1.0), None),
    ],
)
def test_the_axis_of_far_larger_spacing_is_thick(
    current_mm: tuple[float, ...], new_mm: tuple[float, ...], axis: int | None
) -> None:
    assert thick_axis(current_mm, new_mm, CUBIC) == axis


def test_plans_may_decide_about_the_thick_axis_themselves() -> None:
    assert thick_axis((2.0, 1.0, 1.0), (1.0, 1.0, 1.0), Resampling(3, separates=True)) == 0
    assert thick_axis((9.0, 1.0, 1.0), (1.0, 1.0, 1.0), Resampling(3, separates=False)) is None


@pytest.mark.parametrize("shape", [(19, 12, 9), (4, 5, 16), (8, 10, 7)])
@pytest.mark.parametrize("pieces", [1, 3, 8])
def test_labels_made_plane_by_plane_are_those_of_class_values_resampled_whole(shape: Shape, pieces: int) -> None:
    values = noise(4, 8, 10, 7)
    expected = np.stack([resize(each.astype(float), shape, 1, mode="edge", anti_aliasing=False) for each in values])
    taps = tuple(Taps.along(old, new, 1) for old, new in zip(values.shape[1:], shape, strict=True))
    steps = np.array_split(np.arange(8), pieces)
    planes = (ClassPlanes(int(s[0]), int(s[-1]) + 1, torch.from_numpy(values[:, s])) for s in steps)
    found = np.stack(list(restored(planes, (taps[0], taps[1], taps[2]), Outputs(4, {}))))
    assert np.array_equal(found, expected.argmax(0))


def test_later_regions_are_painted_over_earlier_ones() -> None:
    values = torch.tensor([[[1.0, 1.0, -1.0, 1.0]], [[-1.0, 1.0, 1.0, -1.0]]])
    assert Outputs(2, {}, painted=(7, 300)).labels(values).tolist() == [[7, 300, 300, 7]]
