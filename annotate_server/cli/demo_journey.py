"""The journey of the demonstration over HTTP: what `annotate demo --check` holds the installation to."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from annotate_server.client import AnnotateClient
from annotate_server.domain.errors import PredictionFailed, TryLater
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Segment
from annotate_server.imaging.labelmap_files import LabelmapFormat, read_labelmap

START_S = 60.0
_MARK = Segment(250, "Demonstration", (250, 120, 20))


@contextmanager
def served(studies: Path, workspace: Path) -> Iterator[AnnotateClient]:
    """Give a client of a server on a free port, in a process of its own, which is asked to end with the block.

    Raises PredictionFailed where it does not start, or does not end with exit code 0.
    """
    command = [sys.executable, "-m", "annotate_server.cli.main", "serve", "--port", "0", "--json"]
    with subprocess.Popen(  # noqa: S603  our own interpreter and module
        [*command, "--studies", str(studies), "--workspace", str(workspace)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line:
                raise PredictionFailed(f"the server did not start (exit code {process.wait()})")
            with AnnotateClient(json.loads(line)["url"]) as client:
                yield client
        finally:
            process.terminate()
            code = process.wait()
        if code != 0:
            raise PredictionFailed(f"the server ended with the exit code {code}")


def check_journey(client: AnnotateClient, model: str) -> tuple[str, ...]:
    """Draft a CT by `model`, prompt, edit, undo, submit and download it; return a line for each step.

    Raises PredictionFailed where something is not as it should be, and whatever the server answers.
    """
    case = _first_ct(client)
    session = client.open(model, case)
    job = session.draft_by(model)
    _hold((session.draft != 0).any(), "the draft is empty")
    done = [f"{case}: drafted by {model} as job {job.id[:8]}, {len(session.segments)} segments"]
    session.add_segment(_MARK)
    drafted = session.draft.copy()
    free = np.argwhere(drafted == 0)
    geometry = client.case(case).geometry
    if geometry is None:
        raise PredictionFailed("the server does not say where the case lies")
    point = geometry.world([free[len(free) // 2]])[0]
    frame = session.point("any_structure", point, segment=_MARK.index)
    _hold((session.draft == _MARK.index).any(), "a prompt changed nothing")
    done.append(f"prompt: {int((session.draft == _MARK.index).sum())} voxels, box {frame.box.shape}")
    box = Box((0, 0, 0), (2, 3, 4))
    session.edit(box, np.full(box.shape, _MARK.index, session.draft.dtype))
    _hold((session.draft[box.slices] == _MARK.index).all(), "an edit did not come through")
    edited = session.draft.copy()
    session.undo()
    session.undo()
    _hold(np.array_equal(session.draft, drafted), "undo did not bring the draft back")
    session.redo()
    session.redo()
    _hold(np.array_equal(session.draft, edited), "redo did not bring the edit back")
    done.append("edit, undo and redo: exact")
    label = session.submit()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "label.nii.gz"
        client.download_label(label.id, LabelmapFormat.NIFTI, path)
        (back,) = read_labelmap(path, geometry)
        _hold(np.array_equal(back.voxels, edited), "the label that was downloaded is not what was submitted")
    done.append(f"submitted as label {label.id[:8]} and downloaded: the same voxels")
    return tuple(done)


def _first_ct(client: AnnotateClient) -> str:
    """Return a CT that the server has found in the studies, once it has."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        try:
            found = [case for case in client.cases() if case.modality == "CT"]
        except TryLater:
            found = []
        if found:
            return found[0].id
        time.sleep(0.1)
    raise PredictionFailed("the server found no CT among the sample volumes")


def _hold(is_right: object, otherwise: str) -> None:
    if not is_right:
        raise PredictionFailed(otherwise, remedy="The installation is not sound; see `annotate doctor`.")
