"""The sample app `radiology`, unmodified, as models of ours; its direct answers are what ours are compared with."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry
from numpy.typing import NDArray
from peer_fixtures import run_over_there

from annotate_server.backends.monailabel_app.adapter import MonaiLabelAppBackend
from annotate_server.backends.monailabel_app.loaded import HostedApp, HostedTask
from annotate_server.backends.monailabel_app.tasks import MonaiLabelAppParameters
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.errors import Cancelled, InvalidApp, InvalidPrompt, PredictionFailed
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.labelmap_files import read_labelmap
from annotate_server.imaging.nifti_writing import write_nifti
from annotate_server.stores.folder_apps import app_of

DIRECTLY = """
import json, os, shutil, sys
os.environ.update(MONAI_LABEL_DATASTORE_AUTO_RELOAD="false", MONAI_LABEL_TRACKING_ENABLED="false")
import torch
from monailabel.interfaces.utils.app import app_instance
place, conf, requests = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
sys.path.append(place)
os.makedirs(place + "/model")
torch.manual_seed(7)
app = app_instance(place, place + "/../studies", conf)
for task in app._infers.values():
    if task.path:
        torch.save({"model": task.network.state_dict()}, task.path[-1])
for file, request in requests.items():
    answer = app.infer({"device": "cpu", "result_extension": ".nii.gz", **request})
    shutil.move(answer["file"], file)
"""
"""Gives the app random weights, where a training publishes them, and asks it as MONAI Label's own server does."""

GEOMETRY = oblique_geometry((20, 36, 28))
CLICK_KJI, BESIDE_KJI = (9, 20, 11), (2, 5, 3)
NO_PROMPT = Situation()
STRUCTURE = Segment(1, "Structure", (200, 40, 40))
Load = Callable[[str], HostedTask]


@pytest.fixture(scope="module")
def direct(radiology: Path, peer_python: Path, volume: Volume) -> Mapping[str, NDArray[np.generic]]:
    """Return what the app itself answers (k, j, i), by task, on the volume's grid; the app has weights then."""
    place = radiology.parent
    image = str(place / "volume.nii.gz")
    write_nifti(volume.voxels, volume.geometry, place / "volume.nii.gz")
    clicks = {"spleen": [list(CLICK_KJI[::-1])], "background": [list(BESIDE_KJI[::-1])]}
    requests = {
        "segmentation_spleen": {"model": "segmentation_spleen", "image": image},
        "deepedit": {"model": "deepedit", "image": image, **clicks},
    }
    files = {task: place / f"{task}.nii.gz" for task in requests}
    asked = {str(files[task]): request for task, request in requests.items()}
    conf = {"models": "segmentation_spleen,deepedit", "use_pretrained_model": "false", "sam2": "false"}
    (place / "studies").mkdir()
    run_over_there(peer_python, DIRECTLY, str(radiology), json.dumps(conf), json.dumps(asked))
    return {task: read_labelmap(file, volume.geometry)[0].voxels for task, file in files.items()}


@pytest.fixture(scope="module")
def apps(
    radiology: Path, direct: Mapping[str, NDArray[np.generic]], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, AdoptedApp]:
    """Return what the app becomes, by name."""
    backend, scratch = MonaiLabelAppBackend(), tmp_path_factory.mktemp("scratch")
    order = AdoptionOrder(radiology, modalities=(Modality.CT,), trusted=digest_told_for(radiology, scratch))
    return {app.name: app for app in backend.adopted(order, tmp_path_factory.mktemp("scratch"), Control())}


@pytest.fixture(scope="module")
def load(apps: Mapping[str, AdoptedApp]) -> Iterator[Load]:
    """Return what loads a model by its name, once."""
    loaded: dict[str, HostedTask] = {}

    def load_one(name: str) -> HostedTask:
        if name not in loaded:
            loaded[name] = MonaiLabelAppBackend().load(version_of(apps[name]), "cpu")
        return loaded[name]

    yield load_one
    for model in loaded.values():
        model.close()


@pytest.fixture(scope="module")
def volume() -> Volume:
    """Return a small CT, anisotropic and oblique, in which no voxel is like another."""
    k, j, i = np.indices(GEOMETRY.shape)
    waves = 60 * np.sin(k / 3) + 80 * np.cos(j / 4 + i / 9) + 5 * i - 40
    return Volume(waves.astype(np.int16), GEOMETRY, Modality.CT, "HU")


def digest_told_for(app: Path, scratch: Path) -> str:
    """Return the digest that the refusal of an app that nobody trusts yet names."""
    with pytest.raises(InvalidApp) as refused:
        MonaiLabelAppBackend().adopted(AdoptionOrder(app, modalities=(Modality.CT,)), scratch, Control())
    return str(refused.value.remedy).split("--trust ")[1]


def version_of(adopted: AdoptedApp) -> ModelVersion:
    """Return the version that an adopted app becomes, as the store would read it back."""
    app = app_of(adopted.table, adopted.name, Path(adopted.name), "0" * 64)
    return ModelVersion(app, adopted.files)


def click(kji: tuple[int, int, int], segment: int = 1, *, positive: bool = True) -> Prompt:
    """Return a click on a voxel."""
    x, y, z = (float(mm) for mm in GEOMETRY.world([kji])[0])
    return Prompt(PromptKind.POINT, ((x, y, z),), segment, positive)


def clicked(model: HostedTask, *prompts: Prompt) -> Situation:
    """Return the situation after clicks on the first segment of a model."""
    return Situation(active=model.version.app.card.segments[0], prompts=prompts)


def labels_of(model: HostedTask, volume: Volume, situation: Situation = NO_PROMPT) -> NDArray[np.generic]:
    """Return the labels of a whole answer (k, j, i)."""
    prediction: Prediction = model.predict({"CT": volume}, situation, Control())
    assert prediction.labels.shape == volume.geometry.shape
    return prediction.labels


def strokes(rows: range, *, positive: bool = True) -> tuple[Prompt, ...]:
    """Return scribbles along rows of four slices: broad enough for a task that looks at voxels of 2.5 x 2.5 x 5 mm."""
    places = [[(k, j, 4), (k, j, 24)] for k in range(8, 12) for j in rows]
    ends = [[(float(x), float(y), float(z)) for x, y, z in GEOMETRY.world(place)] for place in places]
    return tuple(Prompt(PromptKind.SCRIBBLE, tuple(points), positive=positive) for points in ends)


def leftovers(app: HostedApp) -> set[str]:
    """Return what lies in the private folder of an app."""
    return {path.name for path in app.place.folder.iterdir()} | {
        path.name for path in Path(tempfile.gettempdir()).glob("*.nrrd")
    }


def test_its_tasks_with_weights_become_models(apps: Mapping[str, AdoptedApp]) -> None:
    assert set(apps) == {"segmentation_spleen", "deepedit", "deepedit_seg", "histogram_graphcut", "gmm_graphcut"}
    cards = {name: version_of(app).app.card for name, app in apps.items()}
    assert [segment.name for segment in cards["segmentation_spleen"].segments] == ["Spleen"]
    assert [segment.name for segment in cards["deepedit"].segments] == [
        *("Spleen", "Right kidney", "Left kidney", "Liver", "Stomach", "Aorta", "Inferior vena cava")
    ]
    assert cards["deepedit"].prompts == {PromptKind.POINT}
    assert cards["histogram_graphcut"].prompts == {PromptKind.SCRIBBLE}
    assert not cards["histogram_graphcut"].segments
    assert not cards["segmentation_spleen"].prompts


def test_each_model_takes_its_own_weights_along_and_the_app_none(apps: Mapping[str, AdoptedApp]) -> None:
    assert set(apps["segmentation_spleen"].files) == {"app.zip", "segmentation_spleen.pt"}
    assert set(apps["deepedit_seg"].files) == {"app.zip", "deepedit_dynunet.pt"}
    assert apps["segmentation_spleen"].files["app.zip"].stat().st_size < 200_000


def test_a_cancelled_question_stops_and_the_next_one_is_answered_as_the_app_itself_does(
    direct: Mapping[str, NDArray[np.generic]], load: Load, volume: Volume
) -> None:
    model, reports = load("segmentation_spleen"), list[float]()

    def report(fraction: float, sentence: str) -> None:
        reports.append(fraction)

    with pytest.raises(Cancelled):
        model.predict({"CT": volume}, Situation(), Control(report=report, is_cancelled=lambda: bool(reports)))
    assert reports
    assert max(reports) < 0.9

    spleen = labels_of(model, volume)
    assert model.app.guest.starts == 1
    assert 0 < np.count_nonzero(spleen) < spleen.size
    assert np.array_equal(spleen, direct["segmentation_spleen"])


def test_clicks_arrive_where_they_were_made(
    direct: Mapping[str, NDArray[np.generic]], load: Load, volume: Volume
) -> None:
    model = load("deepedit")
    edited = labels_of(model, volume, clicked(model, click(CLICK_KJI), click(BESIDE_KJI, positive=False)))
    assert len(np.unique(edited)) > 1
    assert np.array_equal(edited, direct["deepedit"])
    assert not np.array_equal(edited, labels_of(model, volume)), "without clicks it drafts something else"


def test_scribbles_are_followed(load: Load) -> None:
    bright = np.full(GEOMETRY.shape, -100, np.int16)
    bright[:, :18] = 100
    model, drawn = load("histogram_graphcut"), (*strokes(range(2, 10)), *strokes(range(26, 34), positive=False))
    volume = Volume(bright, GEOMETRY, Modality.CT, "HU")
    prediction = model.predict({"CT": volume}, Situation(active=STRUCTURE, prompts=drawn), Control())
    assert prediction.segments == (STRUCTURE,)
    assert (prediction.labels[9, 6, 4:25] == 1).all()
    assert not prediction.labels[9, 30, 4:25].any()
    with pytest.raises(InvalidPrompt, match="compares two scribbles"):
        model.predict({"CT": volume}, Situation(active=STRUCTURE, prompts=drawn[:1]), Control())


def test_a_task_that_raises_gives_a_sentence_leaves_nothing_behind_and_goes_on(
    apps: Mapping[str, AdoptedApp], load: Load, volume: Volume
) -> None:
    running = load("histogram_graphcut").app
    before = leftovers(running)
    version = version_of(apps["gmm_graphcut"])  # it wants a CUDA card, and says so by raising
    model = HostedTask(version, MonaiLabelAppParameters.of(version.app), running, "cpu")
    drawn = (*strokes(range(2, 10)), *strokes(range(26, 34), positive=False))
    for _ in range(2):
        with pytest.raises(PredictionFailed, match=r"'GMM\+GraphCut' failed: OSError: Unable to find CUDA device"):
            model.predict({"CT": volume}, Situation(active=STRUCTURE, prompts=drawn), Control())
    assert running.guest.starts == 1
    assert leftovers(running) == before
