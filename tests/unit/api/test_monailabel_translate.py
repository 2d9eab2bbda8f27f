"""The words of MONAI Label's clients, by recorded examples."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.api.monailabel.paths import our_path
from annotate_server.api.monailabel.scribbles import strokes_of
from annotate_server.api.monailabel.translate import (
    Offered,
    Standing,
    infer_words,
    is_series,
    is_turned,
    numbered,
    params_of,
    prompts_about,
    renumbering,
    server_words,
    turned,
)
from annotate_server.api.monailabel.words import (
    check_tag,
    image_entry,
    label_entries,
    names_of_values,
    sample_words,
    tagged,
    verdict_of,
)
from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.case import Case, Format, PatientKey, StoredVolume
from annotate_server.domain.errors import InvalidLabelmap, InvalidPrompt, InvalidRequest
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.model import ModelCard
from annotate_server.domain.project import Project
from annotate_server.domain.prompt import PromptKind
from annotate_server.domain.stored import KnownCase, StoredLayer

SPLEEN, LIVER, AORTA = Segment(3, "Spleen", (1, 2, 3)), Segment(7, "Liver", (4, 5, 6)), Segment(90, "Aorta", (7, 8, 9))
ORGANS = ModelCard("Organs", "Draws organs.", "A diagnosis.", (), (SPLEEN, LIVER, AORTA), "MIT", "Us")
CLICKS = ModelCard(
    "Any", "Draws.", "A diagnosis.", (), (), "MIT", "Us", prompts=frozenset({PromptKind.POINT}), drafts=False
)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CASE = KnownCase(
    Case(
        "ab" * 16,
        PatientKey("", "Doe^Jane"),
        {"CT": StoredVolume("jane/doe.nii", Format.NIFTI, (Path("/secret/doe.nii"),), PatientKey("", "Doe^Jane"))},
    ),
    AT,
)


def label(number: int, author: str = "anne") -> Label:
    layer = StoredLayer("f" * 64, oblique_geometry((3, 4, 5)), (SPLEEN, LIVER))
    return Label(f"l{number}", "organs", CASE.id, author, (layer,), made_at=AT)


def test_what_the_server_can_do_is_told_as_clients_read_it() -> None:
    offered = Offered({"organs": ORGANS, "any": CLICKS}, [Project("organs", "Organs")], ("random", "difficulty"))
    told = server_words("1", offered, Standing(5, 2))
    assert told["labels"] == ["Spleen", "Liver", "Aorta", "structure"]
    assert told["models"]["organs"] == {
        "type": "segmentation",
        "labels": {"Spleen": 1, "Liver": 2, "Aorta": 3},
        "dimension": 3,
        "description": "Organs. Draws organs. Not for: A diagnosis.",
        "config": {},
    }
    assert (told["models"]["any"]["type"], told["models"]["any"]["labels"]) == ("deepgrow", {"structure": 1})
    assert told["strategies"]["random"]["config"] == {"project": ["any", "organs"]}
    assert told["datastore"] == {"total": 5, "completed": 2, "label_tags": {"final": 2}}
    assert list(told["strategies"]) == ["first", "random", "last", "difficulty"]
    assert (told["trainers"], list(told["scoring"]), told["train_stats"]) == ({}, ["dice"], {})
    assert "config" not in told, "Slicer says then that the server is too old"


def test_numbers_have_no_gap_and_follow_the_segments() -> None:
    assert list(numbered((LIVER, AORTA, SPLEEN)).items()) == [("Spleen", 1), ("Liver", 2), ("Aorta", 3)]
    table = renumbering((LIVER, AORTA, SPLEEN))
    assert table[np.array([0, 3, 7, 90, 5], np.uint8)].tolist() == [0, 1, 2, 3, 0]
    assert renumbering((Segment(40000, "Far", (0, 0, 0)),))[40000] == 1


def test_clicks_of_both_forms_are_read() -> None:
    deepgrow = infer_words({"label": "Liver", "foreground": [[1, 2, 3], [4, 5, 6]], "background": [[7, 8, 9]]}, ())
    assert deepgrow.clicks == {"Liver": ((1, 2, 3), (4, 5, 6))}
    assert deepgrow.background == ((7, 8, 9),)
    sent = {"Spleen": [[1, 2, 3]], "Liver": [], "background": [[0, 0, 0]], "label": "Spleen", "client_id": "x"}
    deepedit = infer_words(sent, ["Spleen", "Liver"])
    assert deepedit.clicks == {"Spleen": ((1, 2, 3),)}
    assert infer_words({"roi": [1, 5, 2, 6, 0, 3], "label": "Spleen"}, ()).has_prompts
    assert not infer_words({"foreground": [], "background": [[1, 2, 3]]}, ()).has_prompts


@pytest.mark.parametrize(
    "sent", [{"image": "/etc/passwd"}, {"Brain": [[1, 2, 3]]}, {"model_filename": "x"}, {"device": "cuda:7"}]
)
def test_nothing_else_is_read(sent: dict[str, object]) -> None:
    assert infer_words(sent, ["Spleen"]) == infer_words({}, ["Spleen"])


@pytest.mark.parametrize(
    "sent",
    [
        {"foreground": [[1, 2]]},
        {"foreground": "here"},
        {"foreground": [["1", 2, 3]]},
        {"foreground": [[True, 2, 3]]},
        {"foreground": [[math.inf, 2, 3]]},
        {"foreground": [[math.nan, 2, 3]]},
        {"foreground": [[1, 2, 3]] * 501},
        {"roi": [1, 2, 3]},
    ],
)
def test_what_is_no_click_is_refused(sent: dict[str, object]) -> None:
    with pytest.raises(InvalidPrompt):
        infer_words(sent, ())


@pytest.mark.parametrize("text", ["{", "[]", "3", "[" * 5000])
def test_what_is_no_parameters_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        params_of(text)


def test_a_voxel_becomes_the_place_of_its_centre(oblique: Geometry) -> None:
    words = infer_words({"label": "Liver", "foreground": [[2, 5, 7]], "background": [[1, 1, 1]]}, ())
    inside, outside = prompts_about("Liver", words, oblique, 1)
    np.testing.assert_allclose(oblique.index(inside.points_mm)[0], [7, 5, 2], atol=1e-9)
    assert (inside.positive, outside.positive) == (True, False)
    far = infer_words({"label": "Liver", "foreground": [[2, 5, 9]]}, ())
    with pytest.raises(InvalidPrompt, match="outside"):
        prompts_about("Liver", far, oblique, 1)


def test_what_belongs_to_another_does_not_belong_to_this_one(oblique: Geometry) -> None:
    words = infer_words({"Spleen": [[1, 2, 3]], "Liver": [[4, 5, 6]]}, ["Spleen", "Liver"])
    assert [prompt.positive for prompt in prompts_about("Liver", words, oblique, 2)] == [True, False]


def test_a_box_takes_both_its_ends(oblique: Geometry) -> None:
    words = infer_words({"label": "Liver", "roi": [1, 5, 2, 6, 0, 99]}, ())
    (box,) = prompts_about("Liver", words, oblique, 1)
    np.testing.assert_allclose(oblique.index(box.points_mm), [[0, 2, 1], [8, 6, 5]], atol=1e-9)


def test_a_viewer_of_dicom_counts_slices_along_their_normal(oblique: Geometry) -> None:
    back = turned(oblique)
    assert is_turned(oblique) != is_turned(back)
    np.testing.assert_allclose(back.world([[0, 3, 2]]), oblique.world([[8, 3, 2]]))
    np.testing.assert_allclose(back.world([[8, 3, 2]]), oblique.world([[0, 3, 2]]))
    assert turned(back).matches(oblique)
    assert is_series("2.25.1234")
    assert not is_series("12345678901234567890123456789012")


def info(*pairs: tuple[str, int]) -> dict[str, object]:
    return {"label_info": [{"name": name, "idx": index} for name, index in pairs]}


def test_values_of_a_label_get_the_names_that_were_meant() -> None:
    plain = names_of_values(info(("Spleen", 1), ("Liver", 2)), None, [1, 2])
    assert list(plain) == [(1, "Spleen"), (2, "Liver")]
    slicer = names_of_values(info(("Spleen", 2), ("Liver", 3)), None, [1, 2])
    assert list(slicer) == [(1, "Spleen"), (2, "Liver")], "Slicer counts a background that it does not export"
    by_index = names_of_values(info(("Spleen", 4), ("Aorta", 6)), None, [4, 6])
    assert list(by_index) == [(4, "Spleen"), (6, "Aorta")]
    permuted = names_of_values(info(("Liver", 2), ("Spleen", 1)), None, [1, 2])
    assert dict(permuted) == {2: "Liver", 1: "Spleen"}
    of_model = names_of_values({}, ORGANS, [1, 3])
    assert dict(of_model) == {1: "Spleen", 2: "Liver", 3: "Aorta"}


@pytest.mark.parametrize(
    ("params", "values"),
    [
        (info(("Spleen", 2), ("Liver", 3)), [2]),
        (info(("Spleen", 1)), [1, 5]),
        ({}, [1]),
    ],
)
def test_values_that_could_be_mistaken_are_refused(params: dict[str, object], values: list[int]) -> None:
    with pytest.raises(InvalidLabelmap):
        names_of_values(params, None, values)


@pytest.mark.parametrize(
    "params",
    [{"label_info": "x"}, {"label_info": [{"idx": 1}]}, info(("A", 1), ("A", 2)), info(("A", 1), ("B", 1))],
)
def test_a_list_of_names_that_contradicts_itself_is_refused(params: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        names_of_values(params, None, [1])


def test_tags_are_views_of_the_versions() -> None:
    labels = (label(1), label(2, "bob"))
    assert tagged("final", labels) is labels[1]
    assert tagged("version_1", labels) is labels[0]
    assert tagged("version_3", labels) is None
    assert tagged("version_x", labels) is None
    assert tagged("final", ()) is None
    told = label_entries(labels, None)
    assert sorted(told) == ["final", "version_1", "version_2"]
    final = told["final"]
    assert final["info"]["client_id"] == "bob"
    assert final["info"]["params"]["label_names"] == {"Spleen": 3, "Liver": 7}
    for tag in ("original", "../../x", "a b", "x" * 101):
        with pytest.raises(InvalidRequest):
            check_tag(tag)


def test_no_path_and_no_patient_is_told() -> None:
    told = json.dumps([sample_words(CASE), image_entry(CASE)])
    assert "/secret" not in told
    assert "Doe^" not in told
    assert sample_words(CASE)["path"] == ""
    assert sample_words(CASE)["name"].endswith(".nrrd"), "Slicer chooses its reader by the name"


def test_a_reviewers_words_are_a_verdict() -> None:
    assert verdict_of({"segmentationMeta": {"status": "approved"}}) == (LabelState.APPROVED, "")
    assert verdict_of({"segmentationMeta": {"status": "flagged", "comment": "no"}}) == (LabelState.RETURNED, "no")
    with pytest.raises(InvalidRequest):
        verdict_of({"segmentationMeta": {"level": "hard"}})


def test_addresses_of_the_stock_viewer_are_ours() -> None:
    for service in ("qido/", "wado/", "stow/", ""):
        assert our_path(f"/proxy/dicom/{service}studies/1.2/series") == "/dicomweb/studies/1.2/series"


def test_scribbled_voxels_become_strokes_through_just_them() -> None:
    geometry = oblique_geometry((3, 9, 12))
    voxels = np.zeros(geometry.shape, np.uint8)
    voxels[1, 2, 3:9] = voxels[1, 3, 7:10] = voxels[1, 4, 5:9] = 2
    voxels[1, 2, 11] = 2
    voxels[2, 5, 5] = 1
    segments = (Segment(1, "background_scribbles", (0, 0, 0)), Segment(2, "foreground_scribbles", (0, 0, 0)))
    strokes = strokes_of([(Labelmap(voxels, geometry, segments), segments)])
    assert [stroke.is_positive for stroke in strokes] == [True, True, False]
    drawn = np.zeros(geometry.shape, np.uint8)
    for stroke in strokes:
        for start, stop in zip(stroke.voxels, (*stroke.voxels[1:], stroke.voxels[-1]), strict=True):
            for part in np.linspace(0, 1, 50):
                drawn[tuple(np.rint(np.add(start, part * np.subtract(stop, start))).astype(int))] = 1
    assert not (drawn < (voxels > 0)).any()
    assert (drawn > (voxels > 0)).sum() <= 1
    prompt = strokes[2].prompt(geometry, 4)
    assert (prompt.kind, prompt.segment, prompt.positive) == (PromptKind.SCRIBBLE, 4, False)
    np.testing.assert_allclose(geometry.index(prompt.points_mm)[0], [2, 5, 5], atol=1e-9)
    with pytest.raises(InvalidPrompt):
        strokes_of([(Labelmap(voxels, geometry, segments), segments[:1])])
