"""From planes to a grid: what a physicist would let pass, flag or refuse."""

import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.domain.errors import AnnotateError, NotMadeFor, UntrustedGeometry
from annotate_server.domain.geometry import Geometry
from annotate_server.imaging.dicom_frames import Frame
from annotate_server.imaging.dicom_geometry import Stack, stack
from annotate_server.imaging.dicom_planes import plane_problem

GRID = oblique_geometry((9, 14, 11))
NORMAL, COLUMN, ROW = np.array(GRID.direction)


def frames(along_mm: list[float] | None = None, sideways_mm: list[tuple[float, float]] | None = None) -> list[Frame]:
    """Return planes at positions along the normal, each displaced in its plane (along j, along i)."""
    along = [k * GRID.spacing_mm[0] for k in range(GRID.shape[0])] if along_mm is None else along_mm
    beside = sideways_mm or [(0.0, 0.0)] * len(along)
    planes = []
    for number, (distance, (j, i)) in enumerate(zip(along, beside, strict=True)):
        position = np.array(GRID.origin_mm) + distance * NORMAL + j * COLUMN + i * ROW
        planes.append(
            Frame(
                number,
                position_mm=tuple(position),
                orientation=(*ROW, *COLUMN),
                spacing_mm=GRID.spacing_mm[1:],
                thickness_mm=2.5,
            )
        )
    return planes


def stacked(planes: list[Frame]) -> Stack:
    return stack(planes, GRID.shape[1:], GRID.frame_of_reference)


def refusal(planes: list[Frame]) -> str:
    with pytest.raises(UntrustedGeometry) as caught:
        stacked(planes)
    return str(caught.value)


def test_slices_in_any_order_give_the_grid() -> None:
    planes = frames()
    shuffled = [planes[n] for n in (4, 0, 8, 2, 6, 1, 7, 3, 5)]
    result = stacked(shuffled)
    assert result.geometry.matches(GRID, tolerance_mm=1e-9)
    assert [shuffled[n].number for n in result.order] == list(range(9))
    assert result.shifts is None
    assert result.warnings == ()


def test_spacing_comes_from_positions_not_from_the_thickness() -> None:
    assert stacked(frames()).geometry.spacing_mm[0] == pytest.approx(3.1)


def test_a_descending_series_gets_the_same_grid_as_an_ascending_one() -> None:
    assert stacked(frames()[::-1]).geometry.matches(GRID, tolerance_mm=1e-9)


def test_one_missing_slice_is_refused_with_its_place() -> None:
    planes = frames()
    offset = float(np.array(GRID.origin_mm) @ NORMAL)
    sentence = refusal(planes[:4] + planes[5:])
    assert "1 slice missing" in sentence
    assert f"between {offset + 3 * 3.1:.2f} mm and {offset + 5 * 3.1:.2f} mm" in sentence
    assert "slices 4 and 5 of 8" in sentence
    assert "3.1 mm apart" in sentence


def test_several_missing_slices_are_counted() -> None:
    planes = frames([k * 2.0 for k in range(20)])
    assert "4 slices missing" in refusal(planes[:5] + planes[8:12] + planes[13:])


def test_a_gap_at_the_end_of_three_slices_is_a_missing_slice() -> None:
    assert "1 slice missing" in refusal(frames([0.0, 5.0, 15.0]))


def test_jitter_of_rounded_positions_is_tolerated_and_flagged() -> None:
    jittered = [k * 7.0 + 0.05 * (-1) ** k for k in range(20)]
    result = stacked(frames(jittered))
    assert result.geometry.spacing_mm[0] == pytest.approx(7.0, abs=0.01)
    assert "regular spacing" in result.warnings[0]


def test_rounding_in_the_third_decimal_is_not_worth_a_word() -> None:
    assert stacked(frames([round(k * 0.625, 2) for k in range(40)])).warnings == ()


@pytest.mark.parametrize(
    "along",
    [
        [0.0, 1.0, 2.2, 3.6, 5.2, 7.0, 9.0, 11.2],
        [0.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0],
        [0.0, 3.0, 6.0, 7.4, 9.0, 12.0],
    ],
    ids=["varying", "two spacings", "an extra slice"],
)
def test_irregular_spacing_is_refused_with_the_smallest_and_the_largest_gap(along: list[float]) -> None:
    gaps = np.diff(along)
    assert f"from {gaps.min():.2f} mm to {gaps.max():.2f} mm" in refusal(frames(along))


def test_slices_at_one_place_are_refused() -> None:
    assert "4 of 4 slices lie at the place of another" in refusal(frames([0.0, 0.0, 0.0, 0.0]))
    assert "2 of 4 slices lie at the place of another" in refusal(frames([0.0, 3.0, 3.0, 6.0]))


@pytest.mark.parametrize("degrees", [-14.0, 18.5])
def test_a_tilted_gantry_gives_an_upright_grid_that_holds_every_slice(degrees: float) -> None:
    step = 3.1 * math.tan(math.radians(degrees))
    planes = frames(sideways_mm=[(k * step, 0.0) for k in range(9)])
    result = stacked(planes)
    assert f"{abs(degrees):.1f} degrees" in result.warnings[0]
    assert result.shifts is not None
    for k, n in enumerate(result.order):
        index = result.geometry.index([planes[n].position_mm])[0]
        np.testing.assert_allclose(index, [k, *result.shifts[k]], atol=1e-6)
        assert (result.shifts[k] >= -1e-9).all()
        assert (result.shifts[k] + GRID.shape[1:] <= np.array(result.geometry.shape[1:]) + 1e-9).all()


def test_slices_displaced_without_a_rule_are_refused() -> None:
    beside = [(0.0, 0.0)] * 9
    beside[4] = (0.0, 6.0)
    assert "sideways" in refusal(frames(sideways_mm=beside))


def test_more_shear_than_a_gantry_tilts_is_refused() -> None:
    assert "59 degrees" in refusal(frames(sideways_mm=[(0.0, k * 3.1 * math.tan(math.radians(59))) for k in range(9)]))


def test_a_single_slice_takes_its_thickness_and_says_so() -> None:
    result = stacked(frames([0.0]))
    assert result.geometry.spacing_mm[0] == pytest.approx(2.5)
    assert "single slice" in result.warnings[0]


def test_a_single_slice_of_unknown_thickness_is_no_volume() -> None:
    with pytest.raises(NotMadeFor, match="thickness"):
        stacked([replace(frames([0.0])[0], thickness_mm=None)])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"spacing_mm": (math.nan, 1.0)}, "PixelSpacing"),
        ({"spacing_mm": (0.0, 1.0)}, "PixelSpacing"),
        ({"spacing_mm": (1.0, -0.7)}, "PixelSpacing"),
        ({"spacing_mm": (1.0,)}, "PixelSpacing"),
        ({"spacing_mm": None}, "PixelSpacing"),
        ({"position_mm": (0.0, math.inf, 0.0)}, "ImagePositionPatient"),
        ({"position_mm": None}, "ImagePositionPatient"),
        ({"orientation": None}, "ImageOrientationPatient"),
        ({"orientation": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)}, "ImageOrientationPatient"),
        ({"orientation": (0.0,) * 6}, "ImageOrientationPatient"),
        ({"orientation": (2.0, 0.0, 0.0, 0.0, 1.0, 0.0)}, "ImageOrientationPatient"),
        ({"orientation": (1.0, 0.0, 0.0, 0.1, 1.0, 0.0)}, "ImageOrientationPatient"),
    ],
)
def test_numbers_that_are_no_plane_are_named(change: dict[str, object], word: str) -> None:
    problem: AnnotateError | None = plane_problem(replace(frames()[0], **change))  # type: ignore[arg-type]
    assert problem is not None
    assert word in str(problem)


def test_a_sound_plane_has_no_problem() -> None:
    assert plane_problem(frames()[0]) is None


def test_an_orientation_that_was_rounded_gives_a_grid_with_right_angles() -> None:
    planes = [replace(frame, orientation=tuple(np.round((*ROW, *COLUMN), 4))) for frame in frames()]
    assert isinstance(stacked(planes).geometry, Geometry)
