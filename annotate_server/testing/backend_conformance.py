"""The tests that every backend must pass.

class TestMyBackend(BackendConformance):
    @pytest.fixture
    def model(self) -> LoadedModel: ...      freshly loaded
    @pytest.fixture
    def version(self) -> ModelVersion: ...
    @pytest.fixture
    def volume(self) -> Volume: ...          one on which the model finds something
    situation = Situation()                  with prompts for a model that only answers prompts
"""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import Cancelled
from annotate_server.domain.geometry import Box
from annotate_server.domain.model import ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control, LoadedModel
from annotate_server.domain.volume import Volume
from annotate_server.imaging.reorientation import reoriented

Labels = NDArray[np.uint8] | NDArray[np.uint16]


class BackendConformance:
    """Subclass it and give the fixtures `model`, `version` and `volume`; see the module."""

    situation: Situation | Callable[[Volume], Situation] = Situation()
    least_agreement = 0.98
    """Share of the union of labelled voxels that must agree when the axes of the volume are turned."""

    def asked(self, volume: Volume) -> Situation:
        """Return the situation in which the model is asked about `volume`."""
        return self.situation if isinstance(self.situation, Situation) else self.situation(volume)

    def test_the_answer_lies_within_the_volume_and_finds_something(self, model: LoadedModel, volume: Volume) -> None:
        """A box inside the grid, with labels in it."""
        prediction = model.predict({"volume": volume}, self.asked(volume), Control())
        whole = Box.whole(volume.geometry.shape)
        assert prediction.box.union(whole) == whole
        assert prediction.labels.any()

    def test_every_label_is_a_segment_that_the_answer_names(self, model: LoadedModel, volume: Volume) -> None:
        """No value without a segment."""
        prediction = model.predict({"volume": volume}, self.asked(volume), Control())
        known = {segment.index for segment in prediction.segments}
        assert set(np.unique(prediction.labels).tolist()) - {0} <= known

    def test_the_segments_are_those_of_the_card(
        self, model: LoadedModel, version: ModelVersion, volume: Volume
    ) -> None:
        """A model whose card lists segments answers with no other."""
        prediction = model.predict({"volume": volume}, self.asked(volume), Control())
        if version.app.card.segments:
            assert set(prediction.segments) <= set(version.app.card.segments)

    def test_a_cached_answer_equals_a_fresh_one(self, model: LoadedModel, volume: Volume) -> None:
        """The same question has the same answer."""
        first = model.predict({"volume": volume}, self.asked(volume), Control())
        second = model.predict({"volume": volume}, self.asked(volume), Control())
        assert first.box == second.box
        assert (first.labels == second.labels).all()

    def test_another_volume_in_between_changes_no_answer(self, model: LoadedModel, volume: Volume) -> None:
        """What was cached of one volume is not used for another."""
        turn = reoriented(volume.geometry, "RAI")
        other = Volume(np.ascontiguousarray(turn.apply(volume.voxels)), turn.geometry, volume.modality, volume.unit)
        first = model.predict({"volume": volume}, self.asked(volume), Control())
        model.predict({"volume": other}, self.asked(other), Control())
        again = model.predict({"volume": volume}, self.asked(volume), Control())
        assert (painted(again, volume) == painted(first, volume)).all()

    def test_turned_axes_give_the_same_labelmap_in_the_world(self, model: LoadedModel, volume: Volume) -> None:
        """Orientation is geometry, not content."""
        turn = reoriented(volume.geometry, "RAI")
        turned = Volume(np.ascontiguousarray(turn.apply(volume.voxels)), turn.geometry, volume.modality, volume.unit)
        upright = painted(model.predict({"volume": volume}, self.asked(volume), Control()), volume)
        back = turn.undo(painted(model.predict({"volume": turned}, self.asked(turned), Control()), turned))
        either = (upright != 0) | (back != 0)
        assert np.mean(upright[either] == back[either]) >= self.least_agreement

    def test_the_volume_is_left_as_it_was(self, model: LoadedModel, volume: Volume) -> None:
        """Voxels belong to the caller."""
        before = hashlib.sha256(np.ascontiguousarray(volume.voxels).view(np.uint8).data).hexdigest()
        model.predict({"volume": volume}, self.asked(volume), Control())
        after = hashlib.sha256(np.ascontiguousarray(volume.voxels).view(np.uint8).data).hexdigest()
        assert before == after

    def test_it_stops_when_it_is_cancelled(self, model: LoadedModel, volume: Volume) -> None:
        """A person who stops waiting gets the machine back."""
        raised = False
        try:
            model.predict({"volume": volume}, self.asked(volume), Control(is_cancelled=lambda: True))
        except Cancelled:
            raised = True
        assert raised

    def test_progress_stays_between_0_and_1(self, model: LoadedModel, volume: Volume) -> None:
        """What is reported can be drawn as a bar."""
        reports: list[float] = []
        control = Control(report=lambda fraction, message: reports.append(fraction))
        model.predict({"volume": volume}, self.asked(volume), control)
        assert all(0.0 <= fraction <= 1.0 for fraction in reports)


def painted(prediction: Prediction, volume: Volume) -> Labels:
    """Return the labels of a prediction on the volume's whole grid (k, j, i)."""
    voxels = np.zeros(volume.geometry.shape, prediction.labels.dtype)
    voxels[prediction.box.slices] = prediction.labels
    return voxels
