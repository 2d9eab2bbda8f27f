import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.imaging.contours import added_path
from annotate_server.imaging.overlap import StructurePair
from annotate_server.imaging.surface import surface_distances
from annotate_server.workflows.effort import Effort, EffortConstants, Work, effort_against_scratch, finish

CONSTANTS = EffortConstants(draw_mm_per_s=10.0, navigate_s=3.0, review_s=0.5)
SPACING = (4.0, 0.7, 0.9)


def blob(seed: int) -> NDArray[np.bool_]:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(10, 31, 27)), (1.5, 3.0, 3.0))
    return noise > noise.std()


def step_by_step(pair: StructurePair) -> tuple[float, int]:
    """The robot as it is defined: everything is measured anew before every slice."""
    present, drawn_mm, touched = pair.predicted.copy(), 0.0, 0
    while surface_distances(pair.truth, present, pair.spacing_mm).dice(1.0) < 0.95:
        lengths = added_path(pair.truth, present, pair.pixel_mm, 1).by_slice_mm
        wrong = (pair.truth != present).sum(axis=(1, 2))
        k = max(range(len(present)), key=lambda n: (lengths[n], wrong[n], -n))
        drawn_mm += lengths[k]
        touched += 1
        present[k] = pair.truth[k]
    return drawn_mm, touched


@pytest.mark.parametrize("seed", range(6))
def test_the_robot_replaces_the_worst_slice_until_the_surface_is_right(seed: int) -> None:
    pair = StructurePair(blob(seed), blob(seed) ^ (blob(seed + 10) & blob(seed + 20)), SPACING)
    drawn_mm, touched = step_by_step(pair)
    work = finish(pair, CONSTANTS)
    assert work.path_mm == pytest.approx(drawn_mm)
    assert work.slices_touched == touched
    looked_at = (pair.truth | pair.predicted).any(axis=(1, 2)).sum()
    assert work.seconds == pytest.approx(drawn_mm / 10.0 + 3.0 * touched + 0.5 * looked_at)


def test_from_nothing_the_whole_contour_of_each_touched_slice_is_drawn() -> None:
    pair = StructurePair(blob(1), np.zeros_like(blob(1)), SPACING)
    effort = effort_against_scratch(pair, CONSTANTS)
    assert effort.scratch == effort.draft
    assert effort.scratch.path_mm == pytest.approx(step_by_step(pair)[0])
    assert effort.scratch.slices_touched > 0


def test_a_perfect_draft_is_only_looked_at() -> None:
    truth = blob(2)
    effort = effort_against_scratch(StructurePair(truth, truth, SPACING), CONSTANTS)
    assert effort.draft == Work(0.0, 0, 0.5 * truth.any(axis=(1, 2)).sum())
    assert effort.scratch.seconds > effort.draft.seconds


def test_what_is_only_too_much_costs_the_way_to_it() -> None:
    spurious = np.zeros((10, 31, 27), np.bool_)
    spurious[3:5, 4:9, 4:9] = True
    effort = effort_against_scratch(StructurePair(np.zeros_like(spurious), spurious, SPACING), CONSTANTS)
    assert effort == Effort(scratch=Work(), draft=Work(0.0, 2, 2 * 3.0 + 2 * 0.5))


def test_nothing_in_both_is_no_work() -> None:
    nothing = np.zeros((0, 0, 0), np.bool_)
    assert effort_against_scratch(StructurePair(nothing, nothing, SPACING), CONSTANTS) == Effort()


def test_pixels_larger_than_the_tolerance_are_not_asked_to_be_finer() -> None:
    truth = np.zeros((3, 30, 30), np.bool_)
    truth[1, 5:25, 5:25] = True
    pair = StructurePair(truth, np.roll(truth, 1, axis=2), (2.0, 2.0, 2.0))
    assert finish(pair, CONSTANTS).slices_touched == 0


def test_every_constant_says_where_it_is_from() -> None:
    fields = EffortConstants.__dataclass_fields__
    assert fields
    assert all(field.metadata["source"] for field in fields.values())
