"""Conformed space against nibabel's affines and SciPy's interpolation, and the crop against sorted voxels."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
from conftest import oblique_geometry
from nibabel.orientations import axcodes2ornt, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.backends.meshnet.conform import conform
from annotate_server.backends.meshnet.parameters import MeshNetParameters, Normalisation
from annotate_server.backends.meshnet.standardise import network_input
from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.geometry import Geometry, Shape
from annotate_server.domain.volume import Volume

LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MIN_MAX = MeshNetParameters(Normalisation.MIN_MAX, 0.2, 0, 0.0)


def phantom(shape: Shape) -> NDArray[np.float32]:
    """Return a smooth, lopsided blob with negative and fractional intensities."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    blob = np.exp(-((k - 0.2) ** 2 + 2 * (j + 0.1) ** 2 + 3 * i**2) * 3)
    return (3000 * blob * (1 + 0.3 * k + 0.2 * j) - 17.5).astype(np.float32)


def nibabel_image(volume: Volume) -> nibabel.Nifti1Image:
    affine = LPS_OF_RAS @ volume.geometry.affine[:, [2, 1, 0, 3]]
    return nibabel.Nifti1Image(np.asarray(volume.voxels).T, affine)


def upper_limit(values: NDArray[np.float64]) -> float:
    """Return FastSurfer's upper limit: 1000 bins, all but a thousandth of the voxels other than 0."""
    counts, edges = np.histogram(values, 1000)
    below = np.concatenate([[0], np.cumsum(counts)])
    enough = values.size - int((1 - 0.999) * np.count_nonzero(np.abs(values) >= 1e-15))
    return float(edges[np.flatnonzero(below >= enough)[0] - 2])


def expected_at(volume: Volume, points: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the conformed intensities at voxels (l, i, a), found by nibabel and SciPy; NaN near the border."""
    image = nibabel_image(volume)
    start = nibabel.orientations.io_orientation(image.affine)
    image = image.as_reoriented(ornt_transform(start, axcodes2ornt("LIA")))
    values = image.get_fdata()
    target = np.array([[-1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    centre = image.affine @ [*(np.array(values.shape) / 2), 1.0]
    target[:3, 3] = centre[:3] - target[:3, :3] @ [128, 128, 128]
    index = (np.linalg.inv(image.affine) @ target @ np.c_[points, np.ones(len(points))].T)[:3]
    found = ndimage.map_coordinates(values, index, order=1, cval=np.nan)
    low, high = values.min(), upper_limit(values)
    return np.clip((found - low) * 255 / (high - low), 0, 255)


def test_oblique_volume_is_conformed_as_by_nibabel() -> None:
    geometry = replace(oblique_geometry((40, 150, 90)), frame_of_reference=None)
    volume = Volume(phantom(geometry.shape), geometry)
    points = np.random.default_rng(1).integers(0, 256, (20_000, 3))
    expected = expected_at(volume, points)
    conformed = conform(volume).voxels
    found = conformed[tuple(points.T)]
    inside = ~np.isnan(expected)
    assert inside.sum() > 300
    assert expected[inside].max() > 200
    # Half a grey level is what rounding may cost, the rest is float32.
    assert np.abs(found[inside] - expected[inside]).max() < 0.51
    assert not conformed[[0, -1]].any()  # beyond the volume all is as dark as its darkest voxel


def test_upper_limit_leaves_a_thousandth_of_the_voxels_above_white() -> None:
    geometry = oblique_geometry((40, 150, 90))
    values = phantom(geometry.shape)
    values[20, 70, 40] = 1e6
    limit = upper_limit(values.astype(np.float64))
    conformed = conform(Volume(values, geometry)).voxels
    assert limit < 1e6
    assert (conformed == 255).any()


@pytest.mark.parametrize("code", ["RAS", "LPI", "SAL", "AIR", "PSR", "ILA"])
def test_order_of_axes_in_the_file_makes_no_difference(code: str) -> None:
    start = oblique_geometry((30, 46, 38))
    volume = Volume(phantom(start.shape), start)
    image = nibabel_image(volume)
    turned = image.as_reoriented(ornt_transform(nibabel.orientations.io_orientation(image.affine), axcodes2ornt(code)))
    voxels = np.ascontiguousarray(np.asanyarray(turned.dataobj).T)
    geometry = Geometry.from_affine((LPS_OF_RAS @ turned.affine)[:, [2, 1, 0, 3]], voxels.shape)
    one, other = conform(volume), conform(Volume(voxels, geometry))
    assert np.array_equal(one.voxels, other.voxels)
    assert one.geometry.matches(other.geometry, 1e-6)


def conformed_geometry() -> Geometry:
    axes = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, -1.0, 0.0))
    return Geometry((256, 256, 256), (1.0, 1.0, 1.0), axes, (-120.3, 7.0, 140.0))


def test_conformed_volume_is_left_alone() -> None:
    voxels = np.random.default_rng(0).integers(0, 200, (256, 256, 256), dtype=np.uint8)
    conformed = conform(Volume(voxels, conformed_geometry()))
    assert np.array_equal(conformed.voxels, voxels - voxels.min())
    assert conformed.geometry.matches(conformed_geometry())
    assert not conformed.is_cut


def test_uint8_keeps_its_scale_and_other_types_do_not() -> None:
    geometry = oblique_geometry((30, 46, 38))
    dark = (phantom(geometry.shape) / 30).clip(0, 100).astype(np.uint8)
    assert conform(Volume(dark, geometry)).voxels.max() <= 100
    assert conform(Volume(dark.astype(np.int16), geometry)).voxels.max() == 255


def test_long_volume_begins_above_the_head_and_says_so() -> None:
    voxels = np.zeros((20, 20, 200), np.int16)
    voxels[5:15, 5:15, 30:110] = np.random.default_rng(0).integers(500, 900, (10, 10, 80))
    axes = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
    geometry = Geometry((20, 20, 200), (8.0, 8.0, 2.0), axes, (0.0, 0.0, 0.0))
    conformed = conform(Volume(voxels, geometry))
    assert conformed.is_cut
    top = conformed.geometry.world([[128, 0, 128]])[0][2]
    assert top == pytest.approx(-60 + 8, abs=1.01)


def test_voxels_that_are_no_numbers_count_as_the_darkest() -> None:
    geometry = oblique_geometry((30, 46, 38))
    values = phantom(geometry.shape)
    clean = conform(Volume(values.copy(), geometry)).voxels
    values[0, 0, 0] = np.nan
    values[1, 0, 0] = np.inf
    assert np.abs(conform(Volume(values, geometry)).voxels.astype(int) - clean).max() <= 1


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan])
def test_volume_without_contrast_is_refused(value: float) -> None:
    geometry = oblique_geometry((9, 14, 11))
    with pytest.raises(NotMadeFor, match="same value"):
        conform(Volume(np.full(geometry.shape, value, np.float32), geometry))


def head(peak: int) -> NDArray[np.uint8]:
    voxels = np.full((40, 50, 60), 3, np.uint8)
    voxels[10:20, 5:30, 20:55] = np.random.default_rng(0).integers(60, peak, (10, 25, 35), dtype=np.uint8)
    return voxels


def test_min_max_and_crop_follow_the_brightest_voxel() -> None:
    voxels = head(240)
    taken = network_input(voxels, MIN_MAX)
    assert (taken.box.start, taken.box.stop) == ((10, 5, 20), (20, 30, 55))
    low, high = float(voxels.min()), float(voxels.max())
    expected = (voxels[taken.box.slices].astype(np.float64) - low) / (high - low)
    assert np.allclose(taken.values, expected, atol=1e-6)


def test_quantiles_are_those_of_the_sorted_voxels() -> None:
    voxels = head(240)
    taken = network_input(voxels, MeshNetParameters(Normalisation.QUANTILE, 0.2, 3, 0.0))
    ordered = np.sort(voxels.ravel()).astype(np.float64)
    low, high = ordered[int(len(ordered) * 0.05)], ordered[int(np.ceil(len(ordered) * 0.95)) - 1]
    assert np.allclose(taken.values, (voxels[taken.box.slices] - low) / (high - low), atol=1e-6)
    assert (taken.box.start, taken.box.stop) == ((7, 2, 17), (23, 33, 58))


def test_volume_that_is_nearly_all_background_is_refused() -> None:
    voxels = np.zeros((40, 50, 60), np.uint8)
    voxels[3, 3, 3] = 200
    with pytest.raises(NotMadeFor, match="background"):
        network_input(voxels, MeshNetParameters(Normalisation.QUANTILE, 0.2, 0, 0.0))
