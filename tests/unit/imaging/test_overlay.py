from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.overlay import write_overlay
from annotate_server.imaging.reorientation import reoriented

RED, GREEN = Segment(1, "Right high", (255, 0, 0)), Segment(2, "Left low", (0, 255, 0))


def a_head(codes: str) -> tuple[Volume, Labelmap]:
    """Return a volume with a red block at the patient's upper right and a green one at the lower left."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 2.0], [0, 2.0, 0], [4.0, 0, 0]])
    geometry = Geometry.from_affine(affine, (20, 40, 40))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[15:19, 10:30, 2:14] = 1
    labels[1:5, 10:30, 26:38] = 2
    turn = reoriented(geometry, codes)
    volume = Volume(turn.apply(np.full(geometry.shape, 40, np.int16)), turn.geometry, Modality.CT)
    return volume, Labelmap(turn.apply(labels), turn.geometry, (RED, GREEN))


@pytest.mark.parametrize("codes", ["SPL", "IAR", "LSP", "RIA", "PRS"])
def test_the_patients_right_is_at_the_left_of_the_picture_and_superior_is_up(tmp_path: Path, codes: str) -> None:
    volume, labelmap = a_head(codes)
    write_overlay(volume, labelmap, tmp_path / "o.png", height_px=120)
    with Image.open(tmp_path / "o.png") as file:
        picture = np.asarray(file.convert("RGB")).astype(int)
    coronal = picture[:, 124:244]
    red = np.argwhere(coronal[..., 0] - coronal[..., 1] > 60)
    green = np.argwhere(coronal[..., 1] - coronal[..., 0] > 60)
    assert red.size
    assert green.size
    assert red[:, 1].mean() < 50 < green[:, 1].mean()
    assert red[:, 0].mean() < 50 < green[:, 0].mean()


def test_an_empty_labelmap_and_a_flat_volume_still_give_a_picture(tmp_path: Path) -> None:
    volume, labelmap = a_head("SPL")
    flat = Volume(np.zeros(volume.geometry.shape, np.float32), volume.geometry, Modality.MR)
    empty = Labelmap(np.zeros(volume.geometry.shape, np.uint8), volume.geometry, labelmap.segments)
    write_overlay(flat, empty, tmp_path / "o.png")
    with Image.open(tmp_path / "o.png") as picture:
        assert picture.height == 320
