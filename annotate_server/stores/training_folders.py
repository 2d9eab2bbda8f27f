"""Where trainings write: one folder a job, from which the same training goes on after whatever ended it."""

import json
import shutil
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from annotate_server.domain.errors import NotFound
from annotate_server.domain.job import Again, Job
from annotate_server.domain.training import TrainingPoint
from annotate_server.imaging.whole_file import make_folder, refused_by_disk, whole_file

CURVE = "curve.json"
_ATTEMPT = "attempt.json"
MOST_IN_VAIN = 10
"""Attempts in a row that came no further than the one before, after which a training is given up."""


@dataclass(frozen=True)
class TrainingFolders:
    """The folders of trainings below one; who ends one keeps its curve and gives back the rest."""

    root: Path

    def begun(self, job: Job) -> None:
        """Note how far a training is as an attempt begins."""
        folder = self._folder(job.id)
        with refused_by_disk(folder):
            make_folder(folder)
            reached = json.dumps(self._reached(job.id))
            with whole_file(folder / _ATTEMPT) as temporary:
                temporary.write_text(reached)

    def again(self, job: Job) -> Again:
        """Say whether a training goes on after its process died: as long as each attempt comes further, for ever."""
        try:
            files, step = json.loads((self._folder(job.id) / _ATTEMPT).read_bytes())
        except (OSError, ValueError):
            files, step = 0, 0
        now_files, now_step = self._reached(job.id)
        if now_files > files or now_step > step:
            return Again.UNCOUNTED
        return Again.COUNTED if job.attempts < MOST_IN_VAIN else Again.NO

    def ended(self, job: Job) -> None:
        """Give back what an ended training kept, except its curve."""
        folder = self._folder(job.id)
        if not folder.is_dir():
            return
        with refused_by_disk(folder):
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != CURVE:
                    path.unlink()

    def sweep(self, unended: Container[str]) -> None:
        """Give back what trainings kept that ended while nobody could clean up."""
        if self.root.is_dir():
            for folder in self.root.iterdir():
                if folder.is_dir() and folder.name not in unended:
                    self.ended(Job(folder.name, "train"))

    def curve(self, job_id: str) -> tuple[TrainingPoint, ...]:
        """Return the curve of a training so far; empty where there is none, NotFound for what cannot be a job."""
        try:
            rows = json.loads((self._folder(job_id) / CURVE).read_bytes())
            return tuple(TrainingPoint(**row) for row in rows)
        except (OSError, ValueError, TypeError):
            return ()

    def _folder(self, job_id: str) -> Path:
        if not job_id.isalnum():
            raise NotFound(f"there is no job {job_id}")
        return self.root / job_id

    def _reached(self, job_id: str) -> tuple[int, int]:
        """Return how far a training is: how many files it has, and the last step of its curve."""
        curve = self.curve(job_id)
        files = sum(path.is_file() and path.name not in (_ATTEMPT, CURVE) for path in self._folder(job_id).rglob("*"))
        return files, curve[-1].step if curve else 0
