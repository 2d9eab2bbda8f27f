"""Slices as pictures for people: windowed to eight bits, small, never what is measured on."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from annotate_server.imaging.dicom_frames import frames_of
from annotate_server.imaging.dicom_instances import Look, PictureOrder
from annotate_server.imaging.dicom_values import items, numbers_or_none, text
from annotate_server.imaging.dicom_voxels import read_voxels
from annotate_server.imaging.prescreen import prescreen_dicom

Window = tuple[float, float]
_SPAN_PERCENT = (1.0, 99.0)


def picture(order: PictureOrder) -> NDArray[np.uint8]:
    """Return a picture as the bytes of a PNG or JPEG file."""
    if order.path is not None:
        prescreen_dicom(order.path)
        dataset, planes = read_voxels(order.path, (order.frame,))
        frame = frames_of(dataset)[order.frame]
        values = planes[0].astype(np.float64) * frame.slope + frame.intercept
        window, is_inverted = (
            _window_of(dataset, order.frame),
            text(dataset, "PhotometricInterpretation") == "MONOCHROME1",
        )
    else:
        values = np.asarray(order.intensities, np.float64)
        window, is_inverted = None, False
    grey = windowed(values, order.look.window or window or usual_window(values))
    return _file(255 - grey if is_inverted else grey, order.look)


def usual_window(values: NDArray[np.float64]) -> Window:
    """Return centre and width of a window that shows all but the darkest and brightest percent."""
    low, high = (float(end) for end in np.percentile(values, _SPAN_PERCENT))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (low + high) / 2, max(high - low, 1e-6)


def windowed(values: NDArray[np.float64], window: Window) -> NDArray[np.uint8]:
    """Return intensities as grey values, linear within the window (DICOM PS3.3 C.11.2.1.3, LINEAR_EXACT)."""
    centre, width = window
    share = (values - (centre - width / 2)) / width
    grey: NDArray[np.uint8] = np.rint(np.clip(share, 0.0, 1.0) * 255).astype(np.uint8)
    return grey


def _window_of(dataset: Dataset, number: int) -> Window | None:
    """Return the first window that a file names for a frame."""
    places = [dataset]
    for groups in (items(dataset, "SharedFunctionalGroupsSequence"), _own_groups(dataset, number)):
        places += [lut for group in groups for lut in items(group, "FrameVOILUTSequence")]
    for place in reversed(places):
        centre, width = (numbers_or_none(place.get(name)) for name in ("WindowCenter", "WindowWidth"))
        if centre and width and np.isfinite([centre[0], width[0]]).all() and width[0] >= 1:
            return centre[0], width[0]
    return None


def _own_groups(dataset: Dataset, number: int) -> tuple[Dataset, ...]:
    return items(dataset, "PerFrameFunctionalGroupsSequence")[number : number + 1]


def _file(grey: NDArray[np.uint8], look: Look) -> NDArray[np.uint8]:
    """Return grey values as a file, no larger than asked for; a picture is made smaller, never larger."""
    shown = Image.fromarray(grey)
    shown.thumbnail((look.columns, look.rows))
    buffer = io.BytesIO()
    if look.media_type == "image/png":
        shown.save(buffer, "PNG")
    else:
        shown.save(buffer, "JPEG", quality=look.quality)
    return np.frombuffer(buffer.getvalue(), np.uint8)
