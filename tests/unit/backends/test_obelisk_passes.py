"""One pass of the OBELISK backend: what goes into the network, and what is read from its probabilities."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from annotate_server.backends.obelisk import passes
from annotate_server.backends.obelisk.passes import LEFT_KIDNEY, LIVER, SPLEEN, Findings
from annotate_server.domain.geometry import Box

SIDE = 12


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules are those of any number of voxels; with 144 they take minutes."""
    monkeypatch.setattr(passes, "SIDE", SIDE)


class Constant(nn.Module):
    """Answers fixed logits, and keeps what it was asked."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.asked: list[Tensor] = []

    def forward(self, volume: Tensor) -> Tensor:
        self.asked.append(volume)
        return self.logits.view(1, -1, 1, 1, 1).expand(1, -1, *volume.shape[2:])


def test_a_linear_field_stays_linear_on_the_networks_grid_with_its_axes_turned() -> None:
    k, j, i = np.meshgrid(np.arange(24), np.arange(30), np.arange(36), indexing="ij")
    window = Box((2, 3, 6), (20, 27, 30))
    cube = passes.sampled((10 * k + 3 * j + i - 50).astype(np.int16), window)
    at = [start + (np.arange(SIDE) + 0.5) * n / SIDE - 0.5 for start, n in zip(window.start, window.shape, strict=True)]
    expected = 10 * at[0][None, None, :] + 3 * at[1][None, :, None] + at[2][:, None, None] - 50
    assert cube.shape == (SIDE, SIDE, SIDE)
    assert np.abs(cube.numpy() - expected).max() < 1e-3


def test_slices_beyond_the_volume_repeat_its_ends_and_values_are_those_of_a_ct() -> None:
    voxels = np.full((4, 12, 12), 50.0, np.float32)
    voxels[0], voxels[3] = -5000.0, np.nan
    cube = passes.sampled(voxels, Box((-4, 0, 0), (8, 12, 12)))
    assert cube[0, 0].tolist() == [-1024.0] * 5 + [50.0] * 2 + [-1024.0] * 5
    bright = passes.sampled(np.full((4, 12, 12), 30000, np.int16), Box.whole((4, 12, 12)))
    assert float(bright.max()) == 3071.0


def test_soft_tissue_is_brightened_and_fat_and_air_are_not() -> None:
    cube = torch.tensor([-1000.0, -100.0, -30.0, -10.0, 10.0, 60.0])
    assert passes.enhanced(cube, 40.0).tolist() == [-1000.0, -100.0, -30.0, 10.0, 50.0, 100.0]
    assert passes.enhanced(cube, 0.0) is cube


@pytest.mark.parametrize(("brightness", "shift"), [(120.0, 0.0), (85.0, 0.0), (60.0, 40.0), (20.0, 60.0)])
def test_only_a_scan_without_contrast_medium_is_brightened_and_never_by_much(brightness: float, shift: float) -> None:
    assert Findings(1000.0, 0.0, 100.0, brightness).contrast_shift_hu == shift


def test_probabilities_are_the_mean_of_the_folds_and_the_input_is_scaled() -> None:
    one, other = Constant([0.0, 2.0, 0.0]), Constant([1.0, 0.0, 0.0])
    cube = torch.full((2, 3, 4), 512.0)
    chances = passes.probabilities([one, other], cube)  # type: ignore[list-item]  # stands in for the network
    expected = (one.logits.softmax(0) + other.logits.softmax(0)) / 2
    assert chances.shape == (3, 2, 3, 4)
    assert torch.allclose(chances[:, 1, 2, 3], expected)
    assert float(one.asked[0].max()) == 1.5


def empty_chances() -> Tensor:
    chances = torch.zeros(9, SIDE, SIDE, SIDE)
    chances[0] = 1.0
    return chances


def put(chances: Tensor, organ: int, block: Box, chance: float = 0.9) -> None:
    chances[(slice(None), *block.slices)] = 0.0
    chances[(organ, *block.slices)] = chance
    chances[(0, *block.slices)] = 1.0 - chance


def test_findings_are_measured_in_millimetres_from_the_first_slice() -> None:
    chances, cube = empty_chances(), torch.zeros(SIDE, SIDE, SIDE)
    put(chances, LIVER, Box((6, 4, 3), (12, 10, 8)))
    put(chances, LIVER, Box((0, 0, 11), (1, 1, 12)), 0.95)
    put(chances, LEFT_KIDNEY, Box((1, 1, 6), (3, 4, 10)))
    put(chances, SPLEEN, Box((0, 8, 2), (3, 11, 5)))
    cube[6:12, 4:10, 3:8], cube[0:3, 8:11, 2:5] = 60.0, 95.0
    window, spacing = Box((2, 0, 0), (38, 24, 24)), (5.0, 4.0, 4.0)
    found = passes.read_findings(chances, cube, window, spacing)
    cell_mm = (15.0, 8.0, 8.0)
    assert found.liver_ml == pytest.approx((6 * 6 * 5 + 1) * np.prod(cell_mm) / 1000.0)
    assert found.top_mm == 10.0 + 3 * 15.0
    assert found.bottom_mm == 10.0 + 10 * 15.0
    assert found.parenchyma_hu == 95.0


def test_nothing_found_is_no_liver_and_no_sign_of_missing_contrast_medium() -> None:
    found = passes.read_findings(empty_chances(), torch.zeros(SIDE, SIDE, SIDE), Box.whole((24, 24, 24)), (1, 1, 1))
    assert found.liver_ml == 0.0
    assert found.contrast_shift_hu == 0.0


def test_an_organ_stays_in_large_pieces_only_and_the_rest_goes_to_the_next_likely_class() -> None:
    chances = empty_chances()
    put(chances, LIVER, Box((0, 0, 0), (5, 5, 4)))
    put(chances, LIVER, Box((7, 7, 7), (10, 10, 10)))
    put(chances, LIVER, Box((11, 0, 0), (12, 1, 12)), 0.6)
    chances[SPLEEN, 11, 0] = 0.45
    chances[0, 11, 0] = 0.1
    labels = passes.without_fragments(chances).argmax(0)
    assert (labels[0:5, 0:5, 0:4] == LIVER).all()
    assert (labels[7:10, 7:10, 7:10] == LIVER).all()
    assert (labels[11, 0] == SPLEEN).all()


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (Box((0, 0, 6), (12, 12, 12)), (slice(12, 30), slice(None), slice(None))),
        (Box((0, 3, 0), (12, 12, 12)), (slice(None), slice(6, 24), slice(None))),
        (Box((0, 0, 0), (6, 12, 12)), (slice(None), slice(None), slice(0, 18))),
    ],
)
def test_labels_come_back_on_the_volumes_grid_with_borders_between_the_cells(
    block: Box, expected: tuple[slice, slice, slice]
) -> None:
    chances = empty_chances()
    put(chances, LIVER, block, 1.0)
    window, inside = Box((-6, 10, 20), (30, 34, 56)), Box((0, 10, 20), (30, 34, 56))
    labels, uncertainty = passes.upsampled(chances, window, inside)
    assert labels.shape == uncertainty.shape == inside.shape
    liver = np.zeros(inside.shape, np.bool_)
    liver[expected] = True
    assert np.array_equal(labels == LIVER, liver)
    assert set(np.unique(labels)) == {0, LIVER}
    axis = [side != slice(None) for side in expected].index(True)
    last = expected[axis].start or expected[axis].stop
    assert uncertainty.take([last - 1, last], axis).min() > 0.3
    assert np.median(uncertainty) == pytest.approx(0.0, abs=1e-6)
    assert uncertainty.min() >= -1e-6
    assert uncertainty.max() <= 1.0
