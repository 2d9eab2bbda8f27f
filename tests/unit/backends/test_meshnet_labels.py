"""Labels on their way back to the volume's grid."""

import numpy as np
import pytest
from conftest import oblique_geometry
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.backends.label_votes import on_grid
from annotate_server.backends.meshnet.labels import largest_part
from annotate_server.domain.geometry import Geometry

SOURCE = Geometry((40, 44, 48), (1.0, 1.0, 1.0), ((1.0, 0, 0), (0, 0, -1.0), (0, -1.0, 0)), (-20.0, 22.0, 20.0))


def balls() -> NDArray[np.uint8]:
    """Return two touching balls, one inside a shell: three labels with curved borders."""
    l, i, a = np.indices(SOURCE.shape)
    labels = np.zeros(SOURCE.shape, np.uint8)
    labels[(l - 20) ** 2 + (i - 22) ** 2 + (a - 20) ** 2 < 13**2] = 1
    labels[(l - 20) ** 2 + (i - 22) ** 2 + (a - 20) ** 2 < 7**2] = 2
    labels[(l - 18) ** 2 + (i - 22) ** 2 + (a - 34) ** 2 < 6**2] = 103
    return labels


def on_whole(labels: NDArray[np.uint8], target: Geometry) -> NDArray[np.uint8]:
    block, box = on_grid(labels, SOURCE, target)
    whole = np.zeros(target.shape, np.uint8)
    whole[box.slices] = block
    return whole


def target_around(centre_mm: tuple[float, float, float], shape: tuple[int, int, int]) -> Geometry:
    grid = oblique_geometry(shape)
    move = np.array(centre_mm) - grid.world([np.array(shape) / 2])[0]
    affine = grid.affine
    affine[:3, 3] += move
    return Geometry.from_affine(affine, shape)


def test_equal_grid_is_copied() -> None:
    labels = balls()
    block, box = on_grid(labels, SOURCE, SOURCE)
    assert np.array_equal(block, labels[box.slices])
    assert np.count_nonzero(block) == np.count_nonzero(labels)


def test_oblique_grid_takes_the_label_of_the_largest_interpolated_share() -> None:
    labels = balls()
    target = target_around((0.0, 0.0, 0.0), (14, 60, 36))
    found = on_whole(labels, target)
    index = SOURCE.index(target.world(np.indices(target.shape).reshape(3, -1).T)).T
    kinds = np.unique(labels)
    shares = np.stack(
        [ndimage.map_coordinates((labels == kind).astype(np.float64), index, order=1, cval=0.0) for kind in kinds]
    )
    shares[0] = 1 - shares[1:].sum(axis=0)
    expected = kinds[shares.argmax(axis=0)].reshape(target.shape)
    ordered = np.sort(shares, axis=0)
    is_clear = (ordered[-1] - ordered[-2] > 1e-5).reshape(target.shape)
    assert set(np.unique(found)) == {0, 1, 2, 103}
    assert is_clear.mean() > 0.99
    assert np.array_equal(found[is_clear], expected[is_clear])


def test_volume_in_ml_survives_a_finer_and_a_coarser_grid() -> None:
    labels = balls()
    for spacing in ((0.5, 0.5, 0.5), (1.0, 0.8, 2.0)):
        target = SOURCE.resized(spacing)
        found = on_whole(labels, target)
        for kind in (1, 2, 103):
            ratio = (found == kind).sum() * target.voxel_ml / ((labels == kind).sum() * SOURCE.voxel_ml)
            assert ratio == pytest.approx(1, abs=0.05)


def test_labels_beyond_the_target_are_cut_off() -> None:
    labels = balls()
    half = Geometry((20, 44, 48), SOURCE.spacing_mm, SOURCE.direction, SOURCE.origin_mm)
    assert np.array_equal(on_whole(labels, half), labels[:20])


def test_target_elsewhere_gets_an_empty_box() -> None:
    block, box = on_grid(balls(), SOURCE, target_around((500.0, 0.0, 0.0), (5, 6, 7)))
    assert box.is_empty
    assert block.shape == box.shape


def test_no_labels_give_an_empty_box() -> None:
    block, box = on_grid(np.zeros(SOURCE.shape, np.uint8), SOURCE, target_around((0.0, 0.0, 0.0), (5, 6, 7)))
    assert box.is_empty
    assert block.shape == box.shape


def test_only_the_largest_part_is_kept_and_corners_connect() -> None:
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[1:4, 1:4, 1:4] = 5
    labels[4, 4, 4] = 7
    labels[7:9, 7:9, 7:9] = 5
    kept = largest_part(labels)
    assert np.count_nonzero(kept) == 28
    assert kept[4, 4, 4] == 7
    assert not kept[7:9, 7:9, 7:9].any()
    assert np.count_nonzero(labels) == 36
