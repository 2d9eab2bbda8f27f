"""One training in several processes of one machine, with torch's distributed data parallel."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessContext, ProcessException, start_processes

from annotate_server.backends.training.lesson import Learned, Lesson, Rank
from annotate_server.backends.training.loop import learn
from annotate_server.backends.training.run import curve_of
from annotate_server.domain.errors import InvalidRequest, PredictionFailed
from annotate_server.domain.ports import Control
from annotate_server.domain.training import TrainingPlace

_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""The processes talk over the machine's own loopback, and find each other by a file: no port is open to a network."""
_WAIT_S = 0.5


@dataclass(frozen=True)
class _Class:
    """What every process is told: the file by which they meet, the folder, the device and the threads of each."""

    meeting: Path
    folder: Path
    device: str
    processes: int
    threads: int


def learn_in_processes(lesson: Lesson, place: TrainingPlace, control: Control) -> Learned:
    """Train in `recipe.workers` processes, each with its share of every batch; the nth on the nth card, if on cards.

    With one, it is this process. Raises what `learn` raises, and InvalidRequest where there are more processes than
    examples in a batch, or than cards.
    """
    workers = lesson.recipe.workers
    if workers > 1:
        _check(lesson, control.device)
        _together(lesson, place, control)
        # What the processes have written is complete: this only reads it.
    return learn(lesson, place, control)


def _check(lesson: Lesson, device: str) -> None:
    recipe = lesson.recipe
    if recipe.batch < recipe.workers:
        raise InvalidRequest(
            f"a batch of {recipe.batch} cannot be shared by {recipe.workers} processes",
            remedy="Use a larger batch or fewer workers in the recipe.",
        )
    if device != "cpu" and torch.cuda.device_count() < recipe.workers:
        raise InvalidRequest(
            f"the recipe asks for {recipe.workers} cards and there are {torch.cuda.device_count()}",
            remedy="Use fewer workers in the recipe.",
        )


def _together(lesson: Lesson, place: TrainingPlace, control: Control) -> None:
    """Run the processes to their end, and tell what the first of them writes into the curve."""
    workers = lesson.recipe.workers
    meeting = place.folder / "meeting"
    meeting.unlink(missing_ok=True)
    told = _Class(meeting, place.folder, control.device, workers, max(1, torch.get_num_threads() // workers))
    with _running(lesson, told) as processes:
        seen = 0
        try:
            while not processes.join(timeout=_WAIT_S):
                control.check()
                seen = _tell(place, control, seen)
        except ProcessException as error:
            last = str(error).strip().splitlines()[-1]
            raise PredictionFailed(f"one of {workers} training processes stopped: {last}") from error
        _tell(place, control, seen)
    meeting.unlink(missing_ok=True)


@contextmanager
def _running(lesson: Lesson, told: _Class) -> Iterator[ProcessContext]:
    """Start the processes; none of them is left at the end."""
    before = {name: os.environ.get(name) for name in _LOOPBACK}
    os.environ.update(_LOOPBACK)
    start = cast("Callable[..., ProcessContext | None]", start_processes)
    processes = start(_process, (lesson, told), told.processes, join=False, start_method="spawn")
    if processes is None:
        raise PredictionFailed("the training processes could not be started")
    try:
        yield processes
    finally:
        for process in processes.processes:
            if process.is_alive():
                process.kill()
            process.join()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _process(number: int, lesson: Lesson, told: _Class) -> None:
    """Be one of the processes."""
    torch.set_num_threads(told.threads)
    device = told.device if told.device == "cpu" else f"cuda:{number}"
    backend = "gloo" if device == "cpu" else "nccl"
    distributed.init_process_group(
        backend, init_method=f"file://{told.meeting}", rank=number, world_size=told.processes
    )
    try:
        learn(lesson, TrainingPlace(told.folder), Control(device), Rank(number, told.processes))
    finally:
        distributed.destroy_process_group()


def _tell(place: TrainingPlace, control: Control, seen: int) -> int:
    """Pass on the points that are new, and return how many there are."""
    points = curve_of(place.folder)
    for point in points[seen:]:
        place.on_point(point)
        control.report(0.1 + 0.9 * point.step / point.steps, f"step {point.step} of {point.steps}")
    return max(seen, len(points))
