"""Which indices occur in a labelmap, whatever its layout."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate_server.domain.labelmap import present_indices


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**20),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 17)),
    wide=st.booleans(),
    strided=st.booleans(),
)
def test_every_value_that_occurs_is_found(seed: int, shape: tuple[int, int, int], wide: bool, strided: bool) -> None:
    random = np.random.default_rng(seed)
    kind = np.uint16 if wide else np.uint8
    values = random.integers(0, np.iinfo(kind).max + 1, shape).astype(kind)
    voxels = np.where(random.random(shape) < 0.2, values, kind(0))
    voxels = voxels[:, :, ::2] if strided else voxels
    assert present_indices(voxels) == set(np.unique(voxels).tolist()) - {0}


@pytest.mark.parametrize("place", [0, 7, 8, 63])
def test_a_single_voxel_is_found_at_the_ends_of_a_word(place: int) -> None:
    voxels = np.zeros((2, 8, 8), np.uint8)
    voxels[1].reshape(-1)[place] = 9
    assert present_indices(voxels) == {9}
    assert present_indices(np.zeros((0, 4, 4), np.uint8)) == set()
