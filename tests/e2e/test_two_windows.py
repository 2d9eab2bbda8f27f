"""Two windows, two people and a lease that runs out, over HTTP with a real server: each is told so, nothing is lost."""

import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from server_process import ServerProcess, running
from small_studies import SHAPE, add_project, small_chest, write_chest

from annotate_server.client import AnnotateClient, ClientSession
from annotate_server.domain.errors import CaseTaken, LockedSegment, NotAllowed, SessionExpired, StaleRevision
from annotate_server.domain.geometry import Box
from annotate_server.domain.helper import Combination, HelperKind, HelperOrder
from annotate_server.domain.labelmap import LabelVoxels
from annotate_server.imaging.frame import MEDIA_TYPE, Frame, encode_frame

LEASE_S = 1.0
BLOCK = Box((3, 4, 5), (6, 9, 12))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("windows")
    for number in range(5):
        write_chest(folder / "studies" / f"{number}.nii", seed=number)
    with running(folder / "workspace", folder / "studies") as made:
        made.wait_until_ready().wait_for_cases(5)
        with made.client() as client:
            add_project(client)
            for case in tuple(client.cases()):
                client.declare_modality(case.id, "CT")
        yield made


@pytest.fixture
def ann(server: ServerProcess) -> Iterator[AnnotateClient]:
    with server.client("ann") as made:
        yield made


@pytest.fixture
def bob(server: ServerProcess) -> Iterator[AnnotateClient]:
    with server.client("bob") as made:
        yield made


@pytest.fixture
def case_id(ann: AnnotateClient, request: pytest.FixtureRequest) -> str:
    """Return a case that no other test of the module uses: they are given out by line of the test."""
    taken = request.module.__dict__.setdefault("_taken", [])
    taken.append(request.node.name)
    return sorted(case.id for case in ann.cases())[len(taken) - 1]


def paint(session: ClientSession, box: Box, index: int) -> LabelVoxels:
    """Draw a block, and return the whole draft as it is then."""
    session.edit(box, np.full(box.shape, index, session.draft.dtype))
    return session.draft.copy()


def test_a_second_window_resumes_and_the_slower_one_is_told_that_the_draft_went_on(
    server: ServerProcess, ann: AnnotateClient, bob: AnnotateClient, case_id: str
) -> None:
    first = ann.open("small", case_id)
    drawn = paint(first, BLOCK, 1)
    with server.client("ann") as window:
        with pytest.raises(CaseTaken) as mine:
            window.open("small", case_id)
        assert (mine.value.session, mine.value.person) == (first.id, "ann")
        with pytest.raises(CaseTaken) as theirs:
            bob.open("small", case_id)
        assert (theirs.value.session, theirs.value.person) == (first.id, "ann")
        with pytest.raises(NotAllowed):
            bob.resume(first.id)
        second = window.resume(first.id)
        np.testing.assert_array_equal(second.draft, drawn)
        faster = paint(second, Box((10, 4, 5), (12, 9, 12)), 2)
        for slower in (
            lambda: paint(first, BLOCK, 3),
            lambda: first.point("any_structure", small_chest().world([[15, 20, 12]])[0]),
            lambda: first.help(HelperOrder(HelperKind.MARGIN, distance_mm=9.0)),
            first.undo,
            first.submit,
            lambda: first.remove_segment(1),
        ):
            with pytest.raises(StaleRevision, match="revision"):
                slower()
        np.testing.assert_array_equal(window.resume(first.id).draft, faster)
        first.refresh()
        np.testing.assert_array_equal(first.draft, faster)
        both = paint(first, Box((14, 4, 5), (16, 9, 12)), 3)
        second.refresh()
        np.testing.assert_array_equal(second.draft, both)
        second.undo()
        np.testing.assert_array_equal(second.draft, faster)
    first.leave()


def test_an_edit_that_names_no_revision_is_asked_for_one(ann: AnnotateClient, server: ServerProcess) -> None:
    case = sorted(case.id for case in ann.cases())[4]
    with ann.open("small", case) as session:
        voxels = np.ones(BLOCK.shape, np.uint8)
        body = encode_frame(Frame(case, session.id, session.revision, BLOCK, voxels, session.geometry_digest))
        path = f"{server.url}/api/v1/sessions/{session.id}/labelmap"
        answer = httpx.put(path, content=body, headers={"Content-Type": MEDIA_TYPE, "X-Annotate-Name": "ann"})
        assert answer.status_code == 428
        assert answer.json()["type"].endswith(":revision-required")
        assert "If-Match" in answer.json()["detail"]
        session.refresh()
        assert not session.draft.any()


def test_nothing_changes_a_locked_segment(ann: AnnotateClient, case_id: str) -> None:
    session = ann.open("small", case_id)
    lung_mm = small_chest().world([[15, 20, 12]])[0]
    session.point("any_structure", lung_mm, segment=1)
    paint(session, Box((0, 0, 0), (2, 40, 44)), 1)
    paint(session, Box((14, 18, 10), (17, 23, 15)), 3)  # of a name that demo_ct drafts, too
    paint(session, Box((20, 2, 2), (24, 5, 5)), 2)
    session.lock([1, 3])
    kept, revision = session.draft.copy(), session.revision
    background = (kept == 0).nonzero()
    for refused in (
        lambda: session.point("any_structure", lung_mm, segment=1),
        lambda: session.help(HelperOrder(HelperKind.MARGIN, distance_mm=12.0), segment=1),
        lambda: session.help(HelperOrder(HelperKind.COMBINE, combination=Combination.UNION, other=1), segment=2),
        lambda: session.help(HelperOrder(HelperKind.COMBINE, combination=Combination.UNION, other=2), segment=1),
        lambda: paint(session, Box((0, 0, 0), (1, 1, 1)), 0),
        lambda: paint(session, Box((0, 0, 0), (1, 1, 1)), 2),
        lambda: paint(session, Box(*_voxel(background)), 1),
        lambda: session.remove_segment(1),
    ):
        with pytest.raises(LockedSegment, match="locked"):
            refused()
    session.refresh()
    assert session.revision == revision
    np.testing.assert_array_equal(session.draft, kept)
    # what is asked for other segments goes around it
    session.help(HelperOrder(HelperKind.THRESHOLD, low=-2000.0, high=3000.0), segment=2)
    assert (session.draft == 2).sum() == np.isin(kept, (0, 2)).sum()
    session.undo()
    session.draft_by("demo_ct")
    for index in (1, 3):
        np.testing.assert_array_equal(session.draft == index, kept == index)
    assert len(np.unique(session.draft)) > 4
    session.undo()
    np.testing.assert_array_equal(session.draft, kept)
    # undo stops before what would change it
    session.undo()
    with pytest.raises(LockedSegment, match="Right lung"):
        session.undo()
    np.testing.assert_array_equal(session.draft == 3, kept == 3)
    session.lock([])
    session.undo()
    assert not (session.draft == 3).any()
    session.leave()


def _voxel(where: tuple[np.ndarray, ...]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the first of some voxels as the corners of a box."""
    k, j, i = (int(each[0]) for each in where)
    return (k, j, i), (k + 1, j + 1, i + 1)


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Give a server whose leases are short."""
    folder = tmp_path_factory.mktemp("leases")
    for number in range(2):
        write_chest(folder / "studies" / f"{number}.nii", seed=number)
    with running(folder / "workspace", folder / "studies", {"ANNOTATE_LEASE_S": str(LEASE_S)}) as made:
        made.wait_until_ready().wait_for_cases(2)
        with made.client() as client:
            add_project(client)
        yield made


def test_a_lease_that_ran_out_is_resumed_with_everything_there(forgetful: ServerProcess) -> None:
    with forgetful.client("ann") as client:
        case = min(case.id for case in client.cases())
        session = client.open("small", case)
        paint(session, BLOCK, 1)
        drawn = paint(session, Box((20, 1, 2), (23, 30, 40)), 2)
        time.sleep(1.5 * LEASE_S)
        for late in (lambda: paint(session, BLOCK, 3), session.undo, session.heartbeat, session.submit, session.leave):
            with pytest.raises(SessionExpired, match="Resume"):
                late()
        again = client.resume(session.id)
        np.testing.assert_array_equal(again.draft, drawn)
        again.undo()
        again.redo()
        np.testing.assert_array_equal(again.draft, drawn)
        for _ in range(4):  # who works keeps the lease
            time.sleep(0.4 * LEASE_S)
            again.heartbeat(0.4)
        label = again.submit()
        assert label.events == 2


def test_a_case_that_somebody_else_took_meanwhile_is_not_resumed_until_they_leave(forgetful: ServerProcess) -> None:
    with forgetful.client("ann") as ann, forgetful.client("bob") as bob:
        case = max(case.id for case in ann.cases())
        mine = ann.open("small", case)
        drawn = paint(mine, BLOCK, 1)
        time.sleep(1.5 * LEASE_S)
        theirs = bob.open("small", case)
        assert theirs.id != mine.id
        assert not theirs.draft.any()
        with pytest.raises(SessionExpired):
            paint(mine, BLOCK, 2)
        with pytest.raises(CaseTaken) as taken:
            ann.resume(mine.id)
        assert (taken.value.session, taken.value.person) == (theirs.id, "bob")
        theirs.leave()
        again = ann.resume(mine.id)
        np.testing.assert_array_equal(again.draft, drawn)
        assert again.draft.shape == SHAPE
        again.leave()
