"""Any labelmap written as DICOM SEG comes back the same."""

import tempfile
from pathlib import Path

import numpy as np
from conftest import oblique_geometry
from dicom_phantom import write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from annotate_server.domain.labelmap import CodedConcept, Labelmap, Segment
from annotate_server.imaging.dicom_header import read_header
from annotate_server.imaging.dicom_listing import stored_volumes
from annotate_server.imaging.dicom_seg import read_seg, write_seg
from annotate_server.imaging.dicom_series import read_series
from annotate_server.imaging.labelmap_orders import Algorithm

colours = st.tuples(*[st.integers(0, 255)] * 3)
shapes = st.tuples(st.integers(2, 5), st.integers(3, 9), st.integers(3, 11)).filter(lambda shape: len(set(shape)) == 3)


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, tuple[Segment, ...]]:
    count = draw(st.integers(1, 5))
    segments = tuple(
        Segment(n, f"segment {n}", draw(colours), draw(st.none() | st.just(CodedConcept(f"{n}", "SCT", f"kind {n}"))))
        for n in range(1, count + 1)
    )
    return draw(arrays(np.uint8, draw(shapes), elements=st.integers(0, count))), segments


@settings(deadline=None, max_examples=25)
@given(labelled())
def test_a_labelmap_survives_a_seg(content: tuple[np.ndarray, tuple[Segment, ...]]) -> None:
    voxels, segments = content
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_series(folder / "ct", oblique_geometry(voxels.shape))
        (stored,) = stored_volumes([read_header(path) for path in paths], "case")
        geometry = read_series(stored).geometry
        labels = Labelmap(voxels, geometry, segments)
        write_seg(labels, stored, folder / "seg.dcm", Algorithm("model", "1"))
        (back,) = read_seg(folder / "seg.dcm", geometry)
    np.testing.assert_array_equal(back.voxels, labels.voxels)
    assert back.segments == labels.segments
