"""The way back from a grid that is the volume's own: a shorter one, to the same labels."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from conftest import oblique_geometry

from annotate_server.backends.engine.blending import ClassPlanes
from annotate_server.backends.monai_bundle.way_back import WayBack
from annotate_server.imaging.reorientation import reoriented


def test_where_both_grids_are_the_same_nothing_is_interpolated_and_the_labels_are_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = oblique_geometry((9, 14, 11))
    grid = reoriented(volume, "RAS").geometry
    values = torch.rand((3, *grid.shape), generator=torch.Generator().manual_seed(1))

    def planes() -> Iterator[ClassPlanes]:
        for first in range(0, grid.shape[0], 4):
            last = min(first + 4, grid.shape[0])
            yield ClassPlanes(first, last, values[:, first:last])

    way = WayBack.between(volume, grid)
    assert way._is_straight()
    classes, certainty = way.decided(planes())
    monkeypatch.setattr(WayBack, "_is_straight", lambda _: False)
    slowly = way.decided(planes())
    assert np.array_equal(classes, slowly[0])
    assert np.allclose(certainty, slowly[1])
    assert np.array_equal(classes, values.argmax(0).numpy())
