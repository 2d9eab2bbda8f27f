"""Thousands of small studies: files for any server, and a workspace of ours that knows them already.

A server reads every new file once, to know its voxels again under another name: some 12 ms each. The workspace is
filled by the stores' own classes instead; the server that starts on it looks the folder through and finds it as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotate_server.domain.case import Case, Format, PatientKey, StoredVolume, case_id
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.stored import VolumeFacts
from annotate_server.imaging.nifti import read_nifti
from annotate_server.stores.database import FILE_NAME, open_database
from annotate_server.stores.identities import IdentityFile
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.testing.phantom_files import write_nifti
from annotate_server.workflows.answer import facts_of
from annotate_server.workflows.fingerprint import fingerprint_of

GRID = Geometry((12, 32, 32), (5.0, 2.0, 2.0), np.eye(3)[::-1].tolist(), (0.0, 0.0, 0.0))


def write_studies(folder: Path, count: int) -> tuple[Path, ...]:
    """Write small volumes of noise, no two of which are alike."""
    voxels = np.random.default_rng(0).integers(-100, 200, GRID.shape).astype(np.int16)
    return tuple(_study(folder, voxels, number) for number in range(count))


def _study(folder: Path, voxels: np.ndarray, number: int) -> Path:
    voxels[0, 0, 0] = number
    return write_nifti(folder / f"study-{number:05d}.nii", voxels, GRID)


def label_of(number: int, folder: Path) -> bytes:
    """Return a label for one of the studies as a NIfTI file; those of different numbers differ."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:9, 4 : 6 + number % 20, 5:25] = 1
    labels[number % GRID.shape[0], 0, number // GRID.shape[0] % GRID.shape[2]] = 1
    path = write_nifti(folder / "label.nii", labels, GRID)
    return path.read_bytes()


@dataclass(frozen=True)
class _Found:
    case: Case
    facts: VolumeFacts
    fingerprint: str


def fill_workspace(workspace: Path, studies: tuple[Path, ...]) -> None:
    """Make a workspace that knows the studies, as its own scan would have left it."""
    found = list(_found(studies))
    workspace.mkdir(parents=True)
    identities = IdentityFile(workspace / "identities.sqlite")
    for each in found:
        identities.remember(each.fingerprint, each.facts.digest)
    identities.close()
    database = open_database(workspace / FILE_NAME)
    cases = SqliteCases(database)
    cases.put([each.case for each in found])
    cases.learn_all({each.case.id: each.facts for each in found})
    database.close()


def _found(studies: tuple[Path, ...]) -> Iterator[_Found]:
    for path in studies:
        stored = StoredVolume(path.name, Format.NIFTI, (path,), PatientKey("", path.name, known=False))
        volume = read_nifti(stored)
        identity = case_id(stored, volume.digest)
        yield _Found(Case(identity, stored.patient, {"volume": stored}), facts_of(volume), fingerprint_of(stored))
