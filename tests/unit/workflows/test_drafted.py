"""What a model drafted stays to be looked at, in the indices of the session, whatever became of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from annotation_bench import ANN, LIVER, SPLEEN, Bench
from conftest import oblique_geometry

from annotate_server.domain.annotation import Session
from annotate_server.domain.clock import now
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.stored import StoredPrediction
from annotate_server.imaging.frame import Frame
from annotate_server.workflows.drafted import drafted, drafted_by, drafted_frame
from annotate_server.workflows.layers import keep_layer

GRID = oblique_geometry((7, 9, 8))
UNSURE = (0.0, 0.1, 0.5, 0.25, 0.0, 0.0, 0.0)
ORGAN = replace(LIVER, index=5)
LUNG = Segment(2, "Lung", (7, 8, 9))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, GRID).furnished(2)
    yield made
    made.close()


def a_prediction(bench: Bench, version: str = "v1", name: str = "p1") -> StoredPrediction:
    """Keep a draft of the liver as 5 and of a lung as 2, which is the spleen in the project."""
    voxels = np.zeros(GRID.shape, np.uint8)
    voxels[1:3, 2:4, 3:7], voxels[3, 5, 1] = 5, 2
    layer = keep_layer(bench.records.blobs, Labelmap(voxels, GRID, (ORGAN, LUNG)), UNSURE)
    stored = StoredPrediction(name, "c0", "cube", version, layer, now(), ("Cut off.",))
    bench.records.predictions.add(stored)
    return stored


def of_session(bench: Bench, session: Session) -> Session:
    return bench.annotator.session(session.id, ANN)


def test_the_draft_is_shown_as_the_model_made_it_though_it_was_changed(bench: Bench) -> None:
    session = bench.annotator.open("organs", "c0", ANN)
    bench.annotator.take_prediction(session.id, ANN, a_prediction(bench).id)
    before = of_session(bench, session)
    whole = Box.whole(GRID.shape)
    nothing = Frame("", "", before.revision, whole, np.zeros(whole.shape, np.uint8), GRID.digest())
    bench.annotator.edit(session.id, ANN, nothing, before.revision)
    frame = drafted_frame(of_session(bench, session), bench.records)
    assert frame is not None
    assert frame.box == Box((1, 2, 1), (4, 6, 7))
    assert frame.voxels.shape == frame.box.shape
    expected = np.zeros(GRID.shape, np.uint8)
    lung = next(each.index for each in before.segments if each.name == "Lung")
    expected[1:3, 2:4, 3:7], expected[3, 5, 1] = LIVER.index, lung
    np.testing.assert_array_equal(frame.voxels, expected[frame.box.slices])
    assert frame.notes == ("Cut off.",)
    assert {each.name: each.index for each in frame.segments or ()} == {"Liver": LIVER.index, "Lung": lung}
    assert lung not in (LIVER.index, SPLEEN.index)


def test_a_segment_that_was_renamed_is_still_the_same(bench: Bench) -> None:
    session = bench.annotator.open("organs", "c0", ANN)
    bench.annotator.take_prediction(session.id, ANN, a_prediction(bench).id)
    lung = next(each for each in of_session(bench, session).segments if each.name == "Lung")
    bench.annotator.alter_segment(session.id, ANN, replace(lung, name="Left lung"))
    found = drafted(of_session(bench, session), bench.records)
    assert found is not None
    assert found.indices[LUNG.index] == lung.index
    assert found.unsure == UNSURE


def test_it_is_the_draft_in_force(bench: Bench) -> None:
    session = bench.annotator.open("organs", "c0", ANN)
    assert drafted(of_session(bench, session), bench.records) is None
    assert drafted_frame(of_session(bench, session), bench.records) is None
    bench.annotator.take_prediction(session.id, ANN, a_prediction(bench).id)
    assert drafted_by(of_session(bench, session)) == "cube@v1"
    bench.annotator.undo(session.id, ANN)
    assert drafted_by(of_session(bench, session)) is None
    bench.annotator.redo(session.id, ANN)
    a_prediction(bench, "v2", "p2")  # ahead of somebody else's work
    assert drafted(of_session(bench, session), bench.records) is None


def test_what_a_session_began_with_is_its_draft(bench: Bench) -> None:
    a_prediction(bench)
    project = bench.records.projects.get("organs")
    bench.records.projects.change(replace(project, apps=("cube",)), ANN)
    session = bench.annotator.open("organs", "c0", ANN)
    found = drafted(of_session(bench, session), bench.records)
    assert found is not None
    assert (found.prediction.id, drafted_by(session)) == ("p1", "cube@v1")
