"""The method `lungs` on phantoms that show what makes real chest CT difficult."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from annotate_server.backends.classical.lungs_method import STRUCTURES, draw
from annotate_server.domain.errors import Cancelled, NotMadeFor
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.reorientation import reoriented
from annotate_server.testing.chest import ChestOptions, Phantom, chest_phantom

LEFT, RIGHT, AIRWAYS, BONE, BODY = (STRUCTURES.index(name) + 1 for name in STRUCTURES)
AXIAL = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def axial(
    shape: tuple[int, int, int] = (66, 112, 124), spacing_mm: tuple[float, float, float] = (5.0, 3.0, 3.0)
) -> Geometry:
    middle = [s * (n - 1) / 2 for s, n in zip(spacing_mm, shape, strict=True)]
    return Geometry(shape, spacing_mm, AXIAL, (-middle[2], 10.0 - middle[1], 45.0 - middle[0]))


def tilted() -> Geometry:
    """Return a doubly oblique grid with three different sides."""
    a, b = 0.3, 0.2
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    shape, spacing = (80, 126, 140), np.array([4.0, 3.2, 2.8])
    affine = np.eye(4)
    affine[:3, :3] = (about_z @ about_x)[:, ::-1] * spacing
    affine[:3, 3] = np.array([0.0, 10.0, 45.0]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry.from_affine(affine, shape)


def dice(got: NDArray[np.uint8], truth: NDArray[np.uint8], number: int) -> float:
    a, b = got == number, truth == number
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def assert_lungs(volume: Volume, truth: NDArray[np.uint8], least: float = 0.97) -> NDArray[np.uint8]:
    labels = draw(volume, Control()).labels
    assert labels.shape == volume.geometry.shape
    assert dice(labels, truth, LEFT) > least
    assert dice(labels, truth, RIGHT) > least
    return labels


@pytest.fixture(scope="module")
def plain() -> Phantom:
    return chest_phantom(axial(), ChestOptions(bowel_gas=True, stool=True))


@pytest.fixture(scope="module")
def plain_labels(plain: Phantom) -> NDArray[np.uint8]:
    return draw(plain.volume, Control()).labels


def test_every_structure_of_a_chest_on_a_table_is_found(plain: Phantom) -> None:
    labels = assert_lungs(plain.volume, plain.truth.voxels, 0.98)
    assert dice(labels, plain.truth.voxels, AIRWAYS) > 0.9
    assert dice(labels, plain.truth.voxels, BONE) > 0.88
    assert dice(labels, plain.truth.voxels, BODY) > 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ChestOptions(touching_lungs=True),
        ChestOptions(blood_hu=350.0),
        ChestOptions(effusion=True),
        ChestOptions(consolidation=True, nodule=True),
        ChestOptions(pneumothorax=True),
        ChestOptions(prone=True, bowel_gas=True),
        ChestOptions(lung_hu=-945.0),
        ChestOptions(lung_hu=-640.0),
        ChestOptions(noise_hu=80.0),
    ],
    ids=["touching", "contrast", "effusion", "consolidation", "pneumothorax", "prone", "emphysema", "expiry", "noise"],
)
def test_the_lungs_are_found(options: ChestOptions) -> None:
    phantom = chest_phantom(axial(), options)
    assert_lungs(phantom.volume, phantom.truth.voxels, 0.965)


@pytest.mark.slow
def test_arms_are_no_lungs_and_a_pacemaker_does_no_harm() -> None:
    phantom = chest_phantom(axial((66, 112, 172)), ChestOptions(arms=True, metal=True))
    assert_lungs(phantom.volume, phantom.truth.voxels, 0.98)


@pytest.mark.slow
def test_gas_of_the_stomach_is_no_lung_in_an_oblique_scan() -> None:
    phantom = chest_phantom(tilted(), ChestOptions(bowel_gas=True))
    assert_lungs(phantom.volume, phantom.truth.voxels)


@pytest.mark.slow
def test_heart_and_aorta_full_of_contrast_medium_are_no_bone() -> None:
    phantom = chest_phantom(axial(), ChestOptions(blood_hu=350.0))
    labels = draw(phantom.volume, Control()).labels
    blood = (phantom.truth.voxels == BODY) & (phantom.volume.voxels > 300)
    assert blood.sum() > 5000
    assert float((labels[blood] == BONE).mean()) < 0.1


@pytest.mark.slow
def test_fine_slices_are_refined_to_their_own_grid() -> None:
    phantom = chest_phantom(axial((30, 340, 372), (3.0, 1.0, 1.0)), ChestOptions(touching_lungs=True, noise_hu=40.0))
    labels = assert_lungs(phantom.volume, phantom.truth.voxels, 0.985)
    border = np.diff((labels == LEFT).astype(np.int8), axis=2) != 0
    assert len(np.unique(np.argwhere(border)[:, 2] % 2)) == 2


@pytest.mark.parametrize("codes", ["IAR", "RSA", "PLS", "LIP"])
def test_the_order_of_the_axes_does_not_matter(plain: Phantom, plain_labels: NDArray[np.uint8], codes: str) -> None:
    turn = reoriented(plain.volume.geometry, codes)
    turned = Volume(np.ascontiguousarray(turn.apply(plain.volume.voxels)), turn.geometry, Modality.CT, "HU")
    assert (turn.undo(draw(turned, Control()).labels) == plain_labels).all()


@pytest.mark.parametrize(
    "box",
    [
        Box((0, 0, 0), (26, 112, 124)),
        Box((10, 0, 0), (34, 112, 124)),
        Box((46, 0, 0), (66, 112, 124)),
        Box((0, 0, 0), (66, 112, 97)),
        Box((0, 24, 26), (66, 88, 98)),
    ],
    ids=["abdomen", "middle", "neck", "one side cut", "narrow"],
)
def test_part_of_a_chest_is_drawn_too(plain: Phantom, box: Box) -> None:
    assert_lungs(plain.volume.cropped(box), plain.truth.cropped(box).voxels)


def test_a_child_is_a_small_adult(plain: Phantom) -> None:
    geometry = plain.volume.geometry
    k, j, i = (0.45 * s for s in geometry.spacing_mm)
    child = Volume(plain.volume.voxels, replace(geometry, spacing_mm=(k, j, i)), Modality.CT, "HU")
    assert_lungs(child, plain.truth.voxels)


def test_a_lung_alone_keeps_its_side(plain: Phantom) -> None:
    voxels = plain.volume.voxels.copy()
    voxels[plain.truth.voxels == LEFT] = 15
    drawing = draw(Volume(voxels, plain.volume.geometry, Modality.CT, "HU"), Control())
    assert not (drawing.labels == LEFT).any()
    assert dice(drawing.labels, plain.truth.voxels, RIGHT) > 0.98
    assert drawing.notes == ("only one lung was found; check that its side is right",)


def test_padding_outside_the_scanner_s_circle_is_no_body(plain: Phantom) -> None:
    j, i = np.ogrid[:112, :124]
    outside = np.broadcast_to((j - 56) ** 2 + (i - 62) ** 2 > 40**2, plain.volume.geometry.shape)
    voxels = np.where(outside, -3024, plain.volume.voxels).astype(np.int16)
    truth = np.where(outside, 0, plain.truth.voxels).astype(np.uint8)
    labels = assert_lungs(Volume(voxels, plain.volume.geometry, Modality.CT, "HU"), truth)
    assert float((labels[outside] > 0).mean()) < 0.01


def test_a_pelvis_has_no_lungs_and_says_so(plain: Phantom) -> None:
    pelvis = chest_phantom(replace(axial(), origin_mm=(-184.5, -156.5, -480.0)), ChestOptions(stool=True))
    drawing = draw(pelvis.volume, Control())
    assert set(np.unique(drawing.labels)) == {0, BONE, BODY}
    assert "no lung was found" in drawing.notes[0]


@pytest.mark.parametrize("spacing_mm", [5.0, 0.6])
def test_three_slices_are_enough(plain: Phantom, spacing_mm: float) -> None:
    few = plain.volume.cropped(Box((30, 0, 0), (33, 112, 124)))
    geometry = replace(few.geometry, spacing_mm=(spacing_mm, 3.0, 3.0))
    truth = plain.truth.cropped(Box((30, 0, 0), (33, 112, 124))).voxels
    assert_lungs(Volume(few.voxels, geometry, Modality.CT, "HU"), truth, 0.95)


def test_a_volume_of_nothing_but_air_is_empty() -> None:
    air = Volume(np.full((7, 20, 22), -1000, dtype=np.int16), axial((7, 20, 22)), Modality.CT, "HU")
    drawing = draw(air, Control())
    assert not drawing.labels.any()
    assert drawing.notes == ("no patient was found in the volume",)


def test_a_ct_without_rescale_is_refused(plain: Phantom) -> None:
    raw = Volume((plain.volume.voxels + 1024).astype(np.uint16), plain.volume.geometry, Modality.CT)
    with pytest.raises(NotMadeFor, match="no Hounsfield units"):
        draw(raw, Control())


def test_it_stops_when_asked(plain: Phantom) -> None:
    with pytest.raises(Cancelled):
        draw(plain.volume, Control(is_cancelled=lambda: True))
