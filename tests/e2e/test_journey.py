"""The journey, step by step, over HTTP with a real server and real workers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from server_process import ServerProcess, running

from annotate_server.client import AnnotateClient
from annotate_server.domain.errors import LockedSegment, NotFound
from annotate_server.domain.geometry import Box
from annotate_server.domain.helper import HelperKind, HelperOrder
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.project import Project, ReviewPolicy
from annotate_server.imaging.labelmap_files import LabelmapFormat, read_labelmap
from annotate_server.imaging.overlap import dice
from annotate_server.testing.phantoms import make_sample_data

NODULE = Segment(9, "Lesion", (250, 120, 20))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    make_sample_data(folder)
    return folder


@pytest.fixture(scope="module")
def server(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    workspace = tmp_path_factory.mktemp("journey") / "workspace"
    with running(workspace, samples / "images") as made:
        yield made.wait_until_ready().wait_for_cases(3)


@pytest.fixture
def client(server: ServerProcess) -> Iterator[AnnotateClient]:
    with server.client("ann") as made:
        yield made


def test_from_ingest_to_a_reviewed_label(
    server: ServerProcess, client: AnnotateClient, samples: Path, tmp_path: Path
) -> None:
    # 1 ingest: the studies are cases
    cases = {case.name: case for case in client.cases()}
    assert len(cases) == 3
    chest = next(case for case in cases.values() if case.series_uid and case.modality == "CT")
    # 2 suggest: a project and its worklist
    app = client.model("demo_ct")
    project = Project("chests", "Chests", app.segments, ("demo_ct", "any_structure"), review=ReviewPolicy.OTHER_PERSON)
    client.add_project(project)
    assert {item.status for item in client.worklist("chests")} == {"open"}
    # 3 predict: a model drafts as a job, and the draft is as good as it should be
    session = client.open("chests", chest.id)
    job = session.draft_by("demo_ct")
    assert (job.state, session.can_undo) == ("succeeded", True)
    (truth,) = read_labelmap(samples / "labels/ct_chest.nii", client.case(chest.id).geometry)
    by_name = {segment.name: segment.index for segment in session.segments}
    for segment in app.segments:
        theirs = truth.voxels == segment.index
        if theirs.any():
            assert dice(theirs, session.draft == by_name[segment.name]) > 0.9, segment.name
    # 4 annotate: prompt, edit, helper, undo; what is locked stays
    session.add_segment(NODULE)
    drafted = session.draft.copy()
    geometry = client.case(chest.id).geometry
    assert geometry is not None
    free = np.argwhere(drafted == 0)
    session.point("any_structure", geometry.world([free[len(free) // 2]])[0], segment=9)
    assert (session.draft == 9).any()
    np.testing.assert_array_equal((session.draft != 9) & (session.draft != 0), (drafted != 0) & (session.draft != 9))
    session.undo()
    np.testing.assert_array_equal(session.draft, drafted)
    session.redo()
    box = Box((0, 0, 0), (2, 3, 4))
    session.edit(box, np.full(box.shape, 9, session.draft.dtype))
    before = (session.draft == 9).sum()
    session.help(HelperOrder(HelperKind.MARGIN, distance_mm=3.0), segment=9)
    assert (session.draft == 9).sum() > before
    session.lock([9])
    with pytest.raises(LockedSegment):
        session.edit(box, np.where(session.draft[box.slices] == 9, 0, 9).astype(session.draft.dtype))
    final = session.draft.copy()
    label = session.submit()
    assert (label.state, label.author, label.model_version) == ("submitted", "ann", f"demo_ct@{app.version}")
    # review, by somebody else
    with server.client("bob") as reviewer:
        assert [each.id for each in reviewer.reviews("chests")] == [label.id]
        assert reviewer.review(label.id, "approved").state == "approved"
    assert {item.status for item in client.worklist("chests") if item.case == chest.id} == {"approved"}
    # the label, in every format, is what was submitted
    for kind in LabelmapFormat:
        path = tmp_path / f"label.{kind}"
        client.download_label(label.id, kind, path)
        (back,) = read_labelmap(path, geometry)
        names = {segment.index: segment.name for segment in back.segments}
        for segment in session.segments:
            there = np.isin(back.voxels, [index for index, name in names.items() if name == segment.name])
            np.testing.assert_array_equal(there, final == segment.index, err_msg=f"{kind} {segment.name}")


def test_a_draft_that_was_made_before_is_what_a_session_opens_with(client: AnnotateClient) -> None:
    head = next(case for case in client.cases() if case.modality == "MR")
    done = client.wait(client.draft_case(head.id, "demo_mr").id)
    assert done.state == "succeeded"
    with client.open("demo_mr", head.id) as session:
        assert (session.draft != 0).any()
        assert not session.can_undo


def test_an_uploaded_file_is_a_case_and_what_was_left_can_be_resumed(
    client: AnnotateClient, samples: Path, tmp_path: Path
) -> None:
    (case,) = client.upload(samples / "labels/mr_head.nii")
    client.declare_modality(case.id, "MR")
    session = client.open("demo_mr", case.id)
    box = Box((1, 1, 1), (3, 4, 5))
    session.edit(box, np.full(box.shape, session.segments[0].index, session.draft.dtype))
    session.leave()
    again = client.resume(session.id)
    np.testing.assert_array_equal(again.draft, session.draft)
    again.undo()
    assert not again.draft.any()
    again.leave()
    with pytest.raises(NotFound):
        client.label("0" * 32)


def test_the_server_ends_cleanly_when_it_is_asked_to(samples: Path, tmp_path: Path) -> None:
    with running(tmp_path / "workspace", samples / "images") as server:
        server.wait_until_ready()
        workers = server.workers()
        assert workers
        assert server.terminate() == 0
        assert not any(worker.is_running() for worker in workers)
