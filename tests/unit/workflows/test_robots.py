from collections.abc import Mapping
from dataclasses import dataclass, field

import edt
import numpy as np
import pytest
from conftest import oblique_geometry
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.errors import InvalidLabelmap, InvalidPrompt
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Volume
from annotate_server.imaging.rasterise import voxels_of
from annotate_server.workflows.robots import Plan, Trace, click, drive, lasso

SEGMENT = Segment(3, "Blob", (200, 100, 50))
GRID = oblique_geometry((12, 20, 16))
WHOLE = Box.whole(GRID.shape)


def blob() -> NDArray[np.bool_]:
    truth = np.zeros(GRID.shape, np.bool_)
    truth[3:9, 4:15, 5:12] = True
    truth[5, 4:6, 5:7] = False
    return truth


@dataclass
class Scripted:
    """A model that answers with the given segments, one after the other."""

    answers: list[NDArray[np.bool_]]
    situations: list[Situation] = field(default_factory=list)

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        self.situations.append(situation)
        answer = self.answers[min(len(self.situations), len(self.answers)) - 1]
        return Prediction(WHOLE, answer.astype(np.uint8) * SEGMENT.index, (SEGMENT,))

    def close(self) -> None:
        """Hold nothing."""


def volume() -> Volume:
    return Volume(np.zeros(GRID.shape, np.int16), GRID)


@pytest.mark.parametrize(
    ("text", "lassos", "clicks"), [("clicks:10", 0, 10), ("lasso:3", 3, 0), ("lasso:3+clicks:5", 3, 5)]
)
def test_a_plan_is_read(text: str, lassos: int, clicks: int) -> None:
    assert Plan.parse(text) == Plan(lassos, clicks)


@pytest.mark.parametrize("text", ["", "clicks", "clicks:0", "clicks:5+lasso:3", "lasso:3clicks:5", "box:1", "lasso:3+"])
def test_another_text_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(InvalidPrompt, match="Write `clicks:10`"):
        Plan.parse(text)


def test_there_are_three_lassos_at_most() -> None:
    with pytest.raises(InvalidPrompt, match="axial, coronal and sagittal"):
        Plan.parse("lasso:4")


def test_the_first_click_is_positive_and_deep_inside() -> None:
    found = click(blob(), np.zeros(GRID.shape, np.bool_), GRID, 3)
    assert found is not None
    assert found.positive
    voxel = voxels_of(found, GRID)[0]
    depth = edt.edt(np.pad(blob(), 1))[1:-1, 1:-1, 1:-1]
    assert depth[tuple(voxel)] == depth.max()


def test_the_click_goes_into_the_largest_part_of_what_is_wrong() -> None:
    present = blob()
    present[0:3, 16:19, 0:4] = True
    present[4, 8, 8] = False
    found = click(blob(), present, GRID, 3)
    assert found is not None
    assert not found.positive
    assert present[tuple(voxels_of(found, GRID)[0])]
    assert found == click(blob(), present, GRID, 3)


def test_there_is_no_click_where_nothing_is_wrong() -> None:
    assert click(blob(), blob(), GRID, 3) is None


@pytest.mark.parametrize("normal", [0, 1, 2])
def test_a_lasso_encloses_the_largest_slice_and_one_voxel_more(normal: int) -> None:
    truth = blob()
    drawn = lasso(truth, GRID, normal, 3)
    axis = int(np.argmax(np.abs(np.array(GRID.direction)[:, normal])))
    enclosed = np.zeros(truth.shape, np.bool_)
    enclosed[tuple(voxels_of(drawn, GRID).T)] = True
    levels = np.flatnonzero(enclosed.any(axis=tuple(a for a in range(3) if a != axis)))
    assert levels.size == 1
    area = truth.take(levels[0], axis)
    assert area.sum() == truth.sum(axis=tuple(a for a in range(3) if a != axis)).max()
    assert np.array_equal(enclosed.take(levels[0], axis), ndimage.binary_dilation(area))


def test_a_lasso_at_the_border_of_the_volume_stays_within_it() -> None:
    truth = np.zeros(GRID.shape, np.bool_)
    truth[0:4, 0:5, 0:6] = True
    for normal in (0, 1, 2):
        assert len(voxels_of(lasso(truth, GRID, normal, 3), GRID)) > 0


def test_lassos_come_first_then_clicks_and_every_prompt_is_handed_over() -> None:
    model = Scripted([np.zeros(GRID.shape, np.bool_)])
    trace = drive(model, volume(), blob(), SEGMENT, Plan(3, 2))
    kinds = [prompt.kind for prompt in trace.prompts]
    assert kinds == [PromptKind.LASSO] * 3 + [PromptKind.POINT] * 2
    assert [len(situation.prompts) for situation in model.situations] == [1, 2, 3, 4, 5]
    assert model.situations[-1].prompts == trace.prompts
    assert all(isinstance(prompt, Prompt) and prompt.segment == 3 for prompt in trace.prompts)


def test_the_model_sees_the_draft_that_it_has_led_to() -> None:
    half = blob()
    half[6:] = False
    model = Scripted([half, blob()])
    drive(model, volume(), blob(), SEGMENT, Plan(0, 2))
    first, second = (situation.draft for situation in model.situations)
    assert first is not None
    assert second is not None
    assert not first.voxels.any()
    assert np.array_equal(second.voxels == 3, half)


def test_when_the_truth_is_reached_the_last_dice_is_repeated() -> None:
    trace = drive(Scripted([blob()]), volume(), blob(), SEGMENT, Plan(0, 4))
    assert trace.dice == (1.0, 1.0, 1.0, 1.0)
    assert len(trace.milliseconds) == len(trace.prompts) == 1


def test_the_worst_drop_is_the_largest_fall_between_neighbours() -> None:
    assert Trace((0.5, 0.8, 0.7, 0.9, 0.85), ()).worst_drop == pytest.approx(0.1)
    assert Trace((0.5, 0.8), ()).worst_drop == 0.0
    assert Trace((0.5,), ()).worst_drop == 0.0


def test_an_answer_clears_only_within_its_box() -> None:
    whole = blob()

    @dataclass
    class Boxed:
        asked: int = 0

        def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
            self.asked += 1
            if self.asked == 1:
                return Prediction(WHOLE, whole.astype(np.uint8) * 3, (SEGMENT,))
            box = Box((3, 4, 5), (4, 15, 12))
            return Prediction(box, np.zeros(box.shape, np.uint8), (SEGMENT,))

        def close(self) -> None:
            """Hold nothing."""

    truth = blob()
    truth[3] = False
    trace = drive(Boxed(), volume(), truth, SEGMENT, Plan(0, 2))
    assert trace.dice[1] == 1.0


def test_an_empty_truth_is_refused() -> None:
    with pytest.raises(InvalidLabelmap, match="empty"):
        drive(Scripted([blob()]), volume(), np.zeros(GRID.shape, np.bool_), SEGMENT, Plan(0, 1))
