"""A chest of a few voxels, so that servers start, read and answer at once, and what is drawn on it."""

from pathlib import Path

from annotate_server.client import AnnotateClient
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.project import Project, ReviewPolicy
from annotate_server.testing.chest import ChestOptions, chest_phantom
from annotate_server.testing.phantom_files import SeriesWords, write_nifti, write_series

SHAPE = (30, 40, 44)
"""(k, j, i): three different sides."""
SEGMENTS = (
    Segment(1, "Structure", (230, 60, 60)),
    Segment(2, "Lesion", (60, 230, 60)),
    Segment(3, "Right lung", (60, 60, 230)),
)


def small_chest(name: str = "chest") -> Geometry:
    """Return the grid of a chest in slices of 10 mm."""
    spacing_mm = (10.0, 8.5, 8.5)
    half = [s * (n - 1) / 2 for s, n in zip(spacing_mm, SHAPE, strict=True)]
    direction = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    return Geometry(SHAPE, spacing_mm, direction, (-half[2], 10.0 - half[1], 35.0 - half[0]))


def write_chest(path: Path, seed: int = 1) -> Path:
    """Write a chest as NIfTI."""
    phantom = chest_phantom(small_chest(), ChestOptions(seed=seed))
    return write_nifti(path, phantom.volume.voxels, phantom.volume.geometry)


def write_chest_series(folder: Path, seed: int = 1) -> None:
    """Write a chest as a DICOM series."""
    phantom = chest_phantom(small_chest(), ChestOptions(seed=seed))
    write_series(folder, phantom.volume, SeriesWords(folder.name, "Sample^Small", "SMALL", "Small chest", "CHEST"))


def add_project(client: AnnotateClient) -> None:
    """Add the project that the small chests are annotated in: no model of it drafts, so that cases open empty."""
    client.add_project(Project("small", "Small", SEGMENTS, ("any_structure",), review=ReviewPolicy.NONE))
