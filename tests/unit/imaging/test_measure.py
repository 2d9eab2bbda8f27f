from itertools import permutations, product

import numpy as np
import pytest
from conftest import oblique_geometry
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.errors import InvalidLabelmap
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.volume import Volume
from annotate_server.imaging.measure import longest_diameters, measure_segments
from annotate_server.imaging.reorientation import reoriented

ONE, TWO = Segment(1, "One", (255, 0, 0)), Segment(7, "Seven", (0, 255, 0))


def measured(voxels: NDArray[np.uint8], intensities: NDArray[np.generic], geometry: Geometry) -> dict[str, tuple]:
    labelmap = Labelmap(voxels, geometry, (ONE, TWO))
    return {m.segment.name: m for m in measure_segments(labelmap, Volume(intensities, geometry))}


def brute_force(plane: NDArray[np.bool_], pixel_mm: tuple[float, float]) -> tuple[float, float]:
    """Longest distance between any two pixel corners, and the longest chord across it, found by scanning."""
    pixels = np.argwhere(plane)
    corners = np.concatenate([pixels + step for step in product((0, 1), repeat=2)]) * np.array(pixel_mm)
    lengths = np.linalg.norm(corners[:, None] - corners[None], axis=2)
    a, b = np.unravel_index(lengths.argmax(), lengths.shape)
    along = (corners[b] - corners[a]) / lengths[a, b]
    turned = corners @ np.stack([along, [-along[1], along[0]]], axis=1)
    widest = 0.0
    for x in np.unique(turned[:, 0]):
        left, right = turned[turned[:, 0] <= x], turned[turned[:, 0] >= x]
        run = np.maximum(right[None, :, 0] - left[:, None, 0], 1e-12)
        share = np.where(right[None, :, 0] > left[:, None, 0], (x - left[:, None, 0]) / run, 0.0)
        heights = left[:, None, 1] + share * (right[None, :, 1] - left[:, None, 1])
        widest = max(widest, heights.max() - heights.min())
    return float(lengths[a, b]), float(widest)


@pytest.mark.parametrize("seed", range(8))
def test_diameters_equal_those_of_every_pair_of_corners(seed: int) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(5, 13, 11)), (0, 1.5, 1.5))
    planes = noise > noise.std()
    expected = max(brute_force(plane, (0.7, 1.3)) for plane in planes if plane.any())
    found = longest_diameters(planes, (0.7, 1.3))
    assert (found.long_mm, found.short_mm) == pytest.approx(expected)


def test_a_single_pixel_is_as_long_as_its_diagonal() -> None:
    plane = np.zeros((1, 4, 4), np.bool_)
    plane[0, 2, 1] = True
    found = longest_diameters(plane, (3.0, 4.0))
    assert found.long_mm == pytest.approx(5.0)
    assert found.short_mm == pytest.approx(3.0 / 4.0 * 5.0)


def test_an_ellipse_measures_its_axes_to_a_pixel() -> None:
    j, i = np.mgrid[-40:41, -40:41] * 0.5
    turn = np.deg2rad(30)
    u, v = j * np.cos(turn) + i * np.sin(turn), -j * np.sin(turn) + i * np.cos(turn)
    ellipse = (u / 15) ** 2 + (v / 8) ** 2 <= 1
    found = longest_diameters(ellipse[None], (0.5, 0.5))
    assert found.long_mm == pytest.approx(30, abs=0.75)
    assert found.short_mm == pytest.approx(16, abs=0.75)


def test_the_diameter_is_of_the_slice_where_it_is_longest() -> None:
    planes = np.zeros((3, 20, 20), np.bool_)
    planes[0, 2:12, 2:12] = True
    planes[1, 5, 1:19] = True
    planes[2, 3:14, 3:6] = True
    found = longest_diameters(planes, (1.0, 1.0))
    assert found.long_mm == pytest.approx(np.hypot(18, 1))
    assert found.short_mm == pytest.approx(1.0 * np.hypot(18, 1) / 18)


def test_volume_and_mean_intensity_are_those_of_the_voxels(oblique: Geometry) -> None:
    random = np.random.default_rng(0)
    voxels = random.choice(np.array([0, 1, 7], np.uint8), size=oblique.shape)
    intensities = random.normal(40, 300, size=oblique.shape).astype(np.int16)
    result = measured(voxels, intensities, oblique)
    for name, index in (("One", 1), ("Seven", 7)):
        assert result[name].volume_ml == pytest.approx((voxels == index).sum() * 3.1 * 0.7 * 1.3 / 1000)
        assert result[name].mean_intensity == pytest.approx(intensities[voxels == index].mean(dtype=np.float64))


def test_an_absent_segment_has_no_volume_and_no_other_figure(oblique: Geometry) -> None:
    voxels = np.zeros(oblique.shape, np.uint8)
    voxels[3, 4, 5] = 1
    absent = measured(voxels, np.zeros(oblique.shape, np.float32), oblique)["Seven"]
    assert absent.volume_ml == 0.0
    assert absent.mean_intensity is absent.diameter_mm is absent.short_diameter_mm is None


def test_diameters_are_axial_however_the_volume_was_taken() -> None:
    axial = oblique_geometry((9, 14, 11))
    voxels = np.zeros(axial.shape, np.uint8)
    voxels[2:8, 3:12, 4:6] = 1
    voxels[4, 3:6, 4:9] = 1
    intensities = np.arange(voxels.size, dtype=np.int32).reshape(axial.shape)
    expected = measured(voxels, intensities, axial)["One"]
    assert expected.diameter_mm == pytest.approx(longest_diameters(voxels == 1, (0.7, 1.3)).long_mm)
    for order, signs in product(permutations("SPL"), product((0, 1), repeat=3)):
        codes = "".join({"S": "SI", "P": "PA", "L": "LR"}[a][s] for a, s in zip(order, signs, strict=True))
        turn = reoriented(axial, codes)
        again = measured(turn.apply(voxels), turn.apply(intensities), turn.geometry)["One"]
        for name in ("volume_ml", "mean_intensity", "diameter_mm", "short_diameter_mm"):
            assert getattr(again, name) == pytest.approx(getattr(expected, name))


def test_a_labelmap_of_another_volume_is_refused(oblique: Geometry) -> None:
    labelmap = Labelmap(np.zeros(oblique.shape, np.uint8), oblique, (ONE,))
    other = Geometry(oblique.shape, oblique.spacing_mm, oblique.direction, (0.0, 0.0, 0.0))
    with pytest.raises(InvalidLabelmap, match="grid"):
        measure_segments(labelmap, Volume(np.zeros(oblique.shape, np.int16), other))
