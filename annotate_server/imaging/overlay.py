"""A picture of a labelmap over its volume, as a radiologist expects to see it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.reorientation import reoriented

_WINDOW_HU = (-160.0, 240.0)
"""The usual abdomen window: level 40, width 400."""
_OPACITY = 0.35
_BACKGROUND = (16, 18, 22)


@dataclass(frozen=True, slots=True)
class _Plane:
    """One orthogonal plane: which axis of the canonical array (k, j, i) it cuts, and the letters at its borders."""

    name: str
    axis: int
    left: str
    right: str
    top: str
    bottom: str


_PLANES = (
    _Plane("axial", 0, "R", "L", "A", "P"),
    _Plane("coronal", 1, "R", "L", "S", "I"),
    _Plane("sagittal", 2, "A", "P", "S", "I"),
)


def write_overlay(volume: Volume, labelmap: Labelmap, path: Path, height_px: int = 320) -> None:
    """Write a PNG with the axial, coronal and sagittal slice that hold most of the labelmap, side by side.

    Radiological convention: the patient's right is at the left of the picture, superior is up. Pixels are square in
    millimetres. Segments are filled in their colours, with their outlines drawn full. An oblique volume is shown
    along its own axes, with the letters of the nearest sides.
    """
    turn = reoriented(volume.geometry)
    voxels, labels = turn.apply(volume.voxels), turn.apply(labelmap.voxels)
    low, high = _window(volume)
    panes = []
    for plane in _PLANES:
        position = _fullest(labels, plane.axis)
        grey = _upright(np.take(voxels, position, plane.axis), plane)
        marked = _upright(np.take(labels, position, plane.axis), plane)
        picture = _coloured(np.clip((grey.astype(np.float32) - low) / (high - low), 0, 1), marked, labelmap)
        panes.append(_pane(picture, plane, turn.geometry, height_px))
    sheet = Image.new("RGB", (sum(p.width for p in panes) + 4 * (len(panes) - 1), height_px), _BACKGROUND)
    x = 0
    for pane in panes:
        sheet.paste(pane, (x, 0))
        x += pane.width + 4
    sheet.save(path, format="PNG", optimize=True)


def _window(volume: Volume) -> tuple[float, float]:
    """Return the intensities shown black and white: the abdomen window for CT, else the 1st to 99.5th percentile."""
    if volume.modality is Modality.CT:
        return _WINDOW_HU
    thinned = volume.voxels[:, ::2, ::2].astype(np.float32)
    low, high = np.percentile(thinned, (1.0, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _fullest(labels: NDArray[np.generic], axis: int) -> int:
    """Return the slice with the most labelled voxels; the middle one of an empty labelmap."""
    others = tuple(a for a in range(3) if a != axis)
    counts = np.count_nonzero(labels, axis=others)
    return int(np.argmax(counts)) if counts.any() else labels.shape[axis] // 2


def _upright(plane_voxels: NDArray[np.generic], plane: _Plane) -> NDArray[np.generic]:
    """Return the slice as rows from top to bottom: superior up where the rows run along the body."""
    return plane_voxels if plane.axis == 0 else plane_voxels[::-1]


def _coloured(grey: NDArray[np.float32], marked: NDArray[np.generic], labelmap: Labelmap) -> NDArray[np.uint8]:
    table = np.zeros((max((s.index for s in labelmap.segments), default=0) + 1, 3), np.float32)
    for segment in labelmap.segments:
        table[segment.index] = segment.colour
    base = np.repeat(grey[..., None] * 255, 3, axis=2)
    weight = np.where(marked != 0, np.where(_outline(marked), 1.0, _OPACITY), 0.0)[..., None]
    mixed: NDArray[np.float32] = base * (1 - weight) + table[marked.astype(np.intp)] * weight
    return mixed.astype(np.uint8)


def _outline(marked: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return the pixels with a neighbour of another segment."""
    padded = np.pad(marked, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    differs: NDArray[np.bool_] = (
        (padded[:-2, 1:-1] != centre)
        | (padded[2:, 1:-1] != centre)
        | (padded[1:-1, :-2] != centre)
        | (padded[1:-1, 2:] != centre)
    )
    return differs


def _pane(picture: NDArray[np.uint8], plane: _Plane, geometry: Geometry, height_px: int) -> Image.Image:
    """Return the slice scaled to `height_px` with square millimetres, and its letters."""
    rows_mm, columns_mm = (s for axis, s in enumerate(geometry.spacing_mm) if axis != plane.axis)
    aspect = (picture.shape[1] * columns_mm) / (picture.shape[0] * rows_mm)
    width_px = int(np.clip(round(height_px * aspect), 16, 4 * height_px))
    inner = (width_px, height_px)
    if round(height_px * aspect) > 4 * height_px:
        inner = (4 * height_px, max(8, round(4 * height_px / aspect)))
    scaled = Image.fromarray(picture).resize(inner, Image.Resampling.BICUBIC)
    pane = Image.new("RGB", (width_px, height_px), _BACKGROUND)
    pane.paste(scaled, (0, (height_px - inner[1]) // 2))
    centre, middle = width_px / 2, height_px / 2
    _letter(pane, plane.left, (4, middle), "lm")
    _letter(pane, plane.right, (width_px - 4, middle), "rm")
    _letter(pane, plane.top, (centre, 3), "mt")
    _letter(pane, plane.bottom, (centre, height_px - 3), "mb")
    return pane


def _letter(pane: Image.Image, letter: str, place: tuple[float, float], anchor: str) -> None:
    ImageDraw.Draw(pane).text(
        place,
        letter,
        fill=(255, 220, 120),
        font=ImageFont.load_default(14),
        anchor=anchor,
        stroke_width=2,
        stroke_fill=(0, 0, 0),
    )
