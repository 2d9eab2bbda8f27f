"""A head for MR: scalp, skull, brain and ventricles, with the uneven brightness of a receive coil."""

import numpy as np

from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.volume import Modality, Volume
from annotate_server.testing.chest import Phantom
from annotate_server.testing.shapes import EVERYWHERE, AnyOf, Canvas, Ellipsoid, Tube, Within

HEAD, BRAIN, VENTRICLES = 1, 2, 3
HEAD_SEGMENTS = (
    Segment(HEAD, "Head", (177, 122, 101)),
    Segment(BRAIN, "Brain", (250, 250, 225)),
    Segment(VENTRICLES, "Ventricles", (88, 106, 215)),
)
UNEVENNESS = 0.12


def head_phantom(geometry: Geometry, noise: float = 18.0, seed: int = 5) -> Phantom:
    """Return a head around the world's origin on a grid: T1-like intensities and the structures of HEAD_SEGMENTS.

    The brain of the truth is grey and white matter; its ventricles are apart; the head is the rest, neck included.
    """
    canvas = Canvas(geometry, 0.0)
    _paint_outside(canvas)
    _paint_brain(canvas)
    _shade(canvas)
    voxels, structure = canvas.finished(noise, seed)
    volume = Volume(np.clip(voxels, 0, 4095).astype(np.int16), geometry, Modality.MR)
    return Phantom(volume, Labelmap(structure, geometry, HEAD_SEGMENTS))


def _paint_outside(canvas: Canvas) -> None:
    """Paint neck, scalp, skull and eyes."""
    canvas.paint(Tube((0.0, 25.0, 0.0), (0.0, 30.0, -EVERYWHERE), 52.0), 420.0, HEAD)
    canvas.paint(Ellipsoid((0.0, 0.0, 0.0), (76.0, 96.0, 104.0)), 900.0, HEAD)
    canvas.paint(Ellipsoid((0.0, 0.0, 0.0), (71.0, 91.0, 99.0)), 420.0)
    canvas.paint(Ellipsoid((0.0, 3.0, 12.0), (67.0, 84.0, 81.0)), 60.0)
    for x in (-32.0, 32.0):
        canvas.paint(Ellipsoid((x, -80.0, -25.0), (12.0, 12.0, 12.0)), 150.0)


def _paint_brain(canvas: Canvas) -> None:
    """Paint fluid, grey matter, white matter, and the ventricles within."""
    canvas.paint(Ellipsoid((0.0, 3.0, 12.0), (62.0, 79.0, 76.0)), 150.0)
    cortex = Ellipsoid((0.0, 3.0, 12.0), (59.0, 76.0, 73.0))
    canvas.paint(cortex, 520.0, BRAIN)
    canvas.paint(Ellipsoid((0.0, 3.0, 12.0), (53.0, 70.0, 67.0)), 720.0)
    for x in (-20.0, 20.0):
        canvas.paint(Ellipsoid((x, -5.0, -2.0), (9.0, 14.0, 12.0)), 560.0)
    horns = tuple(Ellipsoid((side * 11.0, -2.0, 26.0), (7.5, 34.0, 11.0)) for side in (-1.0, 1.0))
    back = tuple(Tube((side * 12.0, 22.0, 24.0), (side * 27.0, 38.0, 2.0), 7.0, 5.0) for side in (-1.0, 1.0))
    canvas.paint(Within(AnyOf((*horns, *back)), (cortex,)), 140.0, VENTRICLES)


def _shade(canvas: Canvas) -> None:
    """Make one side brighter than the other, as near a coil."""
    scale = np.ones(canvas.intensity.shape, dtype=np.float32)
    for axis, weight in ((0, 1.0), (2, -0.6)):
        line = np.linspace(-1.0, 1.0, canvas.intensity.shape[axis], dtype=np.float32)
        shape = [1, 1, 1]
        shape[axis] = -1
        scale = scale + np.float32(UNEVENNESS * weight) * line.reshape(shape)
    canvas.intensity *= scale
