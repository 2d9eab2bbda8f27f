"""The apps that come with the backend: complete, coded, and honest about whom they are not for."""

from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts

from annotate_server.backends.meshnet.parameters import read_parameters
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import App
from annotate_server.stores.folder_apps import read_app

APPS = {"brain_t1": 17, "brain_t1_104": 103, "brain_tissue": 2, "skull_strip": 1}


def app(name: str) -> App:
    return read_app(Path(__file__).parents[3] / "apps" / name)


@pytest.mark.parametrize("name", APPS)
def test_every_class_has_a_segment_and_the_parameters_are_valid(name: str) -> None:
    described = app(name)
    assert [segment.index for segment in described.card.segments] == list(range(1, APPS[name] + 1))
    read_parameters(described.parameters, name)


@pytest.mark.parametrize("name", APPS)
def test_every_code_is_in_the_dictionary_with_its_meaning(name: str) -> None:
    for segment in app(name).card.segments:
        for concept in (segment.kind, segment.category, segment.laterality):
            if concept is not None:
                known = {
                    code: meaning for entry in concepts[concept.scheme].values() for code, (meaning, _) in entry.items()
                }
                assert concept.value in known, segment.name


@pytest.mark.parametrize("name", APPS)
def test_weights_name_a_fixed_public_address(name: str) -> None:
    for weight in app(name).weights:
        assert weight.url is not None
        assert weight.url.startswith("https://raw.githubusercontent.com/neuroneural/brainchop/4c87885f3a2a8835")
        assert weight.url.endswith(weight.name)
        assert len(weight.sha256) == 64


@pytest.mark.parametrize("name", APPS)
def test_card_names_licence_source_and_limits(name: str) -> None:
    card = app(name).card
    assert card.licence == "MIT"
    assert "10.21105/joss.05098" in card.attribution
    assert "no diagnosis" in card.not_for
    assert card.figures


def test_hippocampus_app_finds_its_segment_by_name() -> None:
    kind = app("brain_t1").card.segment("Hippocampus").kind
    assert kind is not None
    assert kind.value == "5366008"


def test_sides_are_named_and_coded_alike() -> None:
    def side(segment: Segment) -> str:
        return "" if segment.laterality is None else segment.laterality.meaning

    segments = app("brain_t1_104").card.segments
    assert all((side(s) or "no side") == s.name.split()[0] for s in segments if side(s))
    lefts, rights = ({s.name.split(" ", 1)[1] for s in segments if side(s) == which} for which in ("Left", "Right"))
    assert lefts == rights
    assert len(lefts) == 47
