import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.domain.errors import UntrustedGeometry
from annotate_server.domain.geometry import Box, Geometry


def test_index_and_world_are_inverse_on_an_oblique_grid(oblique: Geometry) -> None:
    points = np.array([[0, 0, 0], [3.5, 2, 10], [8, 13, 0.25]])
    assert np.allclose(oblique.index(oblique.world(points)), points, atol=1e-9)


def test_the_third_index_advances_along_the_third_direction(oblique: Geometry) -> None:
    step = oblique.world([[0, 0, 1]])[0] - oblique.world([[0, 0, 0]])[0]
    assert np.allclose(step, np.array(oblique.direction[2]) * oblique.spacing_mm[2])


def test_an_affine_survives_the_way_through_a_geometry(oblique: Geometry) -> None:
    again = Geometry.from_affine(oblique.affine, oblique.shape, oblique.frame_of_reference)
    assert np.allclose(again.affine, oblique.affine)
    assert again.digest() == oblique.digest()


@pytest.mark.parametrize("spacing", [(0.0, 1, 1), (1, -1, 1), (1, float("nan"), 1), (float("inf"), 1, 1)])
def test_a_spacing_that_is_no_length_is_refused(spacing: tuple[float, float, float]) -> None:
    with pytest.raises(UntrustedGeometry):
        Geometry((2, 3, 4), spacing, ((0, 0, 1), (0, 1, 0), (1, 0, 0)), (0, 0, 0))


def test_a_sheared_grid_is_refused() -> None:
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    affine[1, 0] = 0.3
    with pytest.raises(UntrustedGeometry, match="right angles"):
        Geometry.from_affine(affine, (2, 3, 4))


def test_a_crop_keeps_every_voxel_at_its_place(oblique: Geometry) -> None:
    box = Box((2, 3, 1), (5, 9, 4))
    assert np.allclose(oblique.cropped(box).world([[0, 1, 2]]), oblique.world([[2, 4, 3]]))


def test_another_spacing_covers_the_same_block_of_space(oblique: Geometry) -> None:
    finer = oblique.resized((3.1 / 2, 0.7 / 2, 1.3 / 2))
    assert finer.shape == (18, 28, 22)
    assert np.allclose(finer.world([[-0.5, -0.5, -0.5]]), oblique.world([[-0.5, -0.5, -0.5]]))
    assert np.allclose(finer.world([[17.5, 27.5, 21.5]]), oblique.world([[8.5, 13.5, 10.5]]))


def test_two_frames_of_reference_are_never_the_same_place(oblique: Geometry) -> None:
    twin = Geometry.from_affine(oblique.affine, oblique.shape, "1.2.3")
    unknown = Geometry.from_affine(oblique.affine, oblique.shape)
    assert not oblique.matches(twin)
    assert oblique.matches(unknown)


def test_a_shift_of_half_a_voxel_is_another_place(oblique: Geometry) -> None:
    shifted = oblique.affine
    shifted[:3, 3] += 0.35
    assert not oblique.matches(Geometry.from_affine(shifted, oblique.shape))


def test_the_box_around_nothing_is_none() -> None:
    assert Box.around(np.zeros((2, 3, 4), bool)) is None


def test_the_box_around_voxels_is_tight_and_grows_up_to_the_border() -> None:
    occupied = np.zeros((6, 7, 8), bool)
    occupied[2, 3, 4] = occupied[3, 5, 4] = True
    box = Box.around(occupied)
    assert box == Box((2, 3, 4), (4, 6, 5))
    assert box.grown((3, 1, 1), (6, 7, 8)) == Box((0, 2, 3), (6, 7, 6))
    assert box.union(Box((0, 0, 0), (1, 1, 1))) == Box((0, 0, 0), (4, 6, 5))


def test_the_border_of_the_grid_is_half_a_voxel_out() -> None:
    geometry = oblique_geometry((4, 5, 6))
    inside = geometry.contains(geometry.world([[-0.4, 0, 0], [-0.6, 0, 0], [3.4, 4.4, 5.4], [3, 4, 5.6]]))
    assert inside.tolist() == [True, False, True, False]
