"""The volumes of the tests, written by the server's own code: small chests, and an oblique MR of three sides."""

import json
from pathlib import Path

import numpy as np
from annotate_server.domain.labelmap import Segment
from annotate_server.imaging.segment_json import segment_as_json
from annotate_server.testing.phantom_files import write_nifti
from conftest import oblique_geometry
from small_studies import SEGMENTS, write_chest

OBLIQUE_SHAPE = (26, 44, 36)


def write(folder: Path) -> None:
    """Write the studies and what a project of them is."""
    for number in range(3):
        write_chest(folder / "studies" / f"chest{number}.nii", seed=number)
    for number in range(3):
        write_nifti(folder / "studies" / f"oblique{number}.nii", _blobs(number), oblique_geometry(OBLIQUE_SHAPE))
    coded = Segment(1, "Liver", (221, 130, 101), kind=None)
    segments = [dict(segment_as_json(segment)) for segment in (coded, *SEGMENTS[1:])]
    segments[0]["kind"] = ["10200004", "SCT", "Liver"]
    project = {"id": "desktop", "title": "Desktop", "segments": segments, "apps": ["any_structure", "demo_ct"]}
    told = {"cases": 6, "project": project}
    (folder / "samples.json").write_text(json.dumps(told))


def _blobs(seed: int) -> np.ndarray:
    """Return bright ellipsoids on a dark ground: what a click means is plain."""
    generator = np.random.default_rng(seed)
    k, j, i = np.indices(OBLIQUE_SHAPE)
    voxels = generator.normal(60, 4, OBLIQUE_SHAPE)
    voxels[((k - 12) / 6) ** 2 + ((j - 18) / 9) ** 2 + ((i - 14) / 7) ** 2 < 1] = 260
    voxels[((k - 16) / 5) ** 2 + ((j - 34) / 6) ** 2 + ((i - 26) / 6) ** 2 < 1] = 420
    return (voxels + generator.normal(0, 3, OBLIQUE_SHAPE)).astype(np.int16)
