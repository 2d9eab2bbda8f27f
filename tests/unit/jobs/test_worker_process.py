"""A worker process: what it answers, and that the server goes on whatever becomes of it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.compute import DraftPlace, HelpOrder, PromptOrder, VolumePlace
from annotate_server.domain.errors import Cancelled, InvalidApp, InvalidPrompt, PredictionFailed, WorkerDied
from annotate_server.domain.helper import Combination, HelperKind, HelperOrder
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.ports import Control
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Modality
from annotate_server.jobs.worker_process import WorkerOptions, WorkerProcess

OPTIONS = WorkerOptions("planted_workers:functions", '{"a": 1}')


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[WorkerOptions], WorkerProcess]]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    made: list[WorkerProcess] = []

    def start(options: WorkerOptions) -> WorkerProcess:
        made.append(WorkerProcess(options))
        return made[-1]

    yield start
    for worker in made:
        worker.end()


@pytest.fixture(scope="module")
def shared() -> Iterator[WorkerProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        worker = WorkerProcess(OPTIONS)
        worker.start()
        yield worker
        worker.end()


def ask(worker: WorkerProcess, function: str, argument: object = None, control: Control | None = None) -> object:
    return worker.ask(function, argument, control or Control())


def test_orders_cross_unchanged(shared: WorkerProcess) -> None:
    segment = Segment(2, "Spleen", (1, 2, 3))
    stored = StoredVolume("a/b", Format.NIFTI, (Path("x.nii"),), PatientKey("i", "p"))
    place = VolumePlace(stored, Modality.MR, "0" * 64)
    draft = DraftPlace(Path("d.raw"), "uint8", (segment,), frozenset({1, 2}))
    prompt = Prompt(PromptKind.LASSO, ((0.1, -2.5, 3.0), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), 2, positive=False)
    order = HelperOrder(HelperKind.COMBINE, combination=Combination.COPY, other=3)
    for value in (
        PromptOrder("any_structure", place, draft, segment, (prompt,)),
        HelpOrder(place, draft, segment, order),
        frozenset(),
        "settings",
    ):
        assert ask(shared, "echo", value) == value
    assert ask(shared, "settings") == '{"a": 1}'


def test_arrays_cross_both_ways(shared: WorkerProcess) -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5).transpose(2, 0, 1)
    np.testing.assert_array_equal(ask(shared, "double", array), array * 2)
    large = ask(shared, "large", 120)
    assert isinstance(large, np.ndarray)
    assert large.shape == (120, 120, 120)
    assert large[1, 2, 3] == 120 * 120 + 2 * 120 + 3
    assert not large.flags.writeable


def test_one_thread_computes_every_call(shared: WorkerProcess) -> None:
    assert len({ask(shared, "thread") for _ in range(5)}) == 1


def test_progress_arrives_in_order_and_not_for_every_step(shared: WorkerProcess) -> None:
    heard: list[tuple[float, str]] = []
    control = Control(report=lambda fraction, message: heard.append((fraction, message)))
    assert ask(shared, "count", 100, control) == 100
    assert heard == sorted(heard)
    assert 2 <= len(heard) < 50
    assert heard[0] == (0.0, "Step 0")


def test_progress_from_several_threads_keeps_the_protocol(shared: WorkerProcess) -> None:
    assert ask(shared, "threads_report") == "done"
    assert ask(shared, "echo", 1) == 1


def test_a_cancelled_call_stops_and_the_process_stays(shared: WorkerProcess) -> None:
    before = ask(shared, "process")
    with pytest.raises(Cancelled):
        ask(shared, "sleep", 600, Control(is_cancelled=lambda: True))
    assert ask(shared, "process") == before


def test_a_cancel_that_comes_too_late_does_not_touch_the_next_call(shared: WorkerProcess) -> None:
    assert ask(shared, "count", 3, Control(is_cancelled=lambda: False)) == 3
    for _ in range(20):
        wanted = iter([False])
        with suppress(Cancelled):
            ask(shared, "count", 2, Control(is_cancelled=lambda wanted=wanted: not next(wanted, True)))
        assert ask(shared, "count", 1) == 1


def test_a_domain_error_arrives_as_itself(shared: WorkerProcess) -> None:
    with pytest.raises(InvalidPrompt) as caught:
        ask(shared, "refuse", "Spleen")
    assert str(caught.value) == "Spleen: it lies elsewhere. Draw it again."


def test_an_unforeseen_exception_is_named_without_its_message(
    make: Callable[[WorkerOptions], WorkerProcess], capfd: pytest.CaptureFixture[str]
) -> None:
    worker = make(OPTIONS)
    with pytest.raises(PredictionFailed, match=r"it stopped with RuntimeError in planted_workers\.py:\d+"):
        ask(worker, "stumble", "Doe^John")
    assert ask(worker, "echo", 1) == 1
    written = capfd.readouterr().err
    assert "_stumble" in written
    assert "KeyError" in written
    assert "Doe" not in written


@pytest.mark.parametrize(
    ("function", "kind"), [("starve", "more memory"), ("missing", "KeyError"), ("bytes", "TypeError")]
)
def test_whatever_goes_wrong_in_a_call_the_next_is_answered(shared: WorkerProcess, function: str, kind: str) -> None:
    with pytest.raises(PredictionFailed, match=kind):
        ask(shared, function)
    assert ask(shared, "echo", "next") == "next"


@pytest.mark.parametrize(("function", "how"), [("die", "SIGKILL"), ("exit", "exit code 7"), ("crash", "SIGSEGV")])
def test_a_worker_that_dies_is_named_and_replaced(
    make: Callable[[WorkerOptions], WorkerProcess], function: str, how: str
) -> None:
    worker = make(OPTIONS)
    with pytest.raises(WorkerDied, match=how):
        ask(worker, function)
    assert ask(worker, "echo", "again") == "again"
    assert worker.deaths == 1


def test_a_worker_that_died_while_nobody_asked_is_replaced_unnoticed(
    make: Callable[[WorkerOptions], WorkerProcess],
) -> None:
    worker = make(OPTIONS)
    worker.start()
    assert worker.process_id is not None
    os.kill(worker.process_id, signal.SIGKILL)
    while worker.is_alive:
        time.sleep(0.01)
    assert ask(worker, "echo", 1) == 1
    assert worker.deaths == 1


def test_a_call_that_does_not_stop_ends_its_process(make: Callable[[WorkerOptions], WorkerProcess]) -> None:
    worker = make(replace(OPTIONS, stop_s=0.2))
    with pytest.raises(Cancelled):
        ask(worker, "stubborn", 600, Control(is_cancelled=lambda: True))
    assert ask(worker, "echo", 1) == 1


def test_a_call_that_takes_too_long_ends_its_process(make: Callable[[WorkerOptions], WorkerProcess]) -> None:
    worker = make(replace(OPTIONS, longest_s=0.2))
    with pytest.raises(WorkerDied, match="did not end within"):
        ask(worker, "stubborn", 600)
    assert ask(worker, "echo", 1) == 1


def test_a_killed_worker_is_told_to_who_asks(make: Callable[[WorkerOptions], WorkerProcess]) -> None:
    worker = make(OPTIONS)
    worker.start()
    threading.Timer(0.2, worker.kill).start()
    with pytest.raises(WorkerDied, match="SIGKILL"):
        ask(worker, "stubborn", 600)


def test_the_nice_level_is_taken(make: Callable[[WorkerOptions], WorkerProcess]) -> None:
    pid, nice = ask(make(replace(OPTIONS, nice=7)), "process")  # type: ignore[misc]  a tuple of two
    assert nice == os.nice(0) + 7
    assert pid != os.getpid()


def test_a_worker_ignores_interrupts_that_are_meant_for_the_server(shared: WorkerProcess) -> None:
    assert shared.process_id is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(shared.process_id, number)
    assert ask(shared, "echo", 1) == 1
    assert shared.deaths == 0


def test_a_factory_that_refuses_says_why(make: Callable[[WorkerOptions], WorkerProcess]) -> None:
    with pytest.raises(InvalidApp, match="its settings are wrong"):
        make(WorkerOptions("planted_workers:broken")).start()


def test_a_factory_that_fails_shows_nothing_of_what_it_saw(
    make: Callable[[WorkerOptions], WorkerProcess], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WorkerDied, match="cannot be set up"):
        make(WorkerOptions("planted_workers:exploding", "Doe^John")).start()
    written = capfd.readouterr().err
    assert "exploding" in written
    assert "Doe" not in written


def test_a_worker_dies_with_the_server_even_in_the_midst_of_work(tmp_path: Path) -> None:
    began = tmp_path / "began"
    server = (
        "import sys; from annotate_server.domain.ports import Control;"
        "from annotate_server.jobs.worker_process import WorkerOptions, WorkerProcess;"
        "worker = WorkerProcess(WorkerOptions('planted_workers:functions')); worker.start();"
        "print(worker.process_id, flush=True); worker.ask('touch_and_sleep', sys.argv[1], Control())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", server, str(began)], env=environment, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        while not began.exists():
            time.sleep(0.01)
        process.kill()
    while Path(f"/proc/{worker}").exists() and "\nState:\tZ" not in Path(f"/proc/{worker}/status").read_text():
        time.sleep(0.01)
