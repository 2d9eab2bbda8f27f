"""What crosses to another process: every noun, unchanged, and nothing that is not named."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.domain.case import Case, Format, PatientKey, StoredVolume
from annotate_server.domain.compute import Answered, Drafted, DraftPlace
from annotate_server.domain.errors import InvalidPrompt
from annotate_server.domain.geometry import Box
from annotate_server.domain.helper import HelperKind, HelperOrder, IslandRule
from annotate_server.domain.labelmap import CodedConcept, Segment
from annotate_server.domain.model import Prediction
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.stored import KnownCase, StoredLayer, StoredPrediction, VolumeFacts
from annotate_server.domain.volume import Modality
from annotate_server.imaging.wire import Packed, pack, sendable, unpack

GEOMETRY = oblique_geometry((4, 5, 6))
SPLEEN = Segment(2, "Spleen", (1, 2, 3), CodedConcept("78961009", "SCT", "Spleen"))
STORED = StoredVolume("a/b", Format.DICOM, (Path("x.dcm"), Path("y\udcff.dcm")), PatientKey("i", "p"), Modality.CT)
LAYER = StoredLayer("0" * 64, GEOMETRY, (SPLEEN,))
NOW = datetime(2026, 11, 21, 3, 4, 5, 6, UTC)
FACTS = VolumeFacts("1" * 64, GEOMETRY, None, "HU", ("The qform was not used.",))


@pytest.mark.parametrize(
    "value",
    [
        KnownCase(Case("c", STORED.patient, {"CT": STORED, "PT": STORED}), NOW, FACTS, Modality.MR, is_uploaded=True),
        StoredPrediction("p", "c", "m", "v", LAYER, NOW, ("Cut off.",)),
        Drafted("m", "v", LAYER, FACTS, ("Cut off.",)),
        DraftPlace(Path("d.raw"), "uint16", (SPLEEN,), frozenset({2, 7})),
        HelperOrder(HelperKind.ISLANDS, volume_ml=0.5, rule=IslandRule.MINIMUM_SIZE),
        Prompt(PromptKind.SCRIBBLE, ((0.1, 1e-300, -3.5), (1 / 3, 2.0, 3.0)), 2, positive=False),
        (frozenset({("a", 1)}), {("k", 1): NOW}, frozenset()),
    ],
)
def test_a_noun_crosses_unchanged(value: object) -> None:
    assert unpack(pack(value)) == value


def test_a_prediction_crosses_with_its_arrays() -> None:
    box = Box((1, 2, 3), (3, 4, 5))
    labels = np.arange(8, dtype=np.uint16).reshape(2, 2, 2)
    sent = Answered(Prediction(box, labels, (SPLEEN,), labels / np.float32(8), ("Cut off.",)), "m@v")
    back = unpack(pack(sent))
    assert isinstance(back, Answered)
    assert (back.model_version, back.prediction.box, back.prediction.notes) == ("m@v", box, ("Cut off.",))
    np.testing.assert_array_equal(back.prediction.labels, labels)
    assert back.prediction.labels.dtype == np.uint16
    assert back.prediction.uncertainty is not None
    np.testing.assert_array_equal(back.prediction.uncertainty, labels / np.float32(8))


def test_an_empty_array_crosses() -> None:
    back = unpack(pack(np.zeros((0, 0, 0), np.uint8)))
    assert isinstance(back, np.ndarray)
    assert (back.shape, back.dtype) == ((0, 0, 0), np.uint8)


def test_what_a_constructor_refuses_does_not_come_in() -> None:
    text = pack(Prompt(PromptKind.POINT, ((1.0, 2.0, 3.0),))).text
    with pytest.raises(InvalidPrompt):
        unpack(Packed(text.replace(b"[[1.0,2.0,3.0]]", b"[]")))


def test_a_class_that_is_not_named_cannot_be_made() -> None:
    with pytest.raises(KeyError):
        unpack(Packed(json.dumps({"$": "Popen", "value": "sh"}).encode()))


def test_two_classes_of_one_name_are_refused() -> None:
    @dataclass(frozen=True)
    class Segment:
        index: int

    with pytest.raises(ValueError, match="already sends a Segment"):
        sendable(Segment)
