"""The method `lungs`: lungs, airways, bone and body from a CT."""

import numpy as np

from annotate_server.backends.classical.airways import find_airways
from annotate_server.backends.classical.body import Body, find_body
from annotate_server.backends.classical.bone import find_bone
from annotate_server.backends.classical.lungs import air_of, lungs_among
from annotate_server.backends.classical.method import Drawing
from annotate_server.backends.classical.pleura import completed, with_vessels
from annotate_server.backends.classical.refinement import STRUCTURES, Findings, at_full_resolution
from annotate_server.backends.classical.scan import Scan, scan_of
from annotate_server.backends.classical.sides import midline_mm, sides_of
from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume

__all__ = ["STRUCTURES", "draw"]


def draw(volume: Volume, control: Control) -> Drawing:
    """Return STRUCTURES on the volume's own grid."""
    control.report(0.0, "Reading the CT")
    scan = scan_of(volume)
    _check_hu(scan)
    control.check()
    control.report(0.15, "Looking for the body")
    body = find_body(scan)
    if body.is_empty:
        return Drawing(np.zeros(volume.geometry.shape, dtype=np.uint8), ("no patient was found in the volume",))
    found = _find(scan, body, control)
    control.report(0.6, "Drawing at full resolution")
    labels = at_full_resolution(scan, found)
    control.check()
    return Drawing(np.ascontiguousarray(scan.turned.undo(labels)), _notes(found))


def _find(scan: Scan, body: Body, control: Control) -> Findings:
    """Return everything that is found on the working grid."""
    control.report(0.25, "Looking for lungs and airways")
    lungs = lungs_among(scan, body, air_of(scan, body))
    control.check()
    lumen = find_airways(scan, body, lungs)
    air = sides_of(scan, lungs, lumen, midline_mm(scan, body))
    control.check()
    control.report(0.45, "Looking for bone")
    solid = with_vessels(scan, air)
    bone = find_bone(scan, body, solid.either)
    sides = completed(scan, body, solid, bone | lumen)
    return Findings(sides, sides.either & ~air.either, lumen, bone, body.region)


def _check_hu(scan: Scan) -> None:
    """Refuse a CT whose values are no HU: air at 0 and water at 1000 instead of -1000 and 0."""
    lowest, dense = float(scan.hu.min()), float(np.percentile(scan.hu, 95.0))
    if lowest >= -20.0 and dense > 700.0:
        raise NotMadeFor(
            f"its values run from {lowest:.0f} to {dense:.0f} and more: they are no Hounsfield units",
            remedy="Store the CT with its rescale intercept (usually -1024).",
        )


def _notes(found: Findings) -> tuple[str, ...]:
    """Return what a person should know about the result."""
    notes = []
    if not found.sides.either.any():
        notes.append("no lung was found in this volume; left lung, right lung and airways are empty")
    elif not found.lumen.any():
        notes.append("no trachea was found; airways are empty")
    if found.sides.left.any() != found.sides.right.any():
        notes.append("only one lung was found; check that its side is right")
    return tuple(notes)
