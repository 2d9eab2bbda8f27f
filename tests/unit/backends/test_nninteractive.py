"""Prompts about any structure through nnInteractive's session, a stand-in of which runs in another interpreter."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry
from toy_environment import KIND, toy_environment

from annotate_server.backends.environments.environment import environments_folder, use_folder
from annotate_server.backends.environments.guest import Environment, Guest
from annotate_server.backends.nninteractive.adapter import NnInteractiveBackend, NnInteractiveModel
from annotate_server.backends.nninteractive.interactions import flat, interaction_of
from annotate_server.backends.nninteractive.parameters import NnInteractiveParameters, read_parameters
from annotate_server.domain.errors import BackendUnavailable, InvalidApp, InvalidPrompt, NotMadeFor, WeightsInvalid
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.model import App, ModelCard, ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Modality, Volume
from annotate_server.testing.backend_conformance import BackendConformance, painted

SEGMENT = Segment(3, "Lesion", (200, 100, 50))
OTHER = Segment(7, "Vessel", (20, 100, 50))
SHAPE = (18, 28, 23)
THICK = (2, 2, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment in which `torch` and `nnInteractive` are stand-ins."""
    place: Path = tmp_path_factory.mktemp("environments")
    packages = toy_environment(place)
    (packages / "torch.py").write_text("class device:\n    def __init__(self, name):\n        self.type = name\n")
    package = packages / "nnInteractive" / "inference"
    package.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("fake_nninteractive.py"), package / "inference_session.py")
    (place / KIND).rename(place / "nninteractive")
    return place


@pytest.fixture(scope="module")
def version(folder: Path) -> ModelVersion:
    files = {"checkpoint.pth": b"weights", "plans.json": b"{}", "dataset.json": b"{}", "inference_info.json": b"{}"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    card = ModelCard("T", "P", "N", (Modality.CT,), (), "CC BY-NC-SA 4.0", "A", frozenset(PromptKind), drafts=False)
    app = App("anything", folder, "nninteractive", card, (), {}, "")
    return ModelVersion(app, {name: folder / name for name in files})


@pytest.fixture(scope="module")
def guest(folder: Path, version: ModelVersion) -> Iterator[Guest]:
    before = environments_folder()
    use_folder(folder)
    os.environ["NNI_RECORD"] = str(folder / "record")
    loaded = NnInteractiveBackend().load(version, "cpu")
    yield loaded._guest
    loaded.close()
    del os.environ["NNI_RECORD"]
    use_folder(before)


@pytest.fixture
def model(guest: Guest) -> NnInteractiveModel:
    return NnInteractiveModel(guest, NnInteractiveParameters(), "CC BY-NC-SA 4.0")


@pytest.fixture
def volume() -> Volume:
    return _volume(0)


def _volume(seed: int) -> Volume:
    geometry = oblique_geometry(SHAPE)
    voxels = np.random.default_rng(seed).normal(0, 20, SHAPE).astype(np.int16)
    voxels[3:15, 5:22, 4:18] += 400
    return Volume(voxels, geometry, Modality.CT, "HU")


def prompt(volume: Volume, kind: PromptKind, *places: tuple[float, float, float], positive: bool = True) -> Prompt:
    points = tuple((float(x), float(y), float(z)) for x, y, z in volume.geometry.world(np.array(places, float)))
    return Prompt(kind, points, SEGMENT.index, positive)


def every_kind(volume: Volume) -> tuple[Prompt, ...]:
    outline = [(9.0, 8.3, 6.3), (9.0, 18.3, 6.3), (9.0, 18.3, 15.3), (9.0, 8.3, 15.3)]
    return (
        prompt(volume, PromptKind.POINT, (8, 13, 11)),
        prompt(volume, PromptKind.POINT, (12, 13, 11), positive=False),
        prompt(volume, PromptKind.BOX, (4, 6, 5), (8, 16, 14)),
        prompt(volume, PromptKind.SCRIBBLE, (6, 8, 6), (6, 15, 6), (6, 15, 12), positive=False),
        prompt(volume, PromptKind.LASSO, *outline),
        prompt(volume, PromptKind.POINT, (5, 7, 6)),
    )


def asked(model: NnInteractiveModel, volume: Volume, draft: Labelmap, prompts: tuple[Prompt, ...]) -> Prediction:
    return model.predict({"CT": volume}, Situation(draft, SEGMENT, frozenset(), prompts), Control())


def drawn(volume: Volume, voxels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> Labelmap:
    return Labelmap(voxels.copy(), volume.geometry, (SEGMENT, OTHER))


class TestNnInteractive(BackendConformance):
    """The suite of every backend; the volume lies obliquely, so that turning its axes is no identity."""

    least_agreement = 1.0

    def situation(self, volume: Volume) -> Situation:
        geometry = oblique_geometry(SHAPE)
        prompts = every_kind(Volume(np.zeros(SHAPE, np.int16), geometry))
        return Situation(None, SEGMENT, frozenset(), (prompts[0], prompts[3], prompts[4]))


def test_going_on_from_an_answer_equals_beginning_anew(model: NnInteractiveModel, volume: Volume, guest: Guest) -> None:
    prompts = every_kind(volume)
    labels = np.zeros(SHAPE, np.uint8)
    steps = []
    for count in range(1, len(prompts) + 1):
        before = drawn(volume, labels)
        answer = asked(model, volume, before, prompts[:count])
        steps.append((before, answer))
        labels[answer.box.slices] = answer.labels
    assert len({str(answer.box) for _, answer in steps}) == len(steps), "each prompt changes something"
    other = _volume(1)
    asked(model, other, drawn(other, 0 * labels), prompts[:1])
    for count, (before, answer) in reversed(list(enumerate(steps, 1))):
        anew = asked(model, volume, before, prompts[:count])
        assert anew.box == answer.box
        np.testing.assert_array_equal(anew.labels, answer.labels)
    process = guest._process
    assert process is not None
    os.kill(process.child.process.pid, signal.SIGKILL)
    process.child.process.wait()
    before, answer = steps[-1]
    again = asked(model, volume, before, prompts)
    np.testing.assert_array_equal(painted(again, volume), painted(answer, volume))


def test_an_answer_goes_on_from_what_a_person_drew(model: NnInteractiveModel, volume: Volume) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:6, 6:9, 5:9] = SEGMENT.index
    labels[8, 14:, :] = OTHER.index
    (point,) = every_kind(volume)[:1]
    answer = asked(model, volume, drawn(volume, labels), (point,))
    result = labels.copy()
    result[answer.box.slices] = answer.labels
    assert answer.labels[answer.labels > 0].size
    taken = np.zeros(SHAPE, bool)
    taken[answer.box.slices] = answer.labels > 0
    assert not taken[labels == OTHER.index].any(), "voxels of another segment are not taken"


def test_each_kind_arrives_as_the_session_takes_it(model: NnInteractiveModel, volume: Volume, folder: Path) -> None:
    (folder / "record").unlink(missing_ok=True)
    upright = Volume(volume.voxels, replace(volume.geometry, direction=((0, 0, 1), (0, 1, 0), (1, 0, 0))))
    prompts = every_kind(upright)[:5]
    asked(model, upright, drawn(upright, np.zeros(SHAPE, np.uint8)), prompts)
    calls = [json.loads(line) for line in (folder / "record").read_text().splitlines()]
    assert calls == [
        ["set_image", [1, *SHAPE]],
        ["reset_interactions"],
        ["add_point_interaction", [8, 13, 11], True, False],
        ["add_point_interaction", [12, 13, 11], False, False],
        ["add_bbox_interaction", [[6, 7], [6, 17], [5, 15]], True, False],
        ["add_scribble_interaction", [[6, 7], [8, 17], [6, 14]], False, False, 30],
        ["add_lasso_interaction", [[9, 10], [9, 19], [7, 16]], True, True, 90],
    ]


def test_every_answer_names_the_licence_and_a_solid_box_what_became_of_it(
    model: NnInteractiveModel, volume: Volume
) -> None:
    prompts = every_kind(volume)
    nothing = drawn(volume, np.zeros(SHAPE, np.uint8))
    (note,) = asked(model, volume, nothing, prompts[:1]).notes
    assert "CC BY-NC-SA 4.0" in note
    assert any("middle slice" in note for note in asked(model, volume, nothing, (prompts[2],)).notes)


def test_a_question_that_cannot_be_answered_is_refused(model: NnInteractiveModel, volume: Volume) -> None:
    nothing = drawn(volume, np.zeros(SHAPE, np.uint8))
    with pytest.raises(NotMadeFor):
        asked(model, volume, nothing, ())
    with pytest.raises(InvalidPrompt, match="outside"):
        asked(model, volume, nothing, (prompt(volume, PromptKind.POINT, (90, 0, 0)),))
    with pytest.raises(InvalidPrompt, match="about the active segment"):
        asked(model, volume, nothing, (replace(every_kind(volume)[0], segment=7),))


def test_weights_of_something_else_are_refused_when_they_are_loaded(
    guest: Guest, version: ModelVersion, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.pth").write_bytes(b"other")
    other = replace(version, files={**version.files, "checkpoint.pth": tmp_path / "checkpoint.pth"})
    with pytest.raises(WeightsInvalid, match="nnInteractive does not take them"):
        NnInteractiveBackend().load(other, "cpu")


def test_without_its_environment_the_command_is_named(version: ModelVersion, tmp_path: Path, guest: Guest) -> None:
    before = environments_folder()
    use_folder(tmp_path)
    try:
        with pytest.raises(BackendUnavailable, match="Run: annotate models env nninteractive"):
            NnInteractiveBackend().load(version, "cpu")
    finally:
        use_folder(before)
    assert Environment.named("nninteractive").python.is_file()


def test_a_box_becomes_its_middle_slice_across_its_thinnest_side() -> None:
    assert flat(Box((2, 3, 4), (10, 6, 20))) == Box((2, 4, 4), (10, 5, 20))
    assert flat(Box((2, 3, 4), (3, 6, 20))) == Box((2, 3, 4), (3, 6, 20))


def test_a_scribble_in_one_slice_stays_in_it_and_one_through_slices_is_thick_all_round(oblique_volume: Volume) -> None:
    stroke = prompt(oblique_volume, PromptKind.SCRIBBLE, (5, 4, 6), (5, 9, 6))
    flat_one = interaction_of(stroke, oblique_volume.geometry, THICK, solid_boxes=False)
    assert flat_one.box.shape == (1, 7, 2)
    through = prompt(oblique_volume, PromptKind.SCRIBBLE, (5, 4, 6), (9, 9, 9))
    thick = interaction_of(through, oblique_volume.geometry, THICK, solid_boxes=False)
    assert thick.box.shape == (6, 7, 5)
    assert thick.picture is not None
    assert thick.picture.sum() > 6 * 4


@pytest.fixture
def oblique_volume() -> Volume:
    return _volume(0)


@pytest.mark.parametrize(
    "table", [{"scribble_thickness": [2, 2]}, {"scribble_thickness": 0}, {"solid_boxes": 1}, {"unknown": 1}]
)
def test_parameters_that_are_none_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(InvalidApp):
        read_parameters(table, "app")
