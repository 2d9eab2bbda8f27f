import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from annotate_server.domain.geometry import Geometry
from annotate_server.imaging.reorientation import reoriented
from annotate_server.imaging.resampling import Interpolation, as_sitk, resample, sitk_geometry

CODES = [a + b + c for a in "LR" for b in "AP" for c in "SI"]
ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    shape = tuple(draw(st.permutations([4, 6, 9])))
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 6.0)] * 3))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.array(spacing)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return Geometry.from_affine(affine, shape)


@settings(deadline=None, max_examples=60)
@given(geometries(), st.sampled_from(CODES), st.sampled_from(ORDERS))
def test_a_reorientation_moves_no_voxel_in_the_world(
    geometry: Geometry, letters: str, order: tuple[int, int, int]
) -> None:
    voxels = np.arange(np.prod(geometry.shape), dtype=np.int32).reshape(geometry.shape)
    turn = reoriented(geometry, "".join(letters[n] for n in order))
    turned = turn.apply(voxels)
    assert turned.shape == turn.geometry.shape
    indices = np.argwhere(turned >= 0)[::17]
    back = np.rint(geometry.index(turn.geometry.world(indices))).astype(int)
    assert (turned[tuple(indices.T)] == voxels[tuple(back.T)]).all()
    assert (turn.undo(turned) == voxels).all()


@settings(deadline=None, max_examples=40)
@given(geometries())
def test_a_grid_survives_the_way_through_simpleitk(geometry: Geometry) -> None:
    voxels = np.random.default_rng(0).integers(0, 9, geometry.shape).astype(np.uint8)
    assert sitk_geometry(as_sitk(voxels, geometry)).matches(geometry)
    assert (resample(voxels, geometry, geometry, Interpolation.NEAREST) == voxels).all()


@settings(deadline=None, max_examples=30)
@given(geometries())
def test_a_linear_ramp_is_resampled_exactly_inside(geometry: Geometry) -> None:
    k, j, i = np.indices(geometry.shape)
    ramp = (2.0 * k - 1.5 * j + 0.25 * i).astype(np.float32)
    finer = geometry.resized(tuple(s / 2 for s in geometry.spacing_mm))
    values = resample(ramp, geometry, finer)
    index = geometry.index(finer.world(np.argwhere(values > -1e9)))
    inside = ((index >= 0) & (index <= np.array(geometry.shape) - 1)).all(axis=1)
    expected = index @ np.array([2.0, -1.5, 0.25])
    assert np.allclose(values.ravel()[inside], expected[inside], atol=1e-3)
