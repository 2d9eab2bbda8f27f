"""What every test may ask for."""

import os
from pathlib import Path

import numpy as np
import pytest

from annotate_server.domain.geometry import Geometry


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Return the folder of real volumes and weights; skip with the reason where it is not there."""
    folder = Path(os.environ.get("ANNOTATE_TEST_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
    if not (folder / "INDEX.md").is_file():
        pytest.skip(f"{os.environ.get('ANNOTATE_TEST_DATA', '../shared/data')} is not here")
    return folder.resolve()


@pytest.fixture
def oblique() -> Geometry:
    """Return a grid that is anisotropic, oblique and has three different sides: a swapped axis always shows."""
    return oblique_geometry((9, 14, 11))


def oblique_geometry(shape: tuple[int, int, int]) -> Geometry:
    """Return an oblique, anisotropic grid of a shape (k, j, i)."""
    a, b = np.deg2rad(20.0), np.deg2rad(-35.0)
    turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (turn_z @ turn_x)[:, ::-1] * np.array([3.1, 0.7, 1.3])
    affine[:3, 3] = (-41.5, 17.25, 103.0)
    return Geometry.from_affine(affine, shape, frame_of_reference="1.2.826.0.1.3680043.8.498.1")
