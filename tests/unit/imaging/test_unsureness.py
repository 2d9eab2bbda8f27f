"""How unsure a model was, slice by slice: only borders count, and only where the model says."""

import numpy as np
import pytest

from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import Prediction
from annotate_server.imaging.unsureness import unsure_by_slice

SEGMENTS = (Segment(1, "Liver", (1, 2, 3)), Segment(2, "Spleen", (4, 5, 6)))


def a_prediction(labels: np.ndarray, unsure: np.ndarray | None, start: tuple[int, int, int] = (0, 0, 0)) -> Prediction:
    box = Box(start, tuple(a + n for a, n in zip(start, labels.shape, strict=True)))
    return Prediction(box, labels, SEGMENTS, None if unsure is None else unsure.astype(np.float32))


def test_the_mean_is_over_the_border_within_each_slice() -> None:
    labels = np.zeros((3, 7, 8), np.uint8)
    labels[1, 2:5, 2:5] = 1
    unsure = np.full(labels.shape, 0.9)
    unsure[1, 2:5, 2:5] = 0.5  # the eight voxels on the border
    unsure[1, 3, 3] = 0.0  # the one within
    assert unsure_by_slice([a_prediction(labels, unsure)], 3) == (0.0, 0.5, 0.0)


def test_a_border_between_two_segments_counts_on_both_sides() -> None:
    labels = np.ones((1, 4, 6), np.uint8)
    labels[:, :, 3:] = 2
    unsure = np.zeros(labels.shape)
    unsure[:, :, 2], unsure[:, :, 3] = 0.2, 0.6
    assert unsure_by_slice([a_prediction(labels, unsure)], 1) == (0.4,)


def test_boxes_lie_where_they_start_and_share_slices() -> None:
    labels = np.ones((2, 3, 4), np.uint8)
    labels[:, :, 0] = 0
    first = a_prediction(labels, np.full(labels.shape, 0.2), (1, 0, 0))
    second = a_prediction(labels, np.full(labels.shape, 0.4), (2, 5, 5))
    assert unsure_by_slice([first, second], 5) == pytest.approx((0.0, 0.2, 0.3, 0.4, 0.0))


def test_a_model_that_does_not_say_leaves_it_empty() -> None:
    assert unsure_by_slice([a_prediction(np.ones((2, 3, 4), np.uint8), None)], 2) == ()
