"""Any labelmap on any grid: what is written is read back, voxel for voxel, in any order of axes."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import CodedConcept, Labelmap, Segment, labelmap_dtype
from annotate_server.imaging.labelmap_files import LabelmapFormat, read_labelmap, write_labelmap
from annotate_server.imaging.reorientation import reoriented

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)
CODE = st.from_regex(r"[A-Za-z0-9.\-]{1,12}", fullmatch=True)
MEANING = st.from_regex(r"[A-Za-z0-9(),'][A-Za-z0-9 (),']{0,20}[A-Za-z0-9(),']", fullmatch=True)
CONCEPTS = st.builds(CodedConcept, CODE, CODE, MEANING)
CODES = ["".join(c) for c in (("S", "P", "L"), ("R", "A", "I"), ("P", "I", "R"), ("L", "S", "A"), ("I", "L", "A"))]


def rotation(quaternion: list[float]) -> NDArray[np.float64]:
    """Return the rotation (3, 3) of a quaternion that is not near zero."""
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@st.composite
def grids(draw: st.DrawFn) -> Geometry:
    side = st.integers(1, 6)
    shape = (draw(side), draw(side), draw(side))
    quaternion = draw(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
    spacing = draw(st.lists(st.floats(0.05, 12), min_size=3, max_size=3))
    affine = np.eye(4)
    affine[:3, :3] = rotation(quaternion) * np.array(spacing)
    affine[:3, 2] *= draw(st.sampled_from([1, -1]))
    affine[:3, 3] = draw(st.lists(st.floats(-800, 800), min_size=3, max_size=3))
    return Geometry.from_affine(affine, shape)


@st.composite
def labelmaps(draw: st.DrawFn) -> Labelmap:
    geometry = draw(grids())
    indices = draw(st.lists(st.sampled_from([1, 2, 3, 7, 200, 255, 256, 65535]), unique=True, max_size=4))
    names = draw(
        st.lists(
            TEXT.filter(lambda name: bool(name.strip())).map(str.strip),
            min_size=len(indices),
            max_size=len(indices),
            unique=True,
        )
    )
    colours = st.tuples(*[st.integers(0, 255)] * 3)
    segments = []
    for index, name in zip(indices, names, strict=True):
        kind = draw(st.none() | CONCEPTS)
        side = draw(st.none() | CONCEPTS) if kind else None
        segments.append(Segment(index, name, draw(colours), kind, laterality=side))
    values = np.array([0, *indices], labelmap_dtype(segments))
    seed = draw(st.integers(0, 2**32 - 1))
    return Labelmap(np.random.default_rng(seed).choice(values, geometry.shape), geometry, tuple(segments))


@settings(deadline=None, max_examples=60)
@given(
    labelmap=labelmaps(),
    kind=st.sampled_from([LabelmapFormat.NIFTI, LabelmapFormat.NRRD]),
    codes=st.sampled_from(CODES),
)
def test_what_is_written_is_read_back(labelmap: Labelmap, kind: LabelmapFormat, codes: str) -> None:
    suffix = {LabelmapFormat.NIFTI: "nii.gz", LabelmapFormat.NRRD: "seg.nrrd"}[kind]
    turn = reoriented(labelmap.geometry, codes)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"s.{suffix}"
        write_labelmap(labelmap, path, kind)
        (read,) = read_labelmap(path, labelmap.geometry)
        (turned,) = read_labelmap(path, turn.geometry)
    np.testing.assert_array_equal(read.voxels, labelmap.voxels)
    np.testing.assert_array_equal(turned.voxels, turn.apply(labelmap.voxels))
    assert read.segments == labelmap.segments
    assert read.geometry == labelmap.geometry


@settings(deadline=None, max_examples=30)
@given(labelmap=labelmaps(), seed=st.integers(0, 2**32 - 1))
def test_layers_are_read_back(labelmap: Labelmap, seed: int) -> None:
    values = np.array([0, *(segment.index for segment in labelmap.segments)], labelmap.voxels.dtype)
    voxels = np.random.default_rng(seed).choice(values, labelmap.geometry.shape)
    layers = (labelmap, Labelmap(voxels, labelmap.geometry, labelmap.segments))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "s.seg.nrrd"
        write_labelmap(layers, path, LabelmapFormat.NRRD)
        read = read_labelmap(path, labelmap.geometry)
    assert [layer.segments for layer in read] == ([labelmap.segments] * 2)
    for one, other in zip(read, layers, strict=True):
        np.testing.assert_array_equal(one.voxels, other.voxels)
