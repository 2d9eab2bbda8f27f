import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from annotate_server.imaging.contours import added_path, contours
from annotate_server.imaging.measure import longest_diameters
from annotate_server.imaging.overlap import StructurePair, agreement
from annotate_server.imaging.surface import surface_distances
from annotate_server.imaging.surface_by_slice import SliceCorrection

Structure = NDArray[np.bool_]
SPACINGS = st.tuples(*[st.sampled_from([0.4, 0.7, 1.0, 1.3, 3.1, 5.0])] * 3)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Structure, Structure]:
    shape = tuple(draw(st.permutations([4, 6, 7])))
    both = [draw(arrays.arrays(np.bool_, shape)) for _ in range(2)]
    return both[0], both[1]


@settings(deadline=None, max_examples=60)
@given(pairs(), SPACINGS)
def test_overlap_is_symmetric_and_bounded(pair: tuple[Structure, Structure], spacing: tuple[float, ...]) -> None:
    one = agreement(StructurePair(pair[0], pair[1], spacing))
    other = agreement(StructurePair(pair[1], pair[0], spacing))
    for name in ("dice", "surface_dice_1mm", "surface_dice_2mm", "hd95_mm"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)
    for name in ("dice", "surface_dice_1mm", "surface_dice_2mm", "relative_apl", "relative_apl_0"):
        assert 0.0 <= getattr(one, name) <= 1.0 + 1e-9
    assert one.surface_dice_1mm <= one.surface_dice_2mm + 1e-9
    assert one.relative_apl <= one.relative_apl_0


@settings(deadline=None, max_examples=40)
@given(pairs(), SPACINGS, st.integers(0, 2))
def test_space_around_a_structure_changes_nothing(
    pair: tuple[Structure, Structure], spacing: tuple[float, ...], margin: int
) -> None:
    wider = [np.pad(structure, margin) for structure in pair]
    tight, loose = agreement(StructurePair(*pair, spacing)), agreement(StructurePair(*wider, spacing))
    assert loose.surface_dice_1mm == pytest.approx(tight.surface_dice_1mm, abs=1e-9)
    assert loose.hd95_mm == pytest.approx(tight.hd95_mm)
    assert (loose.dice, loose.apl_mm) == (tight.dice, tight.apl_mm)


@settings(deadline=None, max_examples=40)
@given(pairs(), SPACINGS, st.sampled_from([0.5, 1.0, 2.0]))
def test_correcting_slices_in_any_order_ends_at_the_truth(
    pair: tuple[Structure, Structure], spacing: tuple[float, ...], tolerance_mm: float
) -> None:
    truth, predicted = pair
    correction, present = SliceCorrection(truth, predicted, spacing, tolerance_mm), predicted.copy()
    for k in reversed(range(len(truth))):
        correction.correct(k)
        present[k] = truth[k]
        fresh = surface_distances(truth, present, spacing).dice(tolerance_mm)
        assert correction.dice() == pytest.approx(fresh, abs=1e-9)
    assert correction.dice() == pytest.approx(1.0)


@settings(deadline=None, max_examples=40)
@given(pairs())
def test_to_draw_from_nothing_is_the_whole_contour(pair: tuple[Structure, Structure]) -> None:
    truth, predicted = pair
    path = added_path(truth, np.zeros_like(truth), (1.0, 1.0), 1)
    assert path.added_px.sum() == contours(truth).sum()
    assert added_path(truth, truth, (1.0, 1.0), 0).length_mm == 0.0
    assert (added_path(truth, predicted, (1.0, 1.0), 0).added_px <= path.contour_px).all()


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.bool_, (3, 6, 8)), st.tuples(*[st.sampled_from([0.4, 0.7, 1.3])] * 2))
def test_diameters_do_not_depend_on_how_the_slice_lies(structure: Structure, pixel_mm: tuple[float, float]) -> None:
    found = longest_diameters(structure, pixel_mm)
    turned = longest_diameters(structure[::-1, ::-1].transpose(0, 2, 1), pixel_mm[::-1])
    assert (turned.long_mm, turned.short_mm) == pytest.approx((found.long_mm, found.short_mm))
    assert 0.0 <= found.short_mm <= found.long_mm + 1e-9
    assert (found.long_mm > 0) == structure.any()
