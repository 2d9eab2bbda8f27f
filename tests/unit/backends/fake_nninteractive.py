"""A stand-in for nnInteractive's session: the same methods with the same arguments, and a rule in place of a network.

Like the original's, an answer depends on the segment before it, on every interaction since the last reset, and on how
long ago each was. What it was asked is written, a line each, to the file that NNI_RECORD names.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

REACH = 3


class nnInteractiveInferenceSession:  # noqa: N801  its name
    def __init__(
        self,
        device,
        use_torch_compile=False,
        verbose=False,
        torch_n_threads=8,
        do_autozoom=True,
        interactions_storage="auto",
    ):
        sys.stdout.write("session initialized\n")
        self.target_buffer = None

    def initialize_from_trained_model_folder(
        self, model_training_output_dir, use_fold=None, checkpoint_name="checkpoint_final.pth"
    ):
        folder = Path(model_training_output_dir)
        if (folder / "fold_0" / checkpoint_name).read_bytes() != b"weights":
            raise KeyError("network_weights")
        json.loads((folder / "plans.json").read_text())

    def set_image(self, image, image_properties=None):
        assert image.ndim == 4
        assert image.dtype == np.float32
        self.image = image[0] > image[0].mean()
        self.previous = np.zeros(self.image.shape, bool)
        self.marks = []
        self.target_buffer = None
        _record("set_image", list(image.shape))

    def set_target_buffer(self, target_buffer):
        self.target_buffer = target_buffer

    def reset_interactions(self, _preserve_undo=False):
        self.marks, self.previous = [], np.zeros(self.image.shape, bool)
        self.target_buffer.fill(0)
        _record("reset_interactions")

    def add_initial_seg_interaction(self, initial_seg, run_prediction=False, override_capability_checks=False):
        assert initial_seg.shape == self.image.shape
        self.marks, self.previous = [], initial_seg > 0
        self.target_buffer[:] = initial_seg
        _record("add_initial_seg_interaction", int(initial_seg.sum()))

    def add_point_interaction(
        self, coordinates, include_interaction, run_prediction=True, override_capability_checks=False
    ):
        _record("add_point_interaction", list(coordinates), include_interaction, run_prediction)
        mark = np.zeros(self.image.shape, bool)
        mark[tuple(coordinates)] = True
        self._marked(mark, include_interaction, run_prediction)

    def add_bbox_interaction(
        self, bbox_coords, include_interaction, run_prediction=True, override_capability_checks=False
    ):
        _record("add_bbox_interaction", bbox_coords, include_interaction, run_prediction)
        if min(b - a for a, b in bbox_coords) != 1:
            raise ValueError("This is not supported by the loaded model checkpoint.")
        mark = np.zeros(self.image.shape, bool)
        mark[tuple(slice(a, b) for a, b in bbox_coords)] = True
        self._marked(mark, include_interaction, run_prediction)

    def add_scribble_interaction(
        self,
        scribble_image,
        include_interaction,
        run_prediction=True,
        override_capability_checks=False,
        interaction_bbox=None,
    ):
        self._drawn("add_scribble_interaction", scribble_image, include_interaction, run_prediction, interaction_bbox)

    def add_lasso_interaction(
        self,
        lasso_image,
        include_interaction,
        run_prediction=True,
        override_capability_checks=False,
        interaction_bbox=None,
    ):
        self._drawn("add_lasso_interaction", lasso_image, include_interaction, run_prediction, interaction_bbox)

    def _drawn(self, name, picture, positive, predict, bounds):
        _record(name, bounds, positive, predict, int(picture.sum()))
        assert list(picture.shape) == [b - a for a, b in bounds]
        mark = np.zeros(self.image.shape, bool)
        mark[tuple(slice(a, b) for a, b in bounds)] = picture > 0
        self._marked(mark, positive, predict)

    def _marked(self, mark, positive, predict):
        self.marks.append((mark, positive))
        if predict:
            score = 0.45 * self.previous
            for age, (each, is_positive) in enumerate(reversed(self.marks)):
                score = score + 0.8**age * (1 if is_positive else -1) * _near(each)
            self.previous = (score > 0.4) & self.image
            self.target_buffer[:] = self.previous


def _near(mark):
    """Return the voxels within a few steps of a mark."""
    for axis in range(3):
        shifted = mark.copy()
        for step in range(1, REACH + 1):
            index = [slice(None)] * 3
            other = [slice(None)] * 3
            index[axis], other[axis] = slice(step, None), slice(None, -step)
            shifted[tuple(index)] |= mark[tuple(other)]
            shifted[tuple(other)] |= mark[tuple(index)]
        mark = shifted
    return mark


def _record(*words):
    with Path(os.environ["NNI_RECORD"]).open("a") as file:
        file.write(json.dumps(words) + "\n")
