"""A real worker: a volume from a file, a prompt, a helper and a draft, by orders and files alone."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry
from numpy.typing import NDArray

from annotate_server.bootstrap.ports import WORKER_FACTORY
from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.compute import Drafted, DraftOrder, DraftPlace, HelpOrder, PromptOrder, VolumePlace
from annotate_server.domain.errors import UnreadableFile
from annotate_server.domain.helper import HelperKind, HelperOrder
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import Prediction
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.stored import VolumeFacts
from annotate_server.domain.volume import Modality
from annotate_server.jobs.lanes import Lane, WorkerPool
from annotate_server.jobs.worker_process import WorkerOptions, WorkerProcess
from annotate_server.settings import Settings
from annotate_server.stores.blobs import BlobFolder
from annotate_server.testing.phantom_files import write_nifti
from annotate_server.workflows.layers import read_layer

LIVER, BALL = Segment(1, "Liver", (200, 0, 0)), Segment(2, "Ball", (0, 200, 0))
SHAPE = (12, 56, 40)
CENTRE = (6, 28, 18)


def balls() -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return a bright ball in noise, and where it is."""
    geometry = oblique_geometry(SHAPE)
    where = np.moveaxis(np.indices(SHAPE), 0, -1).reshape(-1, 3)
    far = np.linalg.norm(geometry.world(where) - geometry.world([CENTRE]), axis=1).reshape(SHAPE)
    noise = np.random.default_rng(4).normal(0, 10, SHAPE)
    return (noise + np.where(far < 9, 150, 20)).astype(np.int16), far < 9


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WorkerPool, Path]]:
    workspace = tmp_path_factory.mktemp("workspace")
    settings = Settings(workspace=workspace, device="cpu", threads=1)
    lane = Lane(WorkerProcess(WorkerOptions(WORKER_FACTORY, settings.model_dump_json())), warm_up=("any_structure",))
    lane.start()
    yield WorkerPool(lane), workspace
    lane.close()


@pytest.fixture(scope="module")
def place(pool: tuple[WorkerPool, Path]) -> tuple[VolumePlace, VolumeFacts]:
    path = write_nifti(pool[1] / "ball.nii.gz", balls()[0], oblique_geometry(SHAPE))
    unread = VolumePlace(StoredVolume("ball.nii.gz", Format.NIFTI, (path,), PatientKey("", "P")), Modality.MR)
    facts = pool[0].facts(unread)
    return replace(unread, digest=facts.digest), facts


def a_draft(workspace: Path, voxels: NDArray[np.uint8]) -> DraftPlace:
    path = workspace / "session.raw"
    path.write_bytes(voxels.tobytes())
    return DraftPlace(path, "uint8", (LIVER, BALL))


def applied(voxels: NDArray[np.uint8], prediction: Prediction) -> NDArray[np.uint8]:
    after = voxels.copy()
    inside = after[prediction.box.slices]
    inside[inside == BALL.index] = 0
    inside[prediction.labels == BALL.index] = BALL.index
    return after


def a_point(facts: VolumeFacts, at: tuple[int, int, int], *, positive: bool = True) -> Prompt:
    x, y, z = facts.geometry.world([at])[0].tolist()
    return Prompt(PromptKind.POINT, ((x, y, z),), BALL.index, positive=positive)


def test_a_prompt_is_answered_across_the_process_border(
    pool: tuple[WorkerPool, Path], place: tuple[VolumePlace, VolumeFacts]
) -> None:
    (compute, workspace), (volume, facts) = pool, place
    assert facts.geometry.matches(oblique_geometry(SHAPE))
    draft = np.zeros(SHAPE, np.uint8)
    draft[:4] = LIVER.index
    order = PromptOrder("any_structure", volume, a_draft(workspace, draft), BALL, (a_point(facts, CENTRE),))
    answered = compute.prompt(order)
    assert answered.model_version.startswith("any_structure@")
    after = applied(draft, answered.prediction)
    ball = balls()[1] & (draft == 0)
    overlap = 2 * np.count_nonzero(ball & (after == BALL.index)) / (ball.sum() + (after == BALL.index).sum())
    assert overlap > 0.9
    assert (after[:4] == LIVER.index).all()
    assert answered.prediction.box.start[0] >= 4
    prompts = (*order.prompts, a_point(facts, (5, 28, 18), positive=False))
    corrected = compute.prompt(replace(order, draft=a_draft(workspace, after), prompts=prompts)).prediction
    assert applied(after, corrected)[5, 28, 18] == 0


def test_a_helper_is_carried_out_across_the_process_border(
    pool: tuple[WorkerPool, Path], place: tuple[VolumePlace, VolumeFacts]
) -> None:
    (compute, workspace), (volume, _) = pool, place
    threshold = HelperOrder(HelperKind.THRESHOLD, low=85.0, high=300.0)
    draft = np.zeros(SHAPE, np.uint8)
    answered = compute.help(HelpOrder(volume, a_draft(workspace, draft), BALL, threshold))
    assert np.array_equal(applied(draft, answered.prediction) == BALL.index, balls()[0] >= 85)


def test_a_draft_comes_as_the_name_of_a_blob(
    pool: tuple[WorkerPool, Path], place: tuple[VolumePlace, VolumeFacts]
) -> None:
    (compute, workspace), (volume, facts) = pool, place
    drafted = compute.prompts.ask("draft", DraftOrder("demo_mr", volume))
    assert isinstance(drafted, Drafted)
    assert drafted.facts == facts
    labelmap = read_layer(BlobFolder(workspace / "blobs"), drafted.layer)
    assert labelmap.geometry.matches(facts.geometry)


def test_a_case_is_worked_on_though_its_file_and_its_worker_are_gone(
    pool: tuple[WorkerPool, Path], place: tuple[VolumePlace, VolumeFacts]
) -> None:
    (compute, workspace), (volume, facts) = pool, place
    gone = replace(volume, stored=replace(volume.stored, files=(workspace / "gone.nii.gz",)))
    lane = compute.prompts
    assert lane.worker.process_id is not None
    os.kill(lane.worker.process_id, signal.SIGKILL)
    while lane.worker.is_alive:
        time.sleep(0.01)
    draft = a_draft(workspace, np.zeros(SHAPE, np.uint8))
    answered = compute.prompt(PromptOrder("any_structure", gone, draft, BALL, (a_point(facts, CENTRE),)))
    assert not answered.prediction.box.is_empty
    with pytest.raises(UnreadableFile):
        compute.facts(replace(gone, digest=None))
