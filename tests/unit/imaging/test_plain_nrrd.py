"""Plain NRRD as other programs read it."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import oblique_geometry

from annotate_server.domain.geometry import Geometry
from annotate_server.imaging.plain_nrrd import PlainGrid, nrrd_bytes, nrrd_parts, packed_nrrd, written_type


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", "<i4", "<u4", "<f4", "<f8", "?", "<f2"])
def test_another_program_reads_the_same_voxels_at_the_same_place(tmp_path: Path, dtype: str) -> None:
    geometry = oblique_geometry((3, 4, 5))
    voxels = np.arange(60).reshape(geometry.shape).astype(dtype)
    grid = PlainGrid(geometry, voxels.dtype, voxels)
    whole = b"".join(nrrd_parts(grid))
    assert len(whole) == nrrd_bytes(grid)
    for content in (whole, packed_nrrd(grid)):
        (tmp_path / "a.nrrd").write_bytes(content)
        image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
        found = sitk.GetArrayFromImage(image)
        assert found.dtype == written_type(voxels.dtype)
        np.testing.assert_array_equal(found, voxels)
        place = image.TransformIndexToPhysicalPoint((4, 2, 1))
        np.testing.assert_allclose(place, geometry.world([[1, 2, 4]])[0], atol=1e-6)


def test_small_planes_are_handed_over_in_parts_neither_many_nor_large() -> None:
    geometry = Geometry((300, 128, 128), (1.0, 1.0, 1.0), np.eye(3)[::-1].tolist(), (0.0, 0.0, 0.0))
    planes = np.random.default_rng(0).integers(0, 9, geometry.shape).astype(np.uint8)
    parts = list(nrrd_parts(PlainGrid(geometry, planes.dtype, planes)))
    assert len(parts) == 1 + 19, "the header, and sixteen planes in each"
    assert max(map(len, parts)) == 2**18
    assert b"".join(parts).endswith(planes.tobytes())
