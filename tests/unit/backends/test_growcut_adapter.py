"""What a person may expect of the backend `growcut`, on a phantom."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry
from numpy.typing import NDArray

from annotate_server.backends.growcut.adapter import GrowCutBackend, GrowCutModel
from annotate_server.domain.errors import InvalidApp, InvalidLabelmap, InvalidPrompt, NotMadeFor
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.model import ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Volume
from annotate_server.stores.folder_apps import read_app
from annotate_server.testing.backend_conformance import BackendConformance
from annotate_server.workflows.robots import Plan, drive, lasso, overlap

GRID = oblique_geometry((16, 64, 44))
MINE, NEIGHBOUR = Segment(2, "Blob", (200, 100, 50)), Segment(5, "Neighbour", (10, 100, 50))
APP = read_app(Path(__file__).parents[3] / "apps" / "any_structure")


def ellipsoid(centre: tuple[float, float, float], radii_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    away = [
        np.square((np.arange(n) - c) * side / r)
        for n, c, side, r in zip(GRID.shape, centre, GRID.spacing_mm, radii_mm, strict=True)
    ]
    inside: NDArray[np.bool_] = sum(np.ix_(*away)) <= 1.0
    return inside


TRUTH = ellipsoid((8, 30, 21), (14, 11, 13))
BESIDE = ellipsoid((8, 52, 21), (12, 5, 12)) & ~TRUTH


def phantom() -> Volume:
    noise = np.random.default_rng(3).normal(0.0, 12.0, GRID.shape)
    return Volume((40.0 + 60.0 * TRUTH + 55.0 * BESIDE + noise).astype(np.int16), GRID)


def model() -> GrowCutModel:
    return GrowCutBackend().load(ModelVersion(APP), "cpu")


def at(k: float, j: float, i: float, *, positive: bool = True) -> Prompt:
    x, y, z = GRID.world([[k, j, i]])[0]
    return Prompt(PromptKind.POINT, ((float(x), float(y), float(z)),), MINE.index, positive)


def line(kind: PromptKind, *indices: tuple[float, float, float], positive: bool = True) -> Prompt:
    corners = tuple((float(x), float(y), float(z)) for x, y, z in GRID.world(list(indices)))
    return Prompt(kind, corners, MINE.index, positive)


def draft(mine: NDArray[np.bool_], beside: NDArray[np.bool_] | None = None) -> Labelmap:
    voxels = mine.astype(np.uint8) * MINE.index
    if beside is not None:
        voxels[beside] = NEIGHBOUR.index
    return Labelmap(voxels, GRID, (MINE, NEIGHBOUR))


def ask(loaded: GrowCutModel, before: Labelmap, *prompts: Prompt) -> Prediction:
    return loaded.predict({"CT": phantom()}, Situation(before, MINE, prompts=prompts), Control())


def segment_after(prediction: Prediction, before: Labelmap) -> NDArray[np.bool_]:
    result = before.voxels == MINE.index
    result[prediction.box.slices] = prediction.labels == MINE.index
    return result


NOTHING = np.zeros(GRID.shape, np.bool_)


def test_three_lassos_and_clicks_segment_an_ellipsoid_and_never_fall_back() -> None:
    trace = drive(model(), phantom(), TRUTH, MINE, Plan(3, 3))
    assert trace.dice[2] > 0.93
    assert trace.worst_drop <= 0.03


def test_clicks_alone_find_it_without_any_box() -> None:
    trace = drive(model(), phantom(), TRUTH, MINE, Plan(0, 4))
    assert trace.dice[-1] > 0.85
    assert trace.worst_drop <= 0.03


def test_a_scribble_and_a_box_do_too() -> None:
    scribble = line(PromptKind.SCRIBBLE, (7, 26, 17), (8, 30, 21), (9, 34, 25))
    box = line(PromptKind.BOX, (3.5, 14, 11), (12.5, 46, 31))
    flat = line(PromptKind.BOX, (8, 14, 11), (8, 46, 31))
    for prompt, least in ((scribble, 0.8), (box, 0.85), (flat, 0.7)):
        before = draft(NOTHING)
        assert overlap(TRUTH, segment_after(ask(model(), before, prompt), before)) > least, prompt.kind


def test_nothing_outside_a_box_belongs_to_the_segment() -> None:
    before = draft(NOTHING)
    found = segment_after(ask(model(), before, line(PromptKind.BOX, (5, 20, 15), (11, 40, 27))), before)
    outside = np.ones(GRID.shape, np.bool_)
    outside[5:12, 20:41, 15:28] = False
    assert found.any()
    assert not (found & outside).any()


def test_the_box_of_an_answer_is_what_changes() -> None:
    before = draft(TRUTH)
    answer = ask(model(), before, at(8, 30, 39))
    changed = segment_after(answer, before) != TRUTH
    assert changed.any()
    assert changed[answer.box.slices].any(axis=(1, 2))[[0, -1]].all()
    assert set(np.unique(answer.labels)) <= {0, MINE.index}


@pytest.mark.parametrize("positive", [True, False])
def test_a_click_is_obeyed_and_changes_only_its_surroundings_in_its_own_sense(positive: bool) -> None:
    wrong = ellipsoid((8, 41 if positive else 47, 21), (5, 4, 4))
    present = TRUTH & ~wrong if positive else TRUTH | wrong
    before = draft(present)
    clicked = np.argwhere(present != TRUTH).mean(axis=0)
    found = segment_after(ask(model(), before, at(*clicked, positive=positive)), before)
    assert found[tuple(np.round(clicked).astype(int))] == positive
    assert (found >= present).all() if positive else (found <= present).all()
    assert overlap(TRUTH, found) > overlap(TRUTH, present)
    distance = np.linalg.norm((np.argwhere(found != present) - clicked) * GRID.spacing_mm, axis=1)
    assert distance.max() < 30.0


def test_an_earlier_prompt_is_not_overrun_by_a_later_one() -> None:
    earlier, later = at(8, 30, 20), at(8, 30, 24, positive=False)
    before = draft(TRUTH)
    found = segment_after(ask(model(), before, earlier, later), before)
    assert found[8, 30, 20]
    assert not found[8, 30, 24]


def test_other_segments_are_never_taken_nor_is_the_draft_written_to() -> None:
    before = draft(NOTHING, beside=BESIDE)
    kept = before.voxels.copy()
    for prompts in (
        [at(8, 48, 21), at(8, 52, 21)],
        [line(PromptKind.LASSO, (8, 14, 9), (8, 60, 9), (8, 60, 33), (8, 14, 33))],
    ):
        answer = ask(model(), before, *prompts)
        assert not (segment_after(answer, before) & BESIDE).any()
    assert np.array_equal(before.voxels, kept)


def test_a_lasso_after_work_by_hand_keeps_the_work() -> None:
    lassos = [lasso(TRUTH, GRID, normal, MINE.index) for normal in (2, 1)]
    loaded = model()
    first = segment_after(ask(loaded, draft(NOTHING), lassos[0]), draft(NOTHING))
    edited = first | ellipsoid((2, 8, 38), (4, 3, 3))
    found = segment_after(ask(loaded, draft(edited), *lassos), draft(edited))
    assert (found >= edited).all()
    untouched = segment_after(ask(loaded, draft(first), *lassos), draft(first))
    assert overlap(TRUTH, untouched) > overlap(TRUTH, first)


def test_a_negative_lasso_erases_exactly_what_it_encloses() -> None:
    before = draft(TRUTH)
    area = line(PromptKind.LASSO, (8, 20, 15), (8, 40, 15), (8, 40, 21), (8, 20, 21), positive=False)
    found = segment_after(ask(model(), before, area), before)
    assert not found[8, 21:40, 16:21].any()
    assert np.array_equal(np.delete(found, 8, axis=0), np.delete(TRUTH, 8, axis=0))


def test_a_negative_click_on_nothing_changes_nothing() -> None:
    answer = ask(model(), draft(NOTHING), at(8, 30, 21, positive=False))
    assert answer.box.is_empty
    assert answer.labels.shape == (0, 0, 0)


def test_a_model_that_remembers_answers_like_a_fresh_one() -> None:
    prompts = drive(model(), phantom(), TRUTH, MINE, Plan(2, 2)).prompts
    used, present = model(), NOTHING
    for count in range(1, len(prompts) + 1):
        before = draft(present)
        warm = ask(used, before, *prompts[:count])
        fresh = ask(model(), before, *prompts[:count])
        again = ask(used, before, *prompts[:count])
        assert warm.box == fresh.box == again.box
        assert np.array_equal(warm.labels, fresh.labels)
        assert np.array_equal(warm.labels, again.labels)
        present = segment_after(warm, before)


def test_a_large_index_gets_room() -> None:
    large = replace(MINE, index=300)
    prompt = replace(at(8, 30, 21), segment=300)
    answer = model().predict({"CT": phantom()}, Situation(None, large, prompts=(prompt,)), Control())
    assert answer.labels.dtype == np.uint16
    assert (answer.labels == 300).any()


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_volume_without_contrast_still_gets_an_answer(value: float) -> None:
    flat = Volume(np.full(GRID.shape, value, np.float32), GRID)
    for prompt in (at(8, 30, 21), lasso(TRUTH, GRID, 2, MINE.index)):
        answer = model().predict({"CT": flat}, Situation(None, MINE, prompts=(prompt,)), Control())
        assert (answer.labels == MINE.index).any()


def test_what_cannot_be_answered_is_refused_with_a_reason() -> None:
    volumes, loaded = {"CT": phantom()}, model()
    with pytest.raises(NotMadeFor, match="answers prompts"):
        loaded.predict(volumes, Situation(), Control())
    with pytest.raises(InvalidPrompt, match="no segment is active"):
        loaded.predict(volumes, Situation(prompts=(at(8, 30, 21),)), Control())
    with pytest.raises(InvalidPrompt, match="active segment 'Neighbour'"):
        loaded.predict(volumes, Situation(None, NEIGHBOUR, prompts=(at(8, 30, 21),)), Control())
    with pytest.raises(InvalidPrompt, match="outside"):
        loaded.predict(volumes, Situation(None, MINE, prompts=(at(99, 30, 21),)), Control())
    elsewhere = Labelmap(np.zeros((3, 4, 5), np.uint8), oblique_geometry((3, 4, 5)), (MINE,))
    with pytest.raises(InvalidLabelmap, match="another grid"):
        loaded.predict(volumes, Situation(elsewhere, MINE, prompts=(at(8, 30, 21),)), Control())


@pytest.mark.parametrize("parameters", [{"working_cells": 5}, {"cells": 100_000}, {"working_cells": "many"}])
def test_wrong_parameters_are_named(parameters: dict[str, object]) -> None:
    app = replace(APP, parameters=parameters)
    with pytest.raises(InvalidApp, match=r"any_structure/app.toml: \[parameters\]"):
        GrowCutBackend().load(ModelVersion(app), "cpu")


class TestConformance(BackendConformance):
    @pytest.fixture
    def version(self) -> ModelVersion:
        return ModelVersion(APP)

    @pytest.fixture
    def model(self, version: ModelVersion) -> GrowCutModel:
        return GrowCutBackend().load(version, "cpu")

    @pytest.fixture
    def volume(self) -> Volume:
        return phantom()

    def asked(self, volume: Volume) -> Situation:
        lassos = tuple(lasso(TRUTH, GRID, normal, MINE.index) for normal in (2, 1, 0))
        return Situation(None, MINE, prompts=lassos)
