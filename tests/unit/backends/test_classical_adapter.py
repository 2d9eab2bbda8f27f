"""The backend `classical`: what an app may say, and the apps that are shipped."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.backends.classical.adapter import ClassicalBackend
from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.model import App, ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume
from annotate_server.stores.folder_apps import read_app
from annotate_server.testing.phantoms import Phantom, demo_chest, demo_head, demo_torso

APPS = Path(__file__).parents[3] / "apps"


def app(name: str, parameters: Mapping[str, object] | None = None) -> App:
    shipped = read_app(APPS / name)
    return shipped if parameters is None else replace(shipped, parameters=parameters)


@pytest.mark.parametrize(
    ("name", "make"),
    [("demo_ct", demo_chest), ("demo_ct", demo_torso), ("lungs_ct", demo_torso), ("demo_mr", demo_head)],
)
def test_a_shipped_app_draws_its_phantom_to_a_dice_of_0_9(name: str, make: Callable[[], Phantom]) -> None:
    phantom = make()
    model = ClassicalBackend().load(ModelVersion(app(name)), "cpu")
    prediction = model.predict({"CT": phantom.volume}, Situation(), Control())
    assert prediction.labels.dtype == np.uint8
    for segment in prediction.segments:
        got, truth = prediction.labels == segment.index, phantom.truth.voxels == segment.index
        assert 2 * (got & truth).sum() / (got.sum() + truth.sum()) >= 0.9, segment.name


def test_the_card_gives_sides_to_the_lungs() -> None:
    segments = {segment.name: segment for segment in app("lungs_ct").card.segments}
    assert segments["Left lung"].laterality is not None
    assert segments["Left lung"].laterality.meaning == "Left"
    assert segments["Right lung"].laterality is not None
    assert segments["Right lung"].laterality.meaning == "Right"


def test_a_structure_without_a_segment_stays_background() -> None:
    phantom = demo_head()
    only_brain = app("demo_mr", {"method": "brain_blocks", "segments": {"brain": 2}})
    prediction = (
        ClassicalBackend().load(ModelVersion(only_brain), "cpu").predict({"MR": phantom.volume}, Situation(), Control())
    )
    assert set(np.unique(prediction.labels)) == {0, 2}


def test_one_value_everywhere_is_answered_with_a_note() -> None:
    flat = Volume(np.zeros((9, 14, 11), dtype=np.int16), oblique_geometry((9, 14, 11)))
    prediction = (
        ClassicalBackend().load(ModelVersion(app("demo_mr")), "cpu").predict({"MR": flat}, Situation(), Control())
    )
    assert not prediction.labels.any()
    assert "same value" in prediction.notes[0]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"method": "liver", "segments": {"left_lung": 1}}, "'liver', not one of brain_blocks, lungs"),
        ({"segments": {"left_lung": 1}}, "method is None"),
        ({"method": "lungs"}, "must name the index"),
        ({"method": "lungs", "segments": {"spleen": 1}}, "draws no 'spleen'"),
        ({"method": "lungs", "segments": {"left_lung": 9}}, "'left_lung' has the index 9"),
        ({"method": "lungs", "segments": {"left_lung": 1}, "speed": 3}, "unknown keys speed"),
    ],
)
def test_an_app_that_is_wrong_is_refused_with_what_is_wrong(parameters: Mapping[str, object], said: str) -> None:
    with pytest.raises(InvalidApp, match=said):
        ClassicalBackend().load(ModelVersion(app("lungs_ct", parameters)), "cpu")
