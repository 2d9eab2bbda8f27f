"""The OBELISK backend as a whole, with a network that knows organs by their brightness."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from annotate_server.backends.obelisk import passes
from annotate_server.backends.obelisk.adapter import ObeliskBackend, ObeliskModel
from annotate_server.backends.obelisk.passes import LIVER
from annotate_server.domain.errors import Cancelled, InvalidApp, NotMadeFor, WeightsMissing
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.model import ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.reorientation import reoriented
from annotate_server.stores.folder_apps import read_app

APP = read_app(Path(__file__).parents[3] / "apps" / "abdomen_ct")
LIVER_HU = 130
SIDE = 48


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The way around the network is that of any number of voxels; with 144 each pass takes a second.

    One thread: several on cores that others use spend more time waiting for each other.
    """
    monkeypatch.setattr(passes, "SIDE", SIDE)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class ByBrightness(nn.Module):
    """Says liver above 100 HU with certainty, nothing below."""

    def __init__(self) -> None:
        super().__init__()
        self.none = nn.Parameter(torch.zeros(1))

    def forward(self, volume: Tensor) -> Tensor:
        assert volume.shape == (1, 1, SIDE, SIDE, SIDE)
        logits = torch.zeros(1, 9, SIDE, SIDE, SIDE)
        logits[0, 0] = 10.0
        logits[0, LIVER] = torch.where(volume[0, 0] > 1.0 + 100.0 / 1024.0, 20.0, 0.0)
        return logits


def model() -> ObeliskModel:
    return ObeliskModel([ByBrightness()], APP.card.segments)  # type: ignore[list-item]  # stands in for the network


def trunk(slices: int = 60) -> tuple[Volume, NDArray[np.bool_]]:
    """A trunk of 232 x 330 mm, slices of 5 mm towards the head, with a liver on its right."""
    shape = (slices, 90, 120)
    affine = np.eye(4)
    affine[:3, :3] = np.diag([3.0, 3.0, 5.0])[:, ::-1]
    rows, columns = (np.arange(90) - 45)[:, None], (np.arange(120) - 60)[None]
    inside = (rows / 39) ** 2 + (columns / 55) ** 2 <= 1
    voxels = np.where(inside, 40, -1000).astype(np.int16)[None].repeat(slices, axis=0)
    liver = np.zeros(shape, np.bool_)
    liver[slices // 2 : slices // 2 + 20, 30:60, 20:50] = True
    voxels[liver] = LIVER_HU
    return Volume(voxels, Geometry.from_affine(affine, shape), Modality.CT, "HU"), liver


def labels_of(volume: Volume, control: Control | None = None) -> NDArray[np.uint8]:
    answer = model().predict({"CT": volume}, Situation(), control or Control())
    labels = np.zeros(volume.geometry.shape, np.uint8)
    labels[answer.box.slices] = answer.labels
    return labels


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return 2.0 * float((found & truth).sum()) / float(found.sum() + truth.sum())


@pytest.mark.parametrize("codes", ["SPL", "IAL", "RSA", "LIP"])
def test_an_organ_is_where_it_is_in_every_orientation_of_the_volume(codes: str) -> None:
    volume, liver = trunk()
    turn = reoriented(volume.geometry, codes)
    turned = Volume(np.ascontiguousarray(turn.apply(volume.voxels)), turn.geometry, Modality.CT, "HU")
    assert dice(labels_of(turned) == LIVER, turn.apply(liver)) > 0.93


def test_a_short_volume_is_stretched_and_says_so() -> None:
    volume, liver = trunk(24)
    answer = model().predict({"CT": volume}, Situation(), Control())
    labels = np.zeros(volume.geometry.shape, np.uint8)
    labels[answer.box.slices] = answer.labels
    assert dice(labels == LIVER, liver) > 0.9
    assert answer.uncertainty is not None
    assert answer.uncertainty.shape == answer.labels.shape
    assert any("120 mm" in note for note in answer.notes)


def test_what_is_no_ct_of_an_upper_abdomen_is_refused_with_the_reason() -> None:
    volume, _ = trunk()
    for wrong, sentence in (
        (replace(volume, modality=Modality.MR), "made for CT"),
        (replace(volume, voxels=np.maximum(volume.voxels, 0)), "as dark as air"),
        (trunk(10)[0], "50 mm from head to foot"),
        (replace(volume, voxels=np.minimum(volume.voxels, 60)), "no liver"),
        (replace(volume, voxels=np.full_like(volume.voxels, -1000)), "nowhere"),
    ):
        with pytest.raises(NotMadeFor, match=sentence):
            model().predict({"CT": wrong}, Situation(), Control())


def test_it_reports_forwards_and_stops_on_request() -> None:
    heard: list[float] = []
    labels_of(trunk()[0], Control(report=lambda fraction, _: heard.append(fraction)))
    assert heard == sorted(heard)
    with pytest.raises(Cancelled):
        labels_of(trunk()[0], Control(is_cancelled=lambda: True))


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"folds": []}, "numbers from 1 to 4"),
        ({"folds": [5]}, "numbers from 1 to 4"),
        ({"folds": 1}, "numbers from 1 to 4"),
        ({"folds": [1], "tiles": 3}, "no parameter 'tiles'"),
        ({}, "numbers from 1 to 4"),
    ],
)
def test_wrong_parameters_are_named(parameters: Mapping[str, object], sentence: str) -> None:
    with pytest.raises(InvalidApp, match=sentence):
        ObeliskBackend().load(ModelVersion(replace(APP, parameters=parameters)), "cpu")


def test_folds_need_their_weights_and_the_app_its_segments() -> None:
    with pytest.raises(InvalidApp, match="none of the app's weights"):
        ObeliskBackend().load(ModelVersion(replace(APP, weights=())), "cpu")
    fewer = replace(APP, card=replace(APP.card, segments=APP.card.segments[:3]))
    with pytest.raises(InvalidApp, match="segments 1 to 8"):
        ObeliskBackend().load(ModelVersion(fewer), "cpu")
    with pytest.raises(WeightsMissing, match="annotate models pull"):
        ObeliskBackend().load(ModelVersion(APP), "cpu")
