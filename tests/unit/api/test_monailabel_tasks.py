"""Jobs, trainings, verdicts and logs in the words of MONAI Label's clients."""

from datetime import UTC, datetime, timedelta

import pytest

from annotate_server.api.monailabel.words import log_line, modality_of, one_order, pair_words, task_words, train_words
from annotate_server.domain.errors import InvalidRequest, Problem
from annotate_server.domain.job import Job, JobKind, JobState, Priority
from annotate_server.domain.training import TrainingPoint
from annotate_server.domain.volume import Modality

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POINTS = (TrainingPoint(10, 40, 0.5, 0.1, 2.0), TrainingPoint(20, 40, 0.4, 0.1, 65.0))


def draft(number: int, after_s: float = 0.0, model: str = "m", state: JobState = JobState.SUCCEEDED) -> Job:
    order = {"model": model, "case": f"case{number}"}
    at = AT + timedelta(seconds=after_s)
    return Job(f"j{number}", JobKind.DRAFT, order, Priority.BATCH, "anne", state, made_at=at, ended_at=at)


def test_a_task_is_what_was_ordered_together() -> None:
    newest_first = [draft(4, 200), draft(3, 199.5), draft(2, 0.5), draft(1)]
    assert [job.id for job in one_order(newest_first)] == ["j4", "j3"]
    assert [job.id for job in one_order([draft(2, 1, "other"), draft(1)])] == ["j2"]
    assert one_order([]) == []


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ((JobState.SUCCEEDED, JobState.RUNNING), "RUNNING"),
        ((JobState.SUCCEEDED, JobState.FAILED), "ERROR"),
        ((JobState.SUCCEEDED, JobState.CANCELLED), "STOPPED"),
        ((JobState.SUCCEEDED,), "DONE"),
        ((JobState.QUEUED,), "RUNNING"),
    ],
)
def test_a_task_stands_as_its_jobs_do(states: tuple[JobState, ...], status: str) -> None:
    words = task_words([draft(number, state=state) for number, state in enumerate(states)])
    assert words["status"] == status
    assert words["start_ts"] == "2026-01-02 03:04:05"
    assert ("end_ts" in words) is (status != "RUNNING")


def test_a_training_that_runs_has_no_total_time_and_one_that_ended_has() -> None:
    running = Job("t", JobKind.TRAIN, {"model": "own"}, state=JobState.RUNNING, made_at=AT, begun_at=AT)
    told = train_words(running, POINTS, 0.8)
    assert (told["epoch"], told["total_epochs"], told["best_metric"]) == (20, 40, 0.8)
    assert told["current_time"] == "0:01:05"
    assert "total_time" not in told
    ended = Job(
        "t", JobKind.TRAIN, {}, state=JobState.CANCELLED, begun_at=AT, ended_at=AT + timedelta(seconds=90), made_at=AT
    )
    assert train_words(ended, POINTS, 0.0)["total_time"] == "0:01:30"
    assert train_words(running, (), 0.0)["total_epochs"] == 1, "Slicer divides by it"
    assert train_words(None, (), 0.0) == {}
    assert train_words(None, (), 0.9) == {"best_metric": 0.9}


def test_the_log_says_what_failed_and_never_in_which_file() -> None:
    problem = Problem("unreadable-file", "The file cannot be read", "/data/Doe^Jane.nii: it ends early")
    failed = Job(
        "j",
        JobKind.DRAFT,
        {"model": "m", "case": "c1"},
        person="anne",
        state=JobState.FAILED,
        problem=problem,
        made_at=AT,
    )
    line = log_line(failed)
    assert line == "2026-01-02 03:04:05 draft failed model=m case=c1 by anne The file cannot be read"


def test_of_an_image_only_the_modality_is_kept() -> None:
    assert modality_of({"modality": "mr"}) is Modality.MR
    for wrong in ({}, {"modality": "WSI"}, {"modality": "CT", "patient": "x"}, {"note": "x"}):
        with pytest.raises(InvalidRequest, match="only `modality`"):
            modality_of(wrong)


def test_pairs_are_addresses_and_no_paths() -> None:
    assert pair_words("c1") == {
        "image": "/datastore/image?image=c1",
        "label": "/datastore/label?label=c1&tag=final",
    }
