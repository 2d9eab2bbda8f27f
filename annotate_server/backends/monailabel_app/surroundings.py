"""What surrounds an app of MONAI Label while it works; runs over there."""

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from annotate_server.domain.errors import AnnotateError, PredictionFailed

Report = Callable[[float, str], None]
SETTINGS = {
    "MONAI_LABEL_DATASTORE_AUTO_RELOAD": "false",
    "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    "MONAI_LABEL_INFER_CONCURRENCY": "-1",
    "MONAI_LABEL_SESSIONS": "false",
    "MONAI_LABEL_TASKS_BATCH_INFER": "false",
    "MONAI_LABEL_TASKS_SCORING": "false",
    "MONAI_LABEL_TASKS_STRATEGY": "false",
    "MONAI_LABEL_TRACKING_ENABLED": "false",
}
"""What of MONAI Label's server is left out: nothing here watches folders, keeps sessions or starts threads."""
_STAGES = (
    ("run_pre_transforms", 0.05, "Preparing the volume"),
    ("run_inferer", 0.15, "The app's network computes"),
    ("run_detector", 0.15, "The app's network computes"),
    ("run_invert_transforms", 0.8, "Bringing the labels back to the volume"),
    ("run_post_transforms", 0.85, "Finishing the labels"),
    ("writer", 0.95, "Writing the labels"),
)
_MOST_LETTERS = 300


class Watch:
    """Tells how far a task is, and lets it stop: at the beginning of each stage, and at each layer of a network."""

    def __init__(self, report: Report) -> None:
        """Report to `report`, which raises Cancelled when nobody waits any longer."""
        self._report = report
        self._reached = (0.0, "Reading the volume")

    def reach(self, fraction: float, sentence: str) -> None:
        """Report a stage."""
        self._reached = (max(fraction, self._reached[0]), sentence)
        self._report(*self._reached)

    @contextmanager
    def over(self, task: object) -> Iterator[None]:
        """Watch a task: the names of its stages are those of MONAI Label's `BasicInferTask`."""
        watched = [(name, fraction, text) for name, fraction, text in _STAGES if callable(getattr(task, name, None))]
        for name, fraction, sentence in watched:
            setattr(task, name, self._reporting(getattr(task, name), fraction, sentence))
        layers = torch.nn.modules.module.register_module_forward_pre_hook(lambda *_: self._report(*self._reached))
        try:
            yield
        finally:
            layers.remove()
            for name, _, _ in watched:
                delattr(task, name)

    def _reporting(self, stage: Callable[..., object], fraction: float, sentence: str) -> Callable[..., object]:
        def reported(*arguments: object, **named: object) -> object:
            self.reach(fraction, sentence)
            return stage(*arguments, **named)

        return reported


@contextmanager
def files_in(folder: Path) -> Iterator[None]:
    """Let temporary files be made in `folder`, which the other side removes whatever happens here."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def foreign(what: str) -> Iterator[None]:
    """Turn whatever the app's code raises into a sentence."""
    try:
        yield
    except AnnotateError:
        raise
    except (Exception, SystemExit) as error:  # code of somebody else: it may raise anything, and end itself
        raise PredictionFailed(
            f"{what} failed: {said(error)}", remedy="Its authors can say more; ours is only the host."
        ) from error


def said(error: BaseException) -> str:
    """Return the class of an error and the first line of what it says."""
    text = str(getattr(error, "msg", "") or error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}"[:_MOST_LETTERS] if text else type(error).__name__


def settle(seed: int) -> None:
    """Begin every random number anew, so that the same question has the same answer."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def configure(folder: Path) -> None:
    """Let MONAI Label read no configuration but ours: it takes `.env` of the working folder, and variables."""
    for name in [name for name in os.environ if name.startswith("MONAI_LABEL_")]:
        del os.environ[name]
    os.environ.update(SETTINGS)
    os.chdir(folder)
