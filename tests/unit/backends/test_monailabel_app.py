"""Our side of hosted MONAI Label apps: what is asked of a task, how its answer is read, what is taken along."""

import hashlib
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry
from numpy.typing import NDArray

from annotate_server.backends.environments.environment import environments_folder, use_folder
from annotate_server.backends.environments.guest import GuestAnswer
from annotate_server.backends.monailabel_app.adapter import MonaiLabelAppBackend
from annotate_server.backends.monailabel_app.adopting import file_names
from annotate_server.backends.monailabel_app.answers import prediction_of
from annotate_server.backends.monailabel_app.app_folder import copied, files_of, laid_out, packed
from annotate_server.backends.monailabel_app.faults import exceeds, named_inverses
from annotate_server.backends.monailabel_app.places import PrivatePlace
from annotate_server.backends.monailabel_app.request import request_of
from annotate_server.backends.monailabel_app.tasks import (
    MonaiLabelAppParameters,
    OfferedTask,
    TaskKind,
    TaskLabel,
    Values,
)
from annotate_server.domain.adoption import Adopting, AdoptionOrder
from annotate_server.domain.errors import (
    BackendUnavailable,
    InvalidApp,
    InvalidPrompt,
    InvalidRequest,
    NotMadeFor,
    PredictionFailed,
    UnsupportedInput,
    WeightsInvalid,
)
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import App, ModelCard, ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Example, TrainingEntry, TrainingPlace, TrainingSet
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.nifti import read_nifti_header

GEOMETRY = oblique_geometry((6, 9, 7))
MAIN = "from monailabel.interfaces.app import MONAILabelApp\n\n\nclass MyApp(MONAILabelApp):\n    pass\n"
LABELS = (TaskLabel("spleen", 1), TaskLabel("liver", 6), TaskLabel("aorta", 8))
SEGMENTS = tuple(Segment(n, label.name, (10 * n, 20, 30)) for n, label in enumerate(LABELS, 1))
WORDS = {
    "name": "deepedit",
    "kind": "deepedit",
    "dimension": 3,
    "description": "A  model\nof organs",
    "labels": [["background", 0], ["liver", 6], ["spleen", 1]],
    "weights": ["model/deepedit.pt", "model/deepedit.pt"],
    "lacks_weights": False,
    "trainer": None,
    "conf": {"models": "deepedit"},
}


def parameters_of(kind: TaskKind, **changes: object) -> MonaiLabelAppParameters:
    labels = LABELS if kind.names_structures else ()
    usual = MonaiLabelAppParameters(task="a_task", kind=kind, archive="app.zip", labels=labels)
    return replace(usual, **changes)


def click(kji: tuple[float, float, float], segment: int = 1, *, positive: bool = True) -> Prompt:
    x, y, z = (float(mm) for mm in GEOMETRY.world([kji])[0])
    return Prompt(PromptKind.POINT, ((x, y, z),), segment, positive)


def scribble(*corners: tuple[int, int, int], positive: bool = True) -> Prompt:
    points = tuple((float(x), float(y), float(z)) for x, y, z in GEOMETRY.world(list(corners)))
    return Prompt(PromptKind.SCRIBBLE, points, 1, positive)


def asked(
    parameters: MonaiLabelAppParameters, folder: Path, *prompts: Prompt, active: Segment | None = SEGMENTS[0]
) -> Mapping[str, object]:
    volume = Volume(np.arange(6 * 9 * 7, dtype=np.int16).reshape(6, 9, 7), GEOMETRY, Modality.CT, "HU")
    return request_of(parameters, volume, Situation(active=active, prompts=prompts), folder, "cpu")


def answer(values: NDArray[np.generic], geometry: Geometry = GEOMETRY) -> GuestAnswer:
    return GuestAnswer({"affine": geometry.affine.tolist()}, {"labels": values})


@pytest.fixture
def app_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "radiology"
    contents = {
        "main.py": MAIN,
        "lib/infers.py": "x = 1\n",
        "model/net.pt": "weights",
        "lib/__pycache__/infers.pyc": "made",
        "logs/app.log": "of yesterday",
    }
    for place, text in contents.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text)
    return folder


def test_an_app_is_recognised_by_its_main(app_folder: Path, tmp_path: Path) -> None:
    backend = MonaiLabelAppBackend()
    assert isinstance(backend, Adopting)
    assert backend.recognises(app_folder)
    assert not backend.recognises(tmp_path)
    (app_folder / "main.py").write_text("print('a program of somebody')\n")
    assert not backend.recognises(app_folder)


def test_the_digest_is_the_one_that_sha256sum_gives(app_folder: Path, tmp_path: Path) -> None:
    lines = "".join(
        f"{hashlib.sha256((app_folder / place).read_bytes()).hexdigest()}  {place}\n"
        for place in ("lib/infers.py", "main.py", "model/net.pt")
    )
    assert copied(app_folder, tmp_path / "copy", Control()) == hashlib.sha256(lines.encode()).hexdigest()
    assert set(files_of(tmp_path / "copy")) == {"lib/infers.py", "main.py", "model/net.pt"}


def test_a_link_in_an_app_is_refused(app_folder: Path) -> None:
    (app_folder / "lib" / "secret").symlink_to("/etc/passwd")
    with pytest.raises(InvalidApp, match="lib/secret is a link"):
        files_of(app_folder)


def test_an_app_that_nobody_trusts_does_not_run(app_folder: Path, tmp_path: Path) -> None:
    order = AdoptionOrder(app_folder, modalities=(Modality.CT,))
    with pytest.raises(InvalidApp, match="it is code that will run on this machine") as refused:
        MonaiLabelAppBackend().adopted(order, tmp_path / "first", Control())
    digest = copied(app_folder, tmp_path / "copy", Control())
    assert refused.value.remedy == f"Read it, then repeat with --trust {digest}"
    (app_folder / "lib" / "infers.py").write_text("x = 2\n")
    with pytest.raises(InvalidApp, match="it is not the app that you trusted"):
        MonaiLabelAppBackend().adopted(replace(order, trusted=digest), tmp_path / "second", Control())


def test_a_trusted_app_needs_a_modality_and_the_environment(app_folder: Path, tmp_path: Path) -> None:
    digest = copied(app_folder, tmp_path / "copy", Control())
    order = AdoptionOrder(app_folder, trusted=digest.upper())
    with pytest.raises(InvalidApp, match="which modality") as refused:
        MonaiLabelAppBackend().adopted(order, tmp_path / "first", Control())
    assert refused.value.remedy == "Say it, for example with --modality CT."
    before = environments_folder()
    (tmp_path / "second").mkdir()
    use_folder(tmp_path / "environments")
    try:
        with pytest.raises(BackendUnavailable) as missing:
            MonaiLabelAppBackend().adopted(replace(order, modalities=(Modality.CT,)), tmp_path / "second", Control())
    finally:
        use_folder(before)
    assert missing.value.remedy == "Run: annotate models env monailabel"


def test_an_app_is_packed_without_weights_and_laid_out_with_those_of_a_version(
    app_folder: Path, tmp_path: Path
) -> None:
    archive = packed(app_folder, ["main.py", "lib/infers.py"], tmp_path / "app.zip")
    again = packed(app_folder, ["main.py", "lib/infers.py"], tmp_path / "again.zip")
    assert archive.read_bytes() == again.read_bytes()
    trained, target = tmp_path / "trained.pt", tmp_path / "laid"
    trained.write_text("better weights")
    target.mkdir()
    laid_out(archive, {"model/net.pt": trained}, target)
    assert {place: path.read_text() for place, path in files_of(target).items()} == {
        "lib/infers.py": "x = 1\n",
        "main.py": MAIN,
        "model/net.pt": "better weights",
    }


def test_an_archive_or_a_place_that_leads_out_of_the_folder_is_refused(app_folder: Path, tmp_path: Path) -> None:
    hostile, good = tmp_path / "hostile.zip", packed(app_folder, files_of(app_folder).keys(), tmp_path / "app.zip")
    with zipfile.ZipFile(hostile, "w") as sink:
        sink.writestr("../outside.py", "x")
    for number, (archive, place, error) in enumerate(
        ((hostile, "model/net.pt", UnsupportedInput), (good, "../net.pt", WeightsInvalid))
    ):
        target = tmp_path / str(number)
        target.mkdir()
        with pytest.raises(error):
            laid_out(archive, {place: good}, target)
    assert not (tmp_path / "outside.py").exists()
    assert not (tmp_path / "net.pt").exists()


def test_labels_are_listed_by_number_without_background() -> None:
    task = OfferedTask.of(WORDS)
    assert task.labels == (TaskLabel("spleen", 1), TaskLabel("liver", 6))
    assert task.description == "A model of organs"
    assert task.weights == ("model/deepedit.pt",)
    assert task.refusal() is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kind": "detection"}, "no labelmaps"),
        ({"lacks_weights": True}, "weights are not in"),
        ({"labels": [["background", 0]]}, "names no labels"),
        ({"kind": "segmentation", "dimension": 2}, "pictures"),
    ],
)
def test_a_task_that_cannot_become_a_model_says_why(changes: Mapping[str, object], why: str) -> None:
    refusal = OfferedTask.of({**WORDS, **changes}).refusal()
    assert refusal is not None
    assert why in refusal


def test_weights_of_one_name_in_two_folders_stay_apart() -> None:
    assert file_names(["model/a/net.pt", "model/b/net.pt"]) == {
        "net.pt": "model/a/net.pt",
        "model-b-net.pt": "model/b/net.pt",
    }


def test_parameters_come_back_from_their_table_and_say_what_is_wrong() -> None:
    parameters = parameters_of(TaskKind.DEEPEDIT, conf={"models": "x"}, weights={"net.pt": "model/net.pt"})
    card = ModelCard("t", "p", "n", (Modality.CT,), SEGMENTS, "l", "a")
    app = App("x", Path("x"), "monailabel_app", card, (), parameters.table(), "0" * 64)
    assert MonaiLabelAppParameters.of(app) == parameters
    for change, said in (
        ({"kind": "vista"}, "cannot be read"),
        ({"colour": "red"}, "unknown keys colour"),
        ({"labels": []}, "another number of labels"),
    ):
        with pytest.raises(InvalidApp, match=said):
            MonaiLabelAppParameters.of(replace(app, parameters={**parameters.table(), **change}))


def test_the_volume_is_written_where_it_lies(tmp_path: Path) -> None:
    request = asked(parameters_of(TaskKind.SEGMENTATION), tmp_path)
    assert request == {
        "model": "a_task",
        "image": str(tmp_path / "volume.nii"),
        "device": "cpu",
        "result_extension": ".nrrd",
        "result_dtype": "uint16",
        "result_compress": False,
    }
    header = read_nifti_header(tmp_path / "volume.nii")
    assert header.shape == GEOMETRY.shape
    assert np.allclose(header.affine, GEOMETRY.affine, atol=1e-4)


def test_clicks_of_deepedit_are_voxels_by_label_and_negative_ones_background(tmp_path: Path) -> None:
    prompts = (click((5, 8, 6), 1), click((1.3, 2.4, 2.6), 3), click((0, 1, 2), 3, positive=False))
    request = asked(parameters_of(TaskKind.DEEPEDIT), tmp_path, *prompts)
    named = {name: request[name] for name in ("spleen", "liver", "aorta", "background")}
    assert named == {"spleen": [[6, 8, 5]], "liver": [], "aorta": [[3, 2, 1]], "background": [[2, 1, 0]]}


def test_deepedit_without_clicks_drafts(tmp_path: Path) -> None:
    request = asked(parameters_of(TaskKind.DEEPEDIT), tmp_path, active=None)
    assert request["spleen"] == request["background"] == []


def test_clicks_of_deepgrow_are_those_about_the_active_segment(tmp_path: Path) -> None:
    prompts = (click((4, 3, 2)), click((4, 6, 5), positive=False), click((1, 1, 1), 2), click((2, 3, 4)))
    request = asked(parameters_of(TaskKind.DEEPGROW), tmp_path, *prompts)
    assert request["foreground"] == [[2, 3, 4], [4, 3, 2]]
    assert request["background"] == [[5, 6, 4]]
    flat = asked(parameters_of(TaskKind.DEEPGROW, dimension=2), tmp_path, *prompts)
    assert (flat["slice"], flat["foreground"], flat["background"]) == (2, [[4, 3, 2]], [])


def test_scribbles_go_as_a_labelmap_with_the_meaning_of_its_values(tmp_path: Path) -> None:
    prompts = (scribble((1, 2, 1), (1, 2, 5)), scribble((4, 7, 0), (4, 7, 3), positive=False))
    request = asked(parameters_of(TaskKind.SCRIBBLES), tmp_path, *prompts)
    assert request["label"] == str(tmp_path / "scribbles.nii")
    assert request["label_info"] == [
        {"name": "background_scribbles", "id": 1},
        {"name": "foreground_scribbles", "id": 2},
    ]
    values = np.frombuffer((tmp_path / "scribbles.nii").read_bytes()[352:], np.uint8).reshape(GEOMETRY.shape)
    assert (values[1, 2, 1:6] == 2).all()
    assert (values[4, 7, 0:4] == 1).all()
    assert np.count_nonzero(values) == 9


@pytest.mark.parametrize(
    ("kind", "prompts", "error"),
    [
        (TaskKind.DEEPGROW, (), NotMadeFor),
        (TaskKind.SCRIBBLES, (), NotMadeFor),
        (TaskKind.DEEPGROW, (click((1, 1, 1), positive=False),), InvalidPrompt),
        (TaskKind.DEEPGROW, (click((1, 1, 1), 2),), InvalidPrompt),
        (TaskKind.DEEPEDIT, (click((1, 1, 1), 9),), InvalidPrompt),
        (TaskKind.DEEPEDIT, (scribble((1, 1, 1), (1, 2, 1)),), InvalidPrompt),
        (TaskKind.DEEPEDIT, (click((40, 1, 1)),), InvalidPrompt),
        (TaskKind.SCRIBBLES, (click((1, 1, 1)),), InvalidPrompt),
        (TaskKind.SCRIBBLES, (scribble((1, 1, 1), (1, 2, 1)),), InvalidPrompt),
    ],
)
def test_what_a_task_cannot_use_is_refused_before_anything_is_written(
    kind: TaskKind, prompts: Sequence[Prompt], error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        asked(parameters_of(kind), tmp_path, *prompts)
    assert not list(tmp_path.iterdir())


def test_values_by_rank_or_by_number_become_the_same_segments() -> None:
    ranks = np.zeros(GEOMETRY.shape, np.uint16)
    ranks[1, 2, 3], ranks[4, 5, 6], ranks[0, 0, 0] = 1, 2, 3
    numbers = np.array([0, 1, 6, 8], np.uint16)[ranks]
    by_rank = parameters_of(TaskKind.SEGMENTATION)
    by_number = replace(by_rank, values=Values.NUMBER)
    first = prediction_of(answer(ranks), by_rank, SEGMENTS, Situation(), GEOMETRY)
    second = prediction_of(answer(numbers), by_number, SEGMENTS, Situation(), GEOMETRY)
    assert first.labels.dtype == np.uint8
    assert np.array_equal(first.labels, ranks)
    assert np.array_equal(second.labels, ranks)
    assert first.segments == SEGMENTS


def test_a_value_that_means_nothing_is_told() -> None:
    values = np.full(GEOMETRY.shape, 7, np.uint16)
    with pytest.raises(PredictionFailed, match=r"answered with \[7\], for which it names no label") as failed:
        prediction_of(answer(values), parameters_of(TaskKind.SEGMENTATION), SEGMENTS, Situation(), GEOMETRY)
    assert 'values = "number"' in str(failed.value.remedy)


def test_an_answer_with_turned_axes_is_turned_back_and_one_beside_the_volume_refused() -> None:
    values = np.arange(6 * 9 * 7).reshape(GEOMETRY.shape) % 4
    turned = Geometry.from_affine(
        GEOMETRY.affine @ np.array([[0, 0, -1, 5], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], float), (9, 7, 6)
    )
    parameters = parameters_of(TaskKind.SEGMENTATION)
    there = values.astype(np.uint16).transpose(1, 2, 0)[:, :, ::-1]
    prediction = prediction_of(answer(there, turned), parameters, SEGMENTS, Situation(), GEOMETRY)
    assert np.array_equal(prediction.labels, values)
    moved = replace(GEOMETRY, origin_mm=(0.0, 0.0, 0.0))
    with pytest.raises(PredictionFailed, match="do not lie on the volume"):
        prediction_of(answer(values.astype(np.uint16), moved), parameters, SEGMENTS, Situation(), GEOMETRY)


def test_what_a_click_found_is_the_active_segment_and_a_network_of_slices_speaks_of_its_slice_only() -> None:
    values = np.zeros(GEOMETRY.shape, np.uint8)
    values[2, 3:5, 4] = 255
    active = Segment(300, "Lesion", (1, 2, 3))
    prompt = replace(click((2, 3, 4)), segment=300)
    situation = Situation(active=active, prompts=(prompt,))
    whole = prediction_of(answer(values), parameters_of(TaskKind.DEEPGROW), (), situation, GEOMETRY)
    assert whole.segments == (active,)
    assert np.array_equal(whole.labels, np.where(values, 300, 0))
    flat = prediction_of(answer(values), parameters_of(TaskKind.DEEPGROW, dimension=2), (), situation, GEOMETRY)
    assert (flat.box.start, flat.box.stop) == ((2, 0, 0), (3, 9, 7))
    assert np.array_equal(flat.labels, whole.labels[2:3])


def test_a_window_is_compared_with_the_axes_of_space_and_with_each_of_them() -> None:
    assert exceeds((1, 200, 96, 96), (96, 96, 96))
    assert exceeds((1, 96, 96, 97), (96, 96, 96))
    assert not exceeds((128, 96, 96, 96), (96, 96, 96))


def test_inverses_that_are_named_are_run_in_reverse_and_no_others() -> None:
    class Spacing:
        pass

    class Orientation:
        pass

    handed: list[object] = []

    def run(task: object, data: object, steps: Sequence[object], names: Sequence[object] | None) -> object:
        handed.extend((list(steps), names))
        return data

    spacing, orientation = Spacing(), Orientation()
    mended = named_inverses(run)
    assert mended(None, "data", [orientation, spacing], ["Spacing"]) == "data"
    mended(None, "data", [orientation, spacing], [Orientation])
    mended(None, "data", [orientation, spacing], None)
    assert handed == [[spacing], [], [orientation], [], [orientation, spacing], None]


def test_folders_of_killed_processes_are_removed_and_those_of_living_ones_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = PrivatePlace.made()
    killed, begun, foreign = (tmp_path / f"annotate-app-{name}" for name in ("killed", "begun", "link"))
    for folder in (killed, begun, tmp_path / "other"):
        folder.mkdir()
        (folder / "volume.nii").write_bytes(b"voxels")
    (killed / "lock").touch()
    (tmp_path / "other" / "lock").touch()
    foreign.symlink_to(tmp_path / "other")
    newest = PrivatePlace.made()
    assert not killed.exists()
    assert begun.exists()
    assert (tmp_path / "other" / "volume.nii").exists()
    assert living.folder.stat().st_mode & 0o777 == 0o700
    living.remove()
    newest.remove()
    assert not living.folder.exists()


class NoCases:
    """Fulfils `learning_ports.TrainingTask` over a list without labels."""

    def __init__(self, *segments: Segment) -> None:
        self.training_set = TrainingSet("project", segments, ())

    def open(self, entry: TrainingEntry) -> Example:
        raise AssertionError("there is no label to open")


@pytest.mark.parametrize(
    ("changes", "has_archive", "segments", "error", "said"),
    [
        ({}, True, SEGMENTS, NotMadeFor, "no training"),
        ({"trainer": "model/net.pt"}, False, SEGMENTS, NotMadeFor, "not trained from nothing"),
        ({"trainer": "model/net.pt"}, True, (Segment(1, "Tumour", (1, 2, 3)),), InvalidRequest, "no output for Tumour"),
        ({"trainer": "model/net.pt"}, True, SEGMENTS, NotMadeFor, "no label speaks about every voxel"),
    ],
)
def test_what_an_app_cannot_learn_is_said_before_it_is_loaded(
    changes: Mapping[str, object],
    has_archive: bool,
    segments: tuple[Segment, ...],
    error: type[Exception],
    said: str,
    app_folder: Path,
    tmp_path: Path,
) -> None:
    archive = packed(app_folder, ["main.py"], tmp_path / "app.zip")
    parameters = parameters_of(TaskKind.SEGMENTATION, **changes)
    card = ModelCard("t", "p", "n", (Modality.CT,), SEGMENTS, "l", "a", trainable=True)
    app = App("x", Path("x"), "monailabel_app", card, (), parameters.table(), "0" * 64)
    start, place = ModelVersion(app, {"app.zip": archive} if has_archive else {}), TrainingPlace(tmp_path / "round")
    place.folder.mkdir()
    with pytest.raises(error, match=said):
        MonaiLabelAppBackend().train(start, NoCases(*segments), Recipe(), place, Control())
    assert not list(place.folder.iterdir())
