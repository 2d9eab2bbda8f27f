"""The studies and apps on which MONAI Label's clients are tried: small, and the same to the last voxel each time."""

import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from conftest import oblique_geometry
from server_process import ServerProcess, running
from small_studies import write_chest, write_chest_series
from toy_model import BALL, phantom, write_app, write_phantoms

from annotate_server.domain.labelmap import Labelmap
from annotate_server.imaging.labelmap_files import LabelmapFormat, write_labelmap
from annotate_server.testing.phantom_files import write_nifti

TILTED = oblique_geometry((9, 14, 11))
TOYS = 5
CASES = TOYS + 3
TOY_RECIPE = "steps = 4000\nfull_steps = 4000\ncheckpoint_every = 500"
"""Longer than any test waits: it is stopped."""
CLICKED = """
title = "Organ by clicks"
purpose = "Tests."
not_for = "Patients."
backend = "growcut"
modalities = ["CT", "MR"]
licence = "Apache-2.0"
attribution = "Nobody."
drafts = false
trainable = false
prompts = ["point", "box", "scribble"]
min_slices = 1

[[segments]]
index = 2
name = "Organ"
colour = [200, 30, 30]

[[segments]]
index = 5
name = "Tumour"
colour = [30, 200, 30]

[parameters]
working_cells = 400000
"""
"""A model that clients know as `deepedit`: it takes clicks, and has segments of its own."""


@dataclass(frozen=True)
class Site:
    """A server, and its cases by the names that people know."""

    server: ServerProcess
    cases: Mapping[str, str]
    folder: Path

    @property
    def url(self) -> str:
        """Return where it listens."""
        return self.server.url

    def listed(self) -> Mapping[str, Mapping[str, object]]:
        """Return every image and its labels, as the store lists them."""
        objects: Mapping[str, Mapping[str, object]] = httpx.get(f"{self.url}/datastore/?output=all").json()["objects"]
        return objects


@contextmanager
def serving_site(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Site]:
    """Give a server over the studies; it is ended with the block."""
    studies = write_phantoms(folder / "studies", TOYS)
    write_chest(studies / "chest.nii")
    write_chest_series(studies / "series", 2)
    write_tilted(studies / "tilted.nii")
    apps = write_app(folder / "apps", TOY_RECIPE, steps=1)
    (apps / "organ_clicks").mkdir()
    (apps / "organ_clicks/app.toml").write_text(CLICKED)
    given = {"ANNOTATE_APPS": json.dumps([str(apps)]), "ANNOTATE_DEVICE": "cpu", **(settings or {})}
    with running(folder / "workspace", studies, given) as server:
        server.wait_until_ready().wait_for_cases(CASES)
        with server.client() as client:
            cases = {case.name: case.id for case in client.cases()}
        yield Site(server, cases, folder)


def write_tilted(path: Path, seed: int = 3) -> Path:
    """Write an oblique volume of 9 x 14 x 11 voxels as NIfTI."""
    voxels = np.random.default_rng(seed).integers(-1000, 1000, TILTED.shape).astype(np.int16)
    return write_nifti(path, voxels, TILTED)


def packed(path: Path) -> Path:
    """Return a copy of a file as `.gz`; the same bytes for the same content."""
    made = path.with_name(f"{path.name}.gz")
    made.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    return made


def write_toy_label(path: Path, seed: int) -> Path:
    """Write the label of a toy phantom as NIfTI, which says no names."""
    volume, inside = phantom(seed)
    write_labelmap(Labelmap(inside, volume.geometry, (BALL,)), path, LabelmapFormat.NIFTI)
    return path
