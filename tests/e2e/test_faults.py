"""Faults around a real server: workers that die, files that vanish, a disk that fills up, a stop in mid-work."""

import errno
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from server_process import ServerProcess, running
from small_studies import add_project, small_chest, write_chest, write_chest_series

from annotate_server.client import AnnotateClient, ClientSession
from annotate_server.client.answers import RemoteJob
from annotate_server.domain.errors import AnnotateError, InvalidRequest, NoSpace, NotFound, ShuttingDown, WorkerDied
from annotate_server.domain.geometry import Box
from annotate_server.domain.helper import HelperKind, HelperOrder
from annotate_server.imaging.labelmap_files import LabelmapFormat, read_labelmap

LUNG_MM = small_chest().world([[15, 20, 12]])[0]
BLOCK = Box((3, 4, 5), (6, 9, 12))
MOST_S = 60.0
SUSPENDED: list[psutil.Process] = []


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[ServerProcess]:
    """Give a ready server on one small chest, whose project is there."""
    write_chest(folder / "studies" / "chest.nii")
    with running(folder / "workspace", folder / "studies", settings) as server:
        server.wait_until_ready().wait_for_cases(1)
        with server.client() as client:
            add_project(client)
            for case in tuple(client.cases()):
                client.declare_modality(case.id, "CT")
        try:
            yield server
        finally:
            while SUSPENDED:
                with suppress(psutil.NoSuchProcess):
                    SUSPENDED.pop().kill()  # it would not notice that its server is gone


def suspend(worker: psutil.Process) -> None:
    """Have a worker stand still, until the end of the test at most."""
    SUSPENDED.append(worker)
    worker.suspend()


def until(condition: Callable[[], object]) -> object:
    """Return what a condition gives once it gives something."""
    deadline = time.monotonic() + MOST_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


def drafter(server: ServerProcess) -> psutil.Process | None:
    """Return the worker for whole drafts: the one that makes way for the other."""
    workers = sorted(server.workers(), key=lambda worker: worker.nice())
    return workers[-1] if len(workers) == 2 and workers[1].nice() > workers[0].nice() else None


def prompter(server: ServerProcess) -> psutil.Process | None:
    return min(server.workers(), key=lambda worker: worker.nice()) if drafter(server) else None


def is_there(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def held_draft(server: ServerProcess, client: AnnotateClient, case_id: str) -> tuple[RemoteJob, psutil.Process]:
    """Order a draft whose worker stands still once it has begun."""
    worker = until(lambda: drafter(server))
    suspend(worker)
    job = client.draft_case(case_id, "demo_ct")
    until(lambda: client.job(job.id).state == "running")
    return job, worker


def paint(session: ClientSession, index: int) -> None:
    session.edit(BLOCK, np.full(BLOCK.shape, index, session.draft.dtype))


def test_a_draft_whose_worker_is_killed_is_begun_once_more_and_succeeds(tmp_path: Path) -> None:
    with served(tmp_path) as server, server.client() as client:
        (case,) = client.cases()
        job, worker = held_draft(server, client, case.id)
        worker.kill()
        assert client.wait(job.id, MOST_S).state == "succeeded"
        assert client.prediction(case.id).model == "demo_ct"


def test_a_draft_whose_worker_is_killed_twice_fails_with_the_reason(tmp_path: Path) -> None:
    with served(tmp_path) as server, server.client() as client:
        (case,) = client.cases()
        job, _ = held_draft(server, client, case.id)
        prompts = until(lambda: prompter(server))
        while not client.job(job.id).has_ended:
            for each in server.workers():
                if each.pid != prompts.pid:
                    each.kill()
            time.sleep(0.05)
        with pytest.raises(WorkerDied):
            client.wait(job.id, MOST_S)
        assert client.job(job.id).state == "failed"
        with pytest.raises(NotFound):
            client.prediction(case.id)
        # the next one is none the worse for it
        assert client.wait(client.draft_case(case.id, "demo_ct").id, MOST_S).state == "succeeded"


def test_a_prompt_whose_worker_is_killed_says_when_to_ask_again_and_the_next_one_works(tmp_path: Path) -> None:
    with served(tmp_path) as server, server.client() as client:
        (case,) = client.cases()
        session = client.open("small", case.id)
        paint(session, 2)
        before = session.draft.copy()
        worker = until(lambda: prompter(server))
        suspend(worker)
        answers: list[httpx.Response] = []
        body = {"kind": "point", "points_mm": [LUNG_MM.tolist()], "segment": 1, "model": "any_structure"}
        path = f"{server.url}/api/v1/sessions/{session.id}/prompts"
        headers = {"X-Annotate-Name": "ann"}
        ask = threading.Thread(
            target=lambda: answers.append(httpx.post(path, json=body, headers=headers, timeout=MOST_S))
        )
        ask.start()
        time.sleep(0.3)
        worker.kill()
        ask.join(MOST_S)
        assert answers[0].status_code == 503
        assert answers[0].json()["type"].endswith(":worker-died")
        assert int(answers[0].headers["Retry-After"]) > 0
        frame = session.point("any_structure", LUNG_MM)
        assert frame.revision == 2  # the prompt that failed left no trace
        assert (session.draft == 1).any()
        session.undo()
        np.testing.assert_array_equal(session.draft, before)
        assert "annotate_worker_restarts 1.0" in httpx.get(f"{server.url}/metrics").text


@pytest.mark.slow
def test_a_stop_in_mid_draft_puts_it_back_and_the_next_start_does_it(tmp_path: Path) -> None:
    with served(tmp_path, ANNOTATE_DRAIN_S="1") as server:
        with server.client() as client:
            (case,) = client.cases()
            session = client.open("small", case.id)
            paint(session, 1)
            job, worker = held_draft(server, client, case.id)
        began = time.monotonic()
        assert server.terminate() == 0
        print(f"\nended {time.monotonic() - began:.1f} s after SIGTERM")  # noqa: T201  the figure, with -s
        assert not is_there(worker)
        server.start().wait_until_ready()
        with server.client() as client:
            assert client.wait(job.id, MOST_S).state == "succeeded"
            np.testing.assert_array_equal(client.resume(session.id).draft, session.draft)


@pytest.mark.slow
def test_a_prompt_that_hangs_at_a_stop_is_told_so_and_leaves_no_trace(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        with server.client() as client:
            (case,) = client.cases()
            session = client.open("small", case.id)
            paint(session, 1)
            suspend(until(lambda: prompter(server)))
            told: list[AnnotateError] = []
            ask = threading.Thread(target=lambda: told.append(refused(session)))
            ask.start()
            time.sleep(0.3)
            assert server.terminate() == 0
            ask.join(MOST_S)
        assert isinstance(told[0], ShuttingDown)
        server.start()
        with server.client() as client:
            again = client.resume(session.id)
            assert again.revision == session.revision
            np.testing.assert_array_equal(again.draft, session.draft)


def refused(session: ClientSession) -> AnnotateError:
    """Return the error that a prompt is answered with."""
    with pytest.raises(AnnotateError) as caught:
        session.point("any_structure", LUNG_MM)
    return caught.value


def test_a_draft_that_runs_while_the_server_is_killed_is_done_after_the_next_start(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        with server.client() as client:
            (case,) = client.cases()
            job, worker = held_draft(server, client, case.id)
        server.kill()
        worker.resume()
        until(lambda: not is_there(worker))
        server.start()
        with server.client() as client:
            assert client.wait(job.id, MOST_S).state == "succeeded"


def test_a_case_whose_files_are_gone_says_so_and_loses_nothing(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    for number in range(2):
        write_chest_series(studies / f"series{number}", number)
    with served(tmp_path, ANNOTATE_RESCAN_S="1") as server, server.client() as client:
        server.wait_for_cases(3)
        (nifti,) = (case for case in client.cases() if case.name == "chest.nii")
        series, never_read = (case for case in client.cases() if case.id != nifti.id)
        opened, labelled = client.open("small", nifti.id), client.open("small", series.id)
        paint(labelled, 2)
        label = labelled.submit()
        opened.point("any_structure", LUNG_MM)
        paint(opened, 2)
        drawn = opened.draft.copy()
        for file in studies.rglob("*"):
            if file.is_file():
                file.unlink()
        with pytest.raises(NotFound, match="files are not there"):
            client.open("small", never_read.id)
        until(lambda: all(_is_missing(server, case.id) for case in (nifti, series, never_read)))
        for case in (nifti, series, never_read):
            with pytest.raises(NotFound, match="files are not there"):
                client.open("demo_ct", case.id)
        with pytest.raises(NotFound, match="files are not there"):
            client.draft_case(nifti.id, "demo_ct")
        # the session goes on from the voxels that were read
        opened.point("any_structure", small_chest().world([[15, 20, 31]])[0], segment=3)
        opened.undo()
        np.testing.assert_array_equal(opened.draft, drawn)
        opened.leave()
        opened = client.resume(opened.id)
        # and without them, a prompt says what is missing, and everything else goes on
        for file in (server.workspace / "volumes").iterdir():
            file.unlink()
        until(lambda: prompter(server)).kill()
        until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 200)
        with pytest.raises(AnnotateError) as gone:
            opened.point("any_structure", LUNG_MM, segment=3)
        assert "chest.nii" in str(gone.value)
        opened.undo()
        opened.redo()
        np.testing.assert_array_equal(opened.draft, drawn)
        submitted = opened.submit()
        for each, geometry in ((label, client.case(series.id).geometry), (submitted, small_chest())):
            for kind in (LabelmapFormat.NIFTI, LabelmapFormat.NRRD):
                path = tmp_path / f"label.{kind}"
                client.download_label(each.id, kind, path)
                (back,) = read_labelmap(path, geometry)
                assert back.voxels.any()
        with pytest.raises(AnnotateError) as without_files:
            client.download_label(label.id, LabelmapFormat.DICOM_SEG, tmp_path / "label.dcm")
        assert "No such file" in str(without_files.value)
        with pytest.raises(InvalidRequest, match="Ask for nifti or nrrd"):
            client.download_label(submitted.id, LabelmapFormat.DICOM_SEG, tmp_path / "label.dcm")
        assert not list((server.workspace / "scratch").iterdir())


def _is_missing(server: ServerProcess, case_id: str) -> bool:
    return bool(httpx.get(f"{server.url}/api/v1/cases/{case_id}").json()["is_missing"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a disk of 12 MB of its own."""
    disk = tmp_path / "workspace"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode != 0:
        pytest.skip("only root can mount a small disk, and not on every machine")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> None:
    """Take every byte of a disk."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    filler.write(b"\0" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017  the loop ends by nothing else


def test_a_full_disk_is_said_nothing_is_half_there_and_all_goes_on_once_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    with served(tmp_path) as server, server.client() as client:
        assert server.workspace == small_disk
        (case,) = client.cases()
        session = client.open("small", case.id)
        paint(session, 1)
        upload = write_chest(tmp_path / "other" / "upload.nii", seed=7)
        before, revision = session.draft.copy(), session.revision
        noise = np.frombuffer(np.random.default_rng(5).bytes(40 * 44 * 20), np.uint8).reshape(20, 40, 44) % 4
        attempts: dict[str, Callable[[], object]] = {
            "edit": lambda: session.edit(Box((0, 0, 0), (20, 40, 44)), noise),
            "prompt": lambda: session.point("any_structure", LUNG_MM),
            "helper": lambda: session.help(HelperOrder(HelperKind.MARGIN, distance_mm=9.0)),
            "submit": session.submit,
            "upload": lambda: client.upload(upload),
            "leave": session.leave,
        }
        fill(small_disk)
        there = contents(small_disk)
        for attempt in attempts.values():
            with pytest.raises(NoSpace):
                attempt()
        assert httpx.get(f"{server.url}/health/live").status_code == 200
        assert session.refresh().revision == revision
        np.testing.assert_array_equal(session.draft, before)
        assert client.labels("small", case.id) == ()
        assert [each.id for each in client.cases()] == [case.id]
        assert contents(small_disk) <= there
        (small_disk / "filler").unlink()
        for name in ("edit", "prompt", "helper"):
            attempts[name]()
        (uploaded,) = client.upload(upload)
        assert uploaded.id != case.id
        drawn = session.draft.copy()
        label = session.submit()
        client.download_label(label.id, LabelmapFormat.NRRD, tmp_path / "label.seg.nrrd")
        (back,) = read_labelmap(tmp_path / "label.seg.nrrd", small_chest())
        np.testing.assert_array_equal(back.voxels, drawn)


def test_a_draft_on_a_full_disk_does_not_stay_running_for_ever(small_disk: Path, tmp_path: Path) -> None:
    with served(tmp_path) as server, server.client() as client:
        (case,) = client.cases()
        job, worker = held_draft(server, client, case.id)
        fill(small_disk)
        worker.resume()
        time.sleep(3)
        (small_disk / "filler").unlink()
        ended = until(lambda: (found := client.job(job.id)).has_ended and found)
        if ended.state == "failed":
            assert ended.problem.type == "no-space"
        assert client.wait(client.draft_case(case.id, "demo_ct").id, MOST_S).state == "succeeded"


def contents(folder: Path) -> set[str]:
    """Return the files below a folder, those of the database apart."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if _counts(path)}


def _counts(path: Path) -> bool:
    return path.is_file() and ".sqlite" not in path.name
