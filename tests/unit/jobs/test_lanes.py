"""Lanes: who comes first is served first, nobody waits without end, and a worker that died is made ready again."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.compute import Compute, VolumePlace
from annotate_server.domain.errors import ShuttingDown, TooBusy, WorkerDied
from annotate_server.jobs.lanes import Lane, WorkerPool
from annotate_server.jobs.worker_process import WorkerOptions, WorkerProcess


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Lane]]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    made: list[Lane] = []

    def lane(warm_up: object = None, most_waiting: int = 32) -> Lane:
        made.append(Lane(WorkerProcess(WorkerOptions("planted_workers:functions")), warm_up, most_waiting))
        return made[-1]

    yield lane
    for each in made:
        each.close()


def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        time.sleep(0.01)


def test_callers_are_served_in_the_order_in_which_they_came(make: Callable[..., Lane], tmp_path: Path) -> None:
    lane, gate, served = make(), tmp_path / "gate", []
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(lane.ask, "touch_and_sleep", gate)
        until(gate.exists)
        for number in range(5):
            pool.submit(lambda number=number: served.append(lane.ask("echo", number)))
            until(lambda number=number: lane.waiting == number + 2)
        gate.write_text("go on")
        assert first.result() == "told to go on"
    assert served == [0, 1, 2, 3, 4]
    assert lane.waiting == 0


def test_who_comes_when_too_many_wait_is_told_to_come_back(make: Callable[..., Lane], tmp_path: Path) -> None:
    lane, gate = make(most_waiting=2), tmp_path / "gate"
    with ThreadPoolExecutor(4) as pool:
        running = pool.submit(lane.ask, "touch_and_sleep", gate)
        until(gate.exists)
        waiting = [pool.submit(lane.ask, "echo", number) for number in range(2)]
        until(lambda: lane.waiting == 3)
        with pytest.raises(TooBusy) as caught:
            lane.ask("echo", 3)
        assert caught.value.retry_after_s > 0
        gate.write_text("go on")
        assert running.result() == "told to go on"
        assert sorted(str(each.result()) for each in waiting) == ["0", "1"]
    assert lane.ask("echo", 4) == 4


def test_a_lane_is_ready_once_its_worker_is_warm(make: Callable[..., Lane], tmp_path: Path) -> None:
    warmth = tmp_path / "warmth"
    lane = make(warm_up=warmth)
    assert not lane.is_ready
    lane.start()
    assert lane.ask("warmth", warmth) == str(lane.worker.process_id)
    until(lambda: lane.is_ready)


def test_a_worker_that_died_is_warmed_again_before_the_next_in_line(make: Callable[..., Lane], tmp_path: Path) -> None:
    warmth = tmp_path / "warmth"
    lane = make(warm_up=warmth)
    lane.start()
    with pytest.raises(WorkerDied, match="It is replaced: ask again"):
        lane.ask("die", None)
    assert lane.ask("warmth", warmth) == str(lane.worker.process_id)
    until(lambda: lane.is_ready)


def test_others_in_line_get_their_answer_when_a_worker_dies(make: Callable[..., Lane], tmp_path: Path) -> None:
    lane, gate = make(), tmp_path / "gate"
    with ThreadPoolExecutor(4) as pool:
        running = pool.submit(lane.ask, "touch_and_sleep", gate)
        until(gate.exists)
        waiting = pool.submit(lane.ask, "echo", "alive")
        until(lambda: lane.waiting == 2)
        assert lane.worker.process_id is not None
        os.kill(lane.worker.process_id, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            running.result()
        assert waiting.result() == "alive"


def test_a_closed_lane_lets_the_running_call_end_and_sends_the_others_away(
    make: Callable[..., Lane], tmp_path: Path
) -> None:
    lane, gate = make(), tmp_path / "gate"
    with ThreadPoolExecutor(4) as pool:
        running = pool.submit(lane.ask, "touch_and_sleep", gate)
        until(gate.exists)
        waiting = pool.submit(lane.ask, "echo", 1)
        until(lambda: lane.waiting == 2)
        closing = threading.Thread(target=lane.close, args=(60.0,))
        closing.start()
        with pytest.raises(ShuttingDown):
            waiting.result()
        with pytest.raises(ShuttingDown):
            lane.ask("echo", 2)
        gate.write_text("go on")
        assert running.result() == "told to go on"
        closing.join()
    assert not lane.worker.is_alive


def test_closing_does_not_wait_for_a_call_longer_than_it_was_told(make: Callable[..., Lane], tmp_path: Path) -> None:
    lane, gate = make(), tmp_path / "gate"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lane.ask, "touch_and_sleep", gate)
        until(gate.exists)
        lane.close(0.1)
        with pytest.raises(ShuttingDown):
            running.result()
    assert not lane.worker.is_alive


def test_the_pool_asks_the_worker_for_what_compute_names() -> None:
    asked: list[tuple[str, object]] = []

    class Recording(Lane):
        def ask(self, function: str, argument: object, control: object = None) -> object:
            asked.append((function, argument))
            return "answer"

    pool: Compute = WorkerPool(Recording(WorkerProcess(WorkerOptions("planted_workers:functions"))))
    place = VolumePlace(StoredVolume("a", Format.NIFTI, (), PatientKey("", "")))
    assert pool.facts(place) == "answer"  # type: ignore[comparison-overlap]  the recording answers anything
    pool.prompt("prompt order")  # type: ignore[arg-type]  the recording takes anything
    pool.help("help order")  # type: ignore[arg-type]
    assert asked == [("facts", place), ("prompt", "prompt order"), ("help", "help order")]
