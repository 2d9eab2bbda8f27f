from itertools import permutations, product

import numpy as np
import pytest
from conftest import oblique_geometry
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.errors import InvalidLabelmap
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.imaging.overlap import Agreement, agreement, dice, structure_pairs
from annotate_server.imaging.reorientation import reoriented

SEGMENTS = (Segment(1, "One", (255, 0, 0)), Segment(2, "Two", (0, 255, 0)), Segment(3, "Three", (0, 0, 255)))


def labelled(seed: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return (1 + (noise > 0)).astype(np.uint8) * (np.abs(noise) > 0.7 * noise.std())


def pair_of(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], geometry: Geometry, index: int) -> Agreement:
    labelmaps = Labelmap(truth, geometry, SEGMENTS), Labelmap(predicted, geometry, SEGMENTS)
    return agreement(next(structure_pairs(*labelmaps, [(index, index)])))


def test_dice_of_sets_that_can_be_counted() -> None:
    truth, predicted = np.zeros((2, 3, 4), np.bool_), np.zeros((2, 3, 4), np.bool_)
    truth[0, 0, :3] = True
    predicted[0, 0, 1:] = True
    assert dice(truth, predicted) == pytest.approx(4 / 6)


def test_dice_is_one_of_two_empty_structures_and_zero_of_one() -> None:
    nothing = np.zeros((2, 3, 4), np.bool_)
    assert dice(nothing, nothing) == 1.0
    assert dice(nothing, ~nothing) == dice(~nothing, nothing) == 0.0


def test_a_pair_holds_both_structures_whole(oblique: Geometry) -> None:
    truth, predicted = labelled(1, oblique.shape), labelled(2, oblique.shape)
    truth_map, predicted_map = Labelmap(truth, oblique, SEGMENTS), Labelmap(predicted, oblique, SEGMENTS)
    pairs = list(structure_pairs(truth_map, predicted_map, [(1, 1), (2, 1), (None, 2), (3, 3)]))
    for pair, (expected_truth, expected_predicted, overlap) in zip(
        pairs,
        [
            ((truth == 1).sum(), (predicted == 1).sum(), ((truth == 1) & (predicted == 1)).sum()),
            ((truth == 2).sum(), (predicted == 1).sum(), ((truth == 2) & (predicted == 1)).sum()),
            (0, (predicted == 2).sum(), 0),
            (0, 0, 0),
        ],
        strict=True,
    ):
        assert pair.truth.sum() == expected_truth
        assert pair.predicted.sum() == expected_predicted
        assert (pair.truth & pair.predicted).sum() == overlap


def test_slices_run_towards_the_head_however_the_volume_was_taken() -> None:
    axial = oblique_geometry((9, 14, 11))
    truth, predicted = labelled(3, axial.shape), labelled(4, axial.shape)
    expected = pair_of(truth, predicted, axial, 1)
    for order, signs in product(permutations("SPL"), product((0, 1), repeat=3)):
        codes = "".join({"S": "SI", "P": "PA", "L": "LR"}[a][s] for a, s in zip(order, signs, strict=True))
        turn = reoriented(axial, codes)
        again = pair_of(
            np.ascontiguousarray(turn.apply(truth)), np.ascontiguousarray(turn.apply(predicted)), turn.geometry, 1
        )
        assert again == expected


def test_a_structure_that_was_found_exactly_is_perfect_in_every_figure(oblique: Geometry) -> None:
    truth = labelled(5, oblique.shape)
    assert pair_of(truth, truth, oblique, 2) == Agreement(1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def test_a_structure_that_was_missed_is_nothing_in_every_figure(oblique: Geometry) -> None:
    truth = labelled(5, oblique.shape)
    missed = pair_of(truth, np.where(truth == 1, truth, 0), oblique, 2)
    assert (missed.dice, missed.surface_dice_2mm, missed.relative_apl) == (0.0, 0.0, 1.0)
    assert missed.hd95_mm == np.inf
    assert missed.apl_mm > 0


def test_labelmaps_on_different_grids_are_refused(oblique: Geometry) -> None:
    voxels = labelled(5, oblique.shape)
    moved = Geometry(oblique.shape, oblique.spacing_mm, oblique.direction, (0.0, 0.0, 0.0))
    with pytest.raises(InvalidLabelmap, match="different grids"):
        next(structure_pairs(Labelmap(voxels, oblique, SEGMENTS), Labelmap(voxels, moved, SEGMENTS), [(1, 1)]))
