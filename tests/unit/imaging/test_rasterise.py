import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.domain.errors import InvalidPrompt
from annotate_server.domain.geometry import Box, Geometry, Vector
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.imaging.rasterise import box_of, lasso_sheet, voxels_of

GRID = oblique_geometry((9, 14, 11))


def points(indices: list[list[float]], geometry: Geometry = GRID) -> tuple[Vector, ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in geometry.world(indices))


def prompt(kind: PromptKind, indices: list[list[float]]) -> Prompt:
    return Prompt(kind, points(indices))


def rectangle(axis: int, level: float, low: float, high: float) -> list[list[float]]:
    corners = [[low, low], [low, high], [high, high], [high, low]]
    return [[*corner[:axis], level, *corner[axis:]] for corner in corners]


def test_a_point_is_the_voxel_that_holds_it() -> None:
    assert voxels_of(prompt(PromptKind.POINT, [[3.4, 6.6, 2.0]]), GRID).tolist() == [[3, 7, 2]]


def test_a_prompt_outside_the_volume_is_refused() -> None:
    for kind, place in ((PromptKind.POINT, [[20, 3, 3]]), (PromptKind.BOX, [[20, 0, 0], [25, 5, 5]])):
        with pytest.raises(InvalidPrompt, match="outside the volume"):
            voxels_of(prompt(kind, [list(map(float, p)) for p in place]), GRID)


def test_a_scribble_has_no_gaps_and_leaves_out_what_lies_beyond_the_border() -> None:
    voxels = voxels_of(prompt(PromptKind.SCRIBBLE, [[1, 1, 1], [7, 12, 9], [7, 30, 9]]), GRID)
    assert (voxels >= 0).all()
    assert (voxels < GRID.shape).all()
    for voxel in voxels:
        others = voxels[(voxels != voxel).any(axis=1)]
        assert np.abs(others - voxel).max(axis=1).min() == 1


def test_a_box_holds_both_corners_and_a_flat_one_is_one_voxel_thick() -> None:
    assert box_of(prompt(PromptKind.BOX, [[2, 9, 3], [5, 4, 3]]), GRID) == Box((2, 4, 3), (6, 10, 4))
    assert len(voxels_of(prompt(PromptKind.BOX, [[2, 9, 3], [5, 4, 3]]), GRID)) == 24


def test_a_box_is_cut_off_at_the_grid() -> None:
    assert box_of(prompt(PromptKind.BOX, [[-3, 2, 2], [4, 40, 5]]), GRID) == Box((0, 2, 2), (5, 14, 6))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_lasso_along_an_array_axis_fills_its_slice_and_no_other(axis: int) -> None:
    voxels = voxels_of(prompt(PromptKind.LASSO, rectangle(axis, 4.2, 1.5, 6.5)), GRID)
    assert set(voxels[:, axis].tolist()) == {4}
    assert len(voxels) == 25
    assert voxels.min(axis=0).tolist() == [4 if a == axis else 2 for a in range(3)]


def test_what_a_lasso_leaves_out_is_not_filled() -> None:
    ring = [[4.0, 1.5, 1.5], [4.0, 8.5, 1.5], [4.0, 8.5, 8.5], [4.0, 6.5, 8.5], [4.0, 6.5, 3.5], [4.0, 1.5, 3.5]]
    voxels = voxels_of(prompt(PromptKind.LASSO, ring), GRID)
    assert [4, 3, 6] not in voxels.tolist()
    assert [4, 7, 7] in voxels.tolist()


def test_a_tilted_lasso_takes_one_voxel_of_every_column() -> None:
    tilted = [[2.0, 2.0, 2.0], [2.0, 2.0, 8.0], [6.0, 10.0, 8.0], [6.0, 10.0, 2.0]]
    voxels = voxels_of(prompt(PromptKind.LASSO, tilted), GRID)
    columns = {(j, i) for _, j, i in voxels.tolist()}
    assert len(columns) == len(voxels)
    for k, j, _ in voxels.tolist():
        assert abs(k - (2 + (j - 2) / 2)) <= 0.5


def test_depth_is_measured_in_the_plane_in_millimetres() -> None:
    sheet = lasso_sheet(prompt(PromptKind.LASSO, rectangle(0, 4.0, 1.5, 8.5)), GRID, margin_mm=3.0)
    deepest = sheet.voxels[sheet.depth_mm.argmax()]
    assert deepest[1] == 5
    assert sheet.depth_mm.max() == pytest.approx(3.5 * GRID.spacing_mm[1], abs=0.6)
    assert (sheet.depth_mm < 0).any()
    assert len(sheet.inside) == 49


def test_a_lasso_smaller_than_a_voxel_still_counts_its_own_voxels() -> None:
    tiny = [[4.0, 5.1, 5.1], [4.0, 5.3, 5.1], [4.0, 5.2, 5.3]]
    assert voxels_of(prompt(PromptKind.LASSO, tiny), GRID).tolist() == [[4, 5, 5]]


def test_a_lasso_that_is_a_line_or_lies_off_any_plane_is_refused() -> None:
    with pytest.raises(InvalidPrompt, match="one line"):
        voxels_of(prompt(PromptKind.LASSO, [[1, 1, 1], [2, 2, 2], [3, 3, 3]]), GRID)
    with pytest.raises(InvalidPrompt, match="one plane"):
        voxels_of(prompt(PromptKind.LASSO, [[1, 1, 1], [8, 1, 9], [1, 12, 9], [8, 12, 1]]), GRID)


def test_a_coarser_grid_over_the_same_space_gets_the_same_place() -> None:
    coarse = GRID.resized((6.2, 1.4, 2.6))
    place = prompt(PromptKind.POINT, [[6, 9, 5]])
    fine_mm, coarse_mm = GRID.world(voxels_of(place, GRID)), coarse.world(voxels_of(place, coarse))
    assert np.abs(fine_mm - coarse_mm).max() <= 6.2
