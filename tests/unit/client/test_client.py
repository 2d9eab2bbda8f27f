"""The client against a server in a thread."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from api_server import DARK, GEOMETRY, Running, make_site, serving

from annotate_server.client import AnnotateClient
from annotate_server.domain.errors import (
    Cancelled,
    CaseTaken,
    InvalidPrompt,
    LockedSegment,
    NotFound,
    NotSignedIn,
    PredictionFailed,
    Problem,
    SessionExpired,
    StaleRevision,
    TryLater,
    UnsupportedInput,
)
from annotate_server.domain.geometry import Box
from annotate_server.domain.helper import HelperKind, HelperOrder
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.person import Role
from annotate_server.domain.project import Project
from annotate_server.imaging.labelmap_orders import LabelmapFormat

INSIDE = GEOMETRY.world([[2, 3, 4]])
NIFTI = b"\x5c\x01\x00\x00" + bytes(36) + b"\x03\x00" + bytes(302) + b"n+1\x00" + bytes(1000)
DICOM = bytes(128) + b"DICM" + bytes(400)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with serving(make_site(tmp_path / "site")) as server:
        yield server


@pytest.fixture
def client(running: Running) -> Iterator[AnnotateClient]:
    with AnnotateClient(running.url, name="anne") as made:
        yield made


def test_the_local_draft_follows_every_change(client: AnnotateClient) -> None:
    with client.open("bright", "case1") as session:
        assert session.draft.shape == GEOMETRY.shape
        assert not session.draft.any()
        answered = session.point("bright", INSIDE)
        assert (session.draft == 1).sum() == (answered.voxels == 1).sum() > 0
        box = Box((5, 0, 0), (7, 3, 4))
        voxels = np.full(box.shape, DARK.index, np.uint8)
        session.edit(box, voxels)
        assert (session.draft[box.slices] == DARK.index).all()
        session.undo()
        assert not session.draft[box.slices].any()
        assert session.can_redo
        session.redo()
        assert (session.draft[box.slices] == DARK.index).all()
        session.help(HelperOrder(HelperKind.SMOOTH, distance_mm=1.0), segment=1)
        label = session.submit()
    assert (label.author, label.state, label.project) == ("anne", "approved", "bright")
    again = client.open("bright", "case1")
    assert np.array_equal(again.draft, session.draft)
    again.leave()
    assert [each.id for each in client.labels("bright", "case1")] == [label.id]


def test_segments_are_changed_and_locked(client: AnnotateClient) -> None:
    with client.open("bright", "case1") as session:
        session.add_segment(Segment(300, "Far", (1, 2, 3)))
        assert session.draft.dtype == np.uint16
        session.alter_segment(Segment(300, "Farther", (1, 2, 3)))
        assert [s.name for s in session.segments if s.index == 300] == ["Farther"]
        session.remove_segment(300)
        assert 300 not in [s.index for s in session.segments]
        session.lock({1})
        assert session.locked == {1}
        with pytest.raises(LockedSegment):
            session.box("bright", GEOMETRY.world([[1, 1, 1], [3, 3, 3]]))


def test_a_second_window_is_noticed_and_refresh_catches_up(client: AnnotateClient) -> None:
    first = client.open("bright", "case1")
    second = client.resume(first.id)
    second.point("bright", INSIDE)
    with pytest.raises(StaleRevision):
        first.undo()
    first.refresh()
    assert np.array_equal(first.draft, second.draft)
    first.undo()
    first.leave()


def test_errors_come_back_as_what_they_were(client: AnnotateClient, running: Running) -> None:
    with client.open("bright", "case1") as session, AnnotateClient(running.url, name="bela") as other:
        with pytest.raises(CaseTaken) as taken:
            other.open("bright", "case1")
        assert (taken.value.person, taken.value.session) == ("anne", session.id)
        with pytest.raises(InvalidPrompt, match="outside the volume"):
            session.point("bright", [1e5, 0, 0])
    with pytest.raises(NotFound):
        client.case("nobody")
    with pytest.raises(NotSignedIn), AnnotateClient(running.url, token="nonsense") as stranger:  # noqa: S106
        stranger.projects()
    nobody = AnnotateClient("http://127.0.0.1:9", timeout_s=1)
    with pytest.raises(TryLater, match="did not answer"):
        nobody.draft_case("case1", "bright")
    nobody.close()


def test_an_expired_session_goes_on_where_it_was(client: AnnotateClient, running: Running) -> None:
    session = client.open("bright", "case1")
    session.point("bright", INSIDE)
    running.site.watch.skip(121)
    with pytest.raises(SessionExpired):
        session.heartbeat(1.0)
    assert [each.id for each in client.sessions()] == [session.id]
    resumed = client.resume(session.id)
    assert (resumed.draft == 1).any()
    resumed.leave()


def test_the_worklist_hands_out_cases_until_none_is_left(client: AnnotateClient) -> None:
    sessions = [client.next_case("bright") for _ in range(4)]
    assert [session is None for session in sessions] == [False, False, False, True]
    assert {item.status for item in client.worklist("bright")} == {"in-work"}
    with pytest.raises(NotFound):
        client.next_case("nowhere")


def test_cases_projects_and_models_come_as_values(client: AnnotateClient) -> None:
    client.open("bright", "case1").leave()
    found = {case.id: case for case in client.cases()}
    assert found["case1"].geometry is not None
    assert found["case1"].geometry.matches(GEOMETRY)
    assert [case.id for case in client.cases(study="1.2.3")] == ["case1"]
    client.add_project(Project("mine", "Mine", (DARK,), ("bright",)))
    assert [project.segments for project in client.projects() if project.id == "mine"] == [(DARK,)]
    assert client.model("bright").state == "ready"
    assert client.models()[0].prompts == ("point",)
    assert client.put_aside("mine", "case1", "Motion").status == "put-aside"
    assert client.declare_modality("case3", "MR").modality == "MR"


def test_a_file_or_a_folder_is_uploaded(client: AnnotateClient, tmp_path: Path) -> None:
    file = tmp_path / "Meier.nii"
    file.write_bytes(NIFTI)
    [case] = client.upload(file)
    assert client.case(case.id) == case
    folder = tmp_path / "series"
    (folder / "below").mkdir(parents=True)
    (folder / "a.dcm").write_bytes(DICOM)
    (folder / "below" / "b.dcm").write_bytes(DICOM + b"2")
    assert len(client.upload(folder)) == 2
    (tmp_path / "text").write_text("no volume")
    with pytest.raises(UnsupportedInput):
        client.upload(tmp_path / "text")


def test_a_job_is_waited_for_with_its_progress(client: AnnotateClient, running: Running) -> None:
    services, heard = running.site.services, list[tuple[float, str]]()
    job = client.draft_case("case1", "bright", priority="batch")

    def work() -> None:
        claimed = services.jobs.claim()
        assert claimed is not None
        services.watchers.tell(claimed)
        services.jobs.advance(job.id, 0.5, "half")
        services.watchers.tell(services.jobs.get(job.id))
        services.watchers.tell(services.jobs.finish(job.id, {"prediction": "p1"}))

    worker = threading.Timer(0.2, work)
    worker.start()
    ended = client.wait(job.id, 20, lambda fraction, message: heard.append((fraction, message)))
    worker.join()
    assert ended.result == {"prediction": "p1"}
    assert heard[-1][0] == 1.0


def test_a_job_that_failed_raises_what_it_failed_with(client: AnnotateClient, running: Running) -> None:
    services = running.site.services
    job = client.draft_case("case1", "bright")
    services.jobs.claim()
    services.jobs.fail(job.id, Problem("prediction-failed", "The model failed on this volume", "it is too thin"))
    with pytest.raises(PredictionFailed, match="too thin"):
        client.wait(job.id, 5)
    cancelled = client.cancel(client.draft_case("case2", "bright").id)
    with pytest.raises(Cancelled):
        client.wait(cancelled.id, 5)


def test_predictions_and_labels_are_downloaded_whole(client: AnnotateClient, running: Running, tmp_path: Path) -> None:
    running.site.add_prediction("case2")
    stored = client.prediction("case2", "bright")
    assert stored.segments[0].name == "Bright"
    client.download_prediction(stored.id, LabelmapFormat.NRRD, tmp_path / "draft.seg.nrrd")
    assert (tmp_path / "draft.seg.nrrd").read_bytes().startswith(b"NRRD")
    with client.open("reviewed", "case2") as session:
        assert (session.draft == 1).sum() == 2 * 4 * 5
        label = session.submit()
    client.download_label(label.id, LabelmapFormat.NIFTI, tmp_path / "label.nii.gz")
    assert (tmp_path / "label.nii.gz").read_text() == "nifti: Bright"
    assert [each.id for each in client.reviews("reviewed")] == [label.id]
    with AnnotateClient(running.url, name="bela") as second:
        assert second.review(label.id, "returned", "Look again").state == "returned"
    assert client.label(label.id).comment == "Look again"
    with pytest.raises(NotFound):
        client.download_label("none", LabelmapFormat.NIFTI, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_token_says_who_asks(running: Running) -> None:
    token = running.site.services.users.add("carla", Role.ANNOTATOR)
    with AnnotateClient(running.url, token=token) as carla, carla.open("bright", "case1") as session:
        assert session.heartbeat().person == "carla"


def test_a_get_waits_while_the_server_asks_for_patience(client: AnnotateClient, running: Running) -> None:
    flow = running.server._app.state.flow
    flow.is_draining = True
    back = threading.Timer(0.2, lambda: setattr(flow, "is_draining", False))
    client._connection.longest_wait_s = 0.3
    back.start()
    assert client.projects()
    back.join()
