"""Networks that begin from published weights: MeshNet and OBELISK."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from meshnet_files import random_chain, write_chain
from torch import Tensor, nn

from annotate_server.backends.meshnet import writing
from annotate_server.backends.meshnet.adapter import MeshNetBackend
from annotate_server.backends.meshnet.chain import Activation, Chain
from annotate_server.backends.meshnet.learning import MeshNet
from annotate_server.backends.meshnet.tfjs import read_chain
from annotate_server.backends.obelisk import learning, passes
from annotate_server.backends.obelisk.adapter import ObeliskBackend, ObeliskModel
from annotate_server.backends.obelisk.network import ObeliskNet, load_network, state_of
from annotate_server.backends.training.weights import save
from annotate_server.domain.errors import InvalidApp, InvalidRequest, WeightsInvalid
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import App, ModelCard, ModelVersion, Situation, WeightFile
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Precision, Recipe
from annotate_server.domain.training import (
    IGNORED,
    Checkpoint,
    Example,
    Part,
    TrainingEntry,
    TrainingPlace,
    TrainingSet,
)
from annotate_server.domain.volume import Modality, Volume
from annotate_server.stores.folder_apps import read_app

HEAD = (Segment(1, "Bright", (1, 1, 1)), Segment(2, "Dark", (2, 2, 2)), Segment(3, "Third", (3, 3, 3)))
PARAMETERS = {"normalisation": "min-max", "crop_threshold": 0.2, "crop_padding_mm": 2, "least_ml": 0}
ABDOMEN = read_app(Path(__file__).parents[3] / "apps" / "abdomen_ct")
QUICK = Recipe(
    steps=3, batch=1, patch=(24, 24, 24), learning_rate=1e-3, warmup_steps=1, precision=Precision.FP32, weight_decay=0.0
)


@dataclass
class OneCase:
    """A task with a single case."""

    volume: Volume
    target: np.ndarray
    segments: tuple[Segment, ...]

    @property
    def training_set(self) -> TrainingSet:
        entry = TrainingEntry("c", "l", "p", Part.TRAIN, self.segments, is_new=True)
        return TrainingSet("project", self.segments, (entry,))

    def open(self, entry: TrainingEntry) -> Example:
        return Example(entry, self.volume, self.target, frozenset(segment.index for segment in self.segments))


def head() -> tuple[Volume, np.ndarray]:
    """Return a sagittal volume of 150 x 180 x 170 mm with a bright ball, and labels of its halves."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[3.0, 0, 0], [0, 0, 2.0], [0, -2.0, 0]])[:, [0, 1, 2]]
    geometry = Geometry.from_affine(affine, (50, 90, 85))
    k, j, i = np.indices(geometry.shape)
    ball = ((k - 25) * 3) ** 2 + ((j - 45) * 2) ** 2 + ((i - 42) * 2) ** 2 < 55**2
    voxels = np.where(ball, np.where(i > 42, 500, 800), 30).astype(np.int16)
    return Volume(voxels, geometry, Modality.MR), (ball * (1 + (i > 42))).astype(np.int16)


def meshnet(files: Mapping[str, Path], segments: tuple[Segment, ...] = HEAD) -> ModelVersion:
    card = ModelCard("Head", "", "", (Modality.MR,), segments, "none", "nobody", trainable=True)
    weights = tuple(WeightFile(name, "0" * 64, 1) for name in files)
    return ModelVersion(App("head", Path(), "meshnet", card, weights, PARAMETERS, "0" * 64), files)


def chain(classes: int = 4) -> Chain:
    return random_chain((1, 2, 1), Activation.ELU, classes=classes)


@pytest.mark.parametrize("activation", [Activation.RELU, Activation.GELU])
def test_a_chain_that_is_written_is_read_back_bit_for_bit(tmp_path: Path, activation: Activation) -> None:
    for normalised in (False, True):
        before = random_chain((1, 2, 4), activation, normalised=normalised)
        after = read_chain(writing.write_chain(before, tmp_path))
        for a, b in zip((*before.body, before.head), (*after.body, after.head), strict=True):
            assert np.array_equal(a.kernel, b.kernel)
            assert (a.bias is None) == (b.bias is None)
            assert a.bias is None or np.array_equal(a.bias, b.bias)
            assert (a.dilation, a.activation, a.normalised) == (b.dilation, b.activation, b.normalised)


def test_a_meshnet_learns_a_new_segment_and_drafts_it_by_its_own_index(tmp_path: Path) -> None:
    volume, target = head()
    files = write_chain(chain(3), tmp_path)
    added = Segment(40, "Added", (9, 9, 9))
    segments = (HEAD[0], HEAD[1], added)
    target = np.where(target == 2, np.int16(40), target)
    start = meshnet(files, HEAD[:2])
    place = TrainingPlace(tmp_path / "run")
    backend = MeshNetBackend()
    learned = backend.train(start, OneCase(volume, target, segments), replace(QUICK, steps=12), place, Control())
    assert learned.segments == segments
    assert read_chain(learned.files).classes == 4
    draft = backend.load(meshnet(learned.files, segments), "cpu").predict({"v": volume}, Situation(), Control())
    assert set(np.unique(draft.labels)) <= {0, 1, 2, 40}
    half = read_chain(backend.between(start, learned, 0.5, tmp_path / "half").files)
    old, new = read_chain(files), read_chain(learned.files)
    assert np.allclose(half.body[1].kernel, (old.body[1].kernel + new.body[1].kernel) / 2, atol=1e-6)
    assert np.array_equal(half.head.kernel[3], new.head.kernel[3])
    assert not np.array_equal(old.body[1].kernel, new.body[1].kernel)


def test_a_meshnet_of_torch_answers_as_the_chain() -> None:
    from meshnet_files import plain_labels  # noqa: PLC0415  one test needs it

    values = np.random.default_rng(0).random((9, 10, 11), dtype=np.float32)
    with torch.inference_mode():
        (logits,) = MeshNet(chain()).every_resolution(torch.from_numpy(values)[None, None])
    assert np.array_equal(logits.argmax(1)[0].numpy(), plain_labels(chain(), values))


def test_a_meshnet_that_cannot_learn_says_why(tmp_path: Path) -> None:
    volume, target = head()
    task, place = OneCase(volume, target, HEAD), TrainingPlace(tmp_path)
    with pytest.raises(InvalidRequest, match="published weights"):
        MeshNetBackend().train(meshnet({}), task, QUICK, place, Control())
    normalised = write_chain(random_chain((1, 2), Activation.RELU, normalised=True), tmp_path)
    with pytest.raises(InvalidRequest, match="whole heads"):
        MeshNetBackend().train(meshnet(normalised), task, QUICK, place, Control())
    with pytest.raises(InvalidRequest, match="published weights"):
        MeshNetBackend().planned(meshnet({}).app, task, Control())


def published(folder: Path) -> dict[str, Path]:
    """Write drawn weights as a learned version keeps them."""
    torch.manual_seed(0)
    network = ObeliskNet()
    return {learning.WEIGHTS: save(network.state_dict(), folder / learning.WEIGHTS)}


def obelisk(files: Mapping[str, Path], segments: tuple[Segment, ...] = ABDOMEN.card.segments) -> ModelVersion:
    weights = tuple(WeightFile(name, "0" * 64, 1) for name in files)
    card = replace(ABDOMEN.card, segments=segments)
    return ModelVersion(replace(ABDOMEN, card=card, weights=weights, parameters=dict(learning.PARAMETERS)), files)


def test_a_learned_obelisk_network_loads_with_as_many_outputs_as_it_has_segments(tmp_path: Path) -> None:
    files = published(tmp_path)
    assert len(ObeliskBackend().load(obelisk(files), "cpu")._networks) == 1
    more = (*ABDOMEN.card.segments, Segment(30, "Right kidney", (1, 2, 3)))
    with pytest.raises(InvalidApp, match="9 segments"):
        ObeliskBackend().load(obelisk(files, more), "cpu")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"no weights")
    with pytest.raises(WeightsInvalid):
        load_network(bad)


def test_between_two_obelisk_networks_keeps_the_new_output(tmp_path: Path) -> None:
    old = obelisk(published(tmp_path / "old"))
    more = (*ABDOMEN.card.segments, Segment(30, "Right kidney", (1, 2, 3)))
    torch.manual_seed(1)
    path = save(ObeliskNet(10).state_dict(), tmp_path / "new" / learning.WEIGHTS)
    new = Checkpoint({learning.WEIGHTS: path}, learning.PARAMETERS, more, 1, 1, 1.0)
    half = state_of(ObeliskBackend().between(old, new, 0.5, tmp_path / "half").files[learning.WEIGHTS])
    before, after = state_of(old.files[learning.WEIGHTS]), state_of(path)
    assert torch.allclose(half["full.0.weight"], (before["full.0.weight"] + after["full.0.weight"]) / 2)
    assert torch.equal(half["head.weight"][9], after["head.weight"][9])
    assert torch.allclose(half["head.weight"][:9], (before["head.weight"] + after["head.weight"][:9]) / 2)


def test_the_organs_that_the_abdomen_is_found_by_must_stay() -> None:
    with pytest.raises(InvalidRequest, match="must begin with Spleen"):
        learning.check_published(ABDOMEN.card.segments, ABDOMEN.card.segments[1:])


class Brightness(nn.Module):
    """Says liver where it is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.none = nn.Parameter(torch.zeros(1))

    def forward(self, volume: Tensor) -> Tensor:
        logits = torch.zeros(1, 9, *volume.shape[2:])
        logits[0, 0] = 10.0
        logits[0, passes.LIVER] = torch.where(volume[0, 0] > 1.0 + 100.0 / 1024.0, 20.0, 0.0)
        return logits


def test_labels_lie_on_the_networks_grid_where_the_organ_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "SIDE", 48)
    monkeypatch.setattr(learning, "SIDE", 48)
    shape = (30, 90, 120)
    affine = np.eye(4)
    affine[:3, :3] = np.diag([3.0, 3.0, 5.0])[:, ::-1]
    inside = ((np.arange(90) - 45)[:, None] / 39) ** 2 + ((np.arange(120) - 60)[None] / 55) ** 2 <= 1
    voxels = np.where(inside, 40, -1000).astype(np.int16)[None].repeat(30, axis=0)
    liver = np.zeros(shape, np.int16)
    liver[8:22, 30:60, 20:50] = passes.LIVER
    voxels[liver > 0] = 130
    volume = Volume(voxels, Geometry.from_affine(affine, shape), Modality.CT, "HU")
    model = ObeliskModel([Brightness()], ABDOMEN.card.segments)  # type: ignore[list-item]  # stands in for the network
    found = model.abdomen(volume)
    preparation = learning.AbdomenPreparation(model.abdomen)
    entry = TrainingEntry("c", "l", "p", Part.TRAIN, ABDOMEN.card.segments)
    classes = {segment.index: segment.index for segment in ABDOMEN.card.segments}
    (case,) = preparation.prepare(Example(entry, volume, liver, frozenset(classes)), classes)
    assert case.values.shape == (1, 48, 48, 48)
    bright = found.values > 1.0 + 85.0 / 1024.0
    labelled = case.target == passes.LIVER
    assert 2 * (bright & labelled).sum() / (bright.sum() + labelled.sum()) > 0.93
    short = learning.sampled_target(liver[:10], replace(found.window, start=(-5, *found.window.start[1:])))
    assert (short == IGNORED).any(axis=(0, 1)).tolist().count(True) > 0


@pytest.mark.slow
def test_an_obelisk_network_takes_a_step(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(1.0, 0.1, (144, 144, 144)).astype(np.float32)
    target = np.zeros((144, 144, 144), np.int16)
    target[40:80, 40:80, 40:80] = 6

    class Given:
        def prepare(self, example: Example, classes: Mapping[int, int]) -> list[learning.GridCase]:
            return [learning.GridCase(values[None], target, frozenset(range(1, 9)))]

    start = obelisk(published(tmp_path / "start"))
    volume, labels = head()
    learned = learning.train(
        start,
        OneCase(volume, labels, ABDOMEN.card.segments),
        replace(QUICK, steps=2),
        TrainingPlace(tmp_path / "run"),
        Given(),  # type: ignore[arg-type]  # stands in for the one that looks for abdomens
        Control(),
    )
    before, after = state_of(start.files[learning.WEIGHTS]), state_of(learned.files[learning.WEIGHTS])
    assert not torch.equal(before["full.0.weight"], after["full.0.weight"])
    assert torch.equal(before["full.1.running_mean"], after["full.1.running_mean"])
