"""Our figures against MONAI's; its import alone takes seconds."""

import numpy as np
import pytest
from scipy import ndimage

from annotate_server.imaging.overlap import StructurePair, agreement

pytestmark = [
    pytest.mark.slow,
    # MONAI 1.6.1 warns of an argument that it gives to itself.
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),
]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.1, 0.7, 1.3)])
def test_dice_and_surface_dice_equal_those_of_monai(spacing: tuple[float, float, float]) -> None:
    metrics = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(7)
    noise = [ndimage.gaussian_filter(random.normal(size=(13, 25, 19)), (1, 2, 2)) for _ in range(2)]
    truth, predicted = noise[0] > noise[0].std(), noise[0] + 0.5 * noise[1] > noise[0].std()
    ours = agreement(StructurePair(truth, predicted, spacing))
    tensors = [torch.from_numpy(np.pad(a, 2)[None, None].astype(np.float32)) for a in (predicted, truth)]
    assert ours.dice == pytest.approx(float(metrics.compute_dice(*tensors)[0, 0]))
    for tolerance_mm, figure in ((1.0, ours.surface_dice_1mm), (2.0, ours.surface_dice_2mm)):
        theirs = metrics.compute_surface_dice(
            *tensors, [tolerance_mm], include_background=True, spacing=spacing, use_subvoxels=True
        )
        assert figure == pytest.approx(float(theirs[0, 0]), abs=1e-6)
    hausdorff = metrics.compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=spacing)
    # MONAI measures between voxel centres and does not weigh by area: alike within one voxel's diagonal.
    assert abs(ours.hd95_mm - float(hausdorff[0, 0])) <= np.linalg.norm(spacing)
