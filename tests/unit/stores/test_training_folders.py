"""The folders of trainings: how far one is, whether it goes on, and what is left of one that ended."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from annotate_server.domain.errors import NotFound
from annotate_server.domain.job import Again, Job
from annotate_server.domain.training import TrainingPoint
from annotate_server.stores.training_folders import MOST_IN_VAIN, TrainingFolders

JOB = Job("j1", "train", attempts=1)


def point(step: int) -> TrainingPoint:
    return TrainingPoint(step, 100, 1.0 / step, 1e-3, step * 0.5)


def keep_curve(folder: Path, *steps: int) -> None:
    (folder / "curve.json").write_text(json.dumps([asdict(point(step)) for step in steps]))


@pytest.fixture
def folders(tmp_path: Path) -> TrainingFolders:
    return TrainingFolders(tmp_path / "training")


def test_a_training_goes_on_for_ever_while_each_attempt_comes_further(folders: TrainingFolders) -> None:
    many = replace(JOB, attempts=1000)
    folder = folders.root / "j1"
    folders.begun(many)
    assert folders.again(many) is Again.NO
    keep_curve(folder, 10)
    assert folders.again(many) is Again.UNCOUNTED
    folders.begun(many)
    assert folders.again(many) is Again.NO
    (folder / "candidates").mkdir()
    (folder / "candidates" / "weights").write_bytes(b"1")
    assert folders.again(many) is Again.UNCOUNTED


def test_attempts_in_vain_are_counted(folders: TrainingFolders) -> None:
    folders.begun(JOB)
    assert folders.again(replace(JOB, attempts=MOST_IN_VAIN - 1)) is Again.COUNTED
    assert folders.again(replace(JOB, attempts=MOST_IN_VAIN)) is Again.NO
    assert folders.again(Job("never", "train", attempts=1)) is Again.COUNTED


def test_of_one_that_ended_the_curve_is_left(folders: TrainingFolders) -> None:
    folders.begun(JOB)
    folder = folders.root / "j1"
    keep_curve(folder, 10, 20)
    (folder / "training").mkdir()
    (folder / "training" / "checkpoint").write_bytes(b"1")
    folders.ended(JOB)
    assert [path.name for path in folder.iterdir()] == ["curve.json"]
    assert folders.curve("j1") == (point(10), point(20))
    folders.ended(Job("never", "train"))


def test_what_ended_while_nobody_cleaned_up_is_swept(folders: TrainingFolders) -> None:
    folders.sweep(())
    for name in ("j1", "j2"):
        folders.begun(Job(name, "train"))
    folders.sweep({"j2"})
    assert list((folders.root / "j1").iterdir()) == []
    assert len(list((folders.root / "j2").iterdir())) == 1


@pytest.mark.parametrize("content", ["", "[", "[1]", '[{"step": 1}]', "{}"])
def test_a_curve_that_cannot_be_read_is_empty(folders: TrainingFolders, content: str) -> None:
    folders.begun(JOB)
    (folders.root / "j1" / "curve.json").write_text(content)
    assert folders.curve("j1") == ()


@pytest.mark.parametrize("name", ["..", "a/b", "", "/etc"])
def test_what_is_no_job_has_no_folder(folders: TrainingFolders, name: str) -> None:
    with pytest.raises(NotFound):
        folders.curve(name)
