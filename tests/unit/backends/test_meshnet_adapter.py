"""The backend from a volume to a prediction, with a network that marks what is bright."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from meshnet_files import bright_chain, random_chain, write_chain

from annotate_server.backends.meshnet.adapter import MeshNetBackend
from annotate_server.backends.meshnet.chain import Activation
from annotate_server.backends.meshnet.parameters import Precision, read_parameters
from annotate_server.domain.errors import Cancelled, InvalidApp, NotMadeFor, PredictionFailed
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import App, ModelCard, ModelVersion, Prediction, Situation, WeightFile
from annotate_server.domain.ports import Control, LoadedModel
from annotate_server.domain.volume import Acquisition, Modality, Volume

PARAMETERS = {"normalisation": "min-max", "crop_threshold": 0.2, "crop_padding_mm": 2, "least_ml": 300}
SAGITTAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))


def app(**changed: object) -> App:
    card = ModelCard(
        title="Bright things",
        purpose="tests",
        not_for="anything else",
        modalities=(Modality.MR,),
        segments=(Segment(1, "Bright", (255, 255, 0)),),
        licence="none",
        attribution="nobody",
    )
    weights = tuple(WeightFile(name, "0" * 64, 1) for name in ("model.json", "model.bin"))
    start = App("bright", Path(), "meshnet", card, weights, PARAMETERS, "0" * 64)
    return replace(start, **changed)  # type: ignore[arg-type]  # the test names fields of App


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return MeshNetBackend().load(ModelVersion(app(), write_chain(bright_chain(0.4), tmp_path)), "cpu")


def head(modality: Modality | None = Modality.MR) -> Volume:
    """Return a sagittal volume of 150 x 190 x 180 mm: a bright ball of 55 mm radius, off centre, and a small box."""
    geometry = Geometry((50, 95, 90), (3.0, 2.0, 2.0), SAGITTAL, (-75.0, -90.0, 100.0))
    world = geometry.world(np.indices(geometry.shape).reshape(3, -1).T)
    ball = np.linalg.norm(world - (8.0, -4.0, 12.0), axis=1).reshape(geometry.shape) < 55
    voxels = np.where(ball, 700, 30).astype(np.int16)
    voxels[2:4, 2:6, 2:6] = 700
    return Volume(voxels, geometry, modality)


def drawn(volume: Volume, prediction: Prediction) -> np.ndarray:
    whole = np.zeros(volume.geometry.shape, prediction.labels.dtype)
    whole[prediction.box.slices] = prediction.labels
    return whole


def test_the_largest_bright_part_comes_back_on_the_volumes_own_grid(model: LoadedModel) -> None:
    volume = head()
    kept = volume.voxels.copy()
    prediction = model.predict({"T1": volume}, Situation(), Control())
    truth = kept == 700
    truth[2:4, 2:6, 2:6] = False
    found = drawn(volume, prediction) == 1
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.97
    assert not found[2:4, 2:6, 2:6].any()
    assert prediction.labels.dtype == np.uint8
    assert prediction.notes == ()
    assert np.array_equal(volume.voxels, kept)


def test_a_flipped_and_turned_file_gives_the_same_labels_in_space(model: LoadedModel) -> None:
    volume = head()
    turned_geometry = Geometry.from_affine(
        np.column_stack(
            [
                volume.geometry.affine[:, 2],
                -volume.geometry.affine[:, 0],
                volume.geometry.affine[:, 1],
                np.append(volume.geometry.world([[49, 0, 0]])[0], 1.0),
            ]
        ),
        (90, 50, 95),
    )
    turned = Volume(volume.voxels[::-1].transpose(2, 0, 1).copy(), turned_geometry, Modality.MR)
    one = drawn(volume, model.predict({"T1": volume}, Situation(), Control()))
    other = drawn(turned, model.predict({"T1": turned}, Situation(), Control()))
    assert np.array_equal(one[::-1].transpose(2, 0, 1), other)


def test_unknown_modality_is_taken_and_ct_is_refused(model: LoadedModel) -> None:
    assert model.predict({"T1": head(None)}, Situation(), Control()).labels.any()
    with pytest.raises(NotMadeFor, match="it is CT and Bright things takes MR"):
        model.predict({"CT": head(Modality.CT)}, Situation(), Control())


def test_a_flair_is_refused_by_a_t1_network_by_its_description(tmp_path: Path) -> None:
    wanted = app(parameters={**PARAMETERS, "contrast": "T1"})
    model = MeshNetBackend().load(ModelVersion(wanted, write_chain(bright_chain(0.4), tmp_path)), "cpu")
    flair = replace(head(), acquisition=Acquisition(description="AX FLAIR"))
    with pytest.raises(NotMadeFor, match="FLAIR"):
        model.predict({"T1": flair}, Situation(), Control())
    enhanced = replace(head(), acquisition=Acquisition(description="T1 post"))
    assert "contrast medium" in model.predict({"T1": enhanced}, Situation(), Control()).notes[0]


def test_a_part_of_a_head_is_refused(model: LoadedModel) -> None:
    volume = head()
    slab = Volume(volume.voxels[10:40], replace(volume.geometry, shape=(30, 95, 90)), Modality.MR)
    with pytest.raises(NotMadeFor, match="90 mm thin"):
        model.predict({"T1": slab}, Situation(), Control())


def test_what_shows_no_brain_is_refused(model: LoadedModel) -> None:
    voxels = np.zeros((50, 95, 90), np.int16)
    voxels[10:14, 10:40, 10:40] = 500
    with pytest.raises(NotMadeFor, match="no whole brain"):
        model.predict({"T1": Volume(voxels, head().geometry)}, Situation(), Control())


def test_a_brain_at_the_border_is_said_to_be_cut_off(model: LoadedModel) -> None:
    volume = head()
    cut = Volume(volume.voxels[:, :60], replace(volume.geometry, shape=(50, 60, 90)), Modality.MR)
    notes = model.predict({"T1": cut}, Situation(), Control()).notes
    assert len(notes) == 1
    assert "cut off" in notes[0]


def test_thick_slices_are_said_to_be_rough(model: LoadedModel) -> None:
    volume = head()
    thick = Volume(volume.voxels[::2].copy(), replace(volume.geometry, shape=(25, 95, 90), spacing_mm=(6.0, 2.0, 2.0)))
    notes = model.predict({"T1": thick}, Situation(), Control()).notes
    assert len(notes) == 1
    assert "6.0 mm" in notes[0]


def test_progress_rises_and_cancelling_stops(model: LoadedModel) -> None:
    seen: list[float] = []
    model.predict({"T1": head()}, Situation(), Control(report=lambda fraction, _: seen.append(fraction)))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    with pytest.raises(Cancelled):
        model.predict({"T1": head()}, Situation(), Control(is_cancelled=lambda: True))


def test_lack_of_memory_is_a_failed_prediction(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("annotate_server.backends.meshnet.engine.Engine.labels", too_large)
    with pytest.raises(PredictionFailed, match="allocate memory"):
        model.predict({"T1": head()}, Situation(), Control())


def test_a_closed_model_does_not_answer(model: LoadedModel) -> None:
    model.close()
    with pytest.raises(ValueError, match="closed"):
        model.predict({"T1": head()}, Situation(), Control())


def test_segments_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    files = write_chain(random_chain((1,), Activation.RELU, classes=4), tmp_path)
    with pytest.raises(InvalidApp, match="3 segments apart, not 1"):
        MeshNetBackend().load(ModelVersion(app(), files), "cpu")


def test_precision_of_the_caller_goes_before_the_apps(tmp_path: Path) -> None:
    files = write_chain(bright_chain(0.4), tmp_path)
    asked_for = app(parameters={**PARAMETERS, "precision": "bfloat16"})
    model = MeshNetBackend(Precision.FLOAT32).load(ModelVersion(asked_for, files), "cpu")
    assert model.predict({"T1": head()}, Situation(), Control()).labels.any()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("normalisation", "z-score"),
        ("normalisation", None),
        ("crop_threshold", 1.5),
        ("crop_threshold", True),
        ("crop_padding_mm", -1),
        ("least_ml", "many"),
        ("precision", "float16"),
        ("contrast", "T2"),
        ("surprise", 1),
    ],
)
def test_a_wrong_parameter_is_named(key: str, value: object) -> None:
    with pytest.raises(InvalidApp, match=key):
        read_parameters({**PARAMETERS, key: value}, "bright")
