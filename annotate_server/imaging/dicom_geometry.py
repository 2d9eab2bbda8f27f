"""From the planes of a series to a regular grid, or the reason why there is none.

Judged on headers, before a voxel is read. The slices go by their position along the normal of the slice plane; the
spacing comes from the positions, never from SliceThickness. Nothing is sheared, guessed or filled in: a gantry tilt is
taken out by moving each slice in its own plane (`dicom_shear`), and a gap is refused with its place.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

import numpy as np

from annotate_server.domain.errors import NotMadeFor, UntrustedGeometry
from annotate_server.domain.geometry import Geometry
from annotate_server.imaging.dicom_frames import Frame
from annotate_server.imaging.dicom_planes import SAME_PLACE_MM, Array, along_normal_mm, axes_of, positions_mm

EXACT_MM = 0.01
"""A slice this near to the regular grid is on it, and nothing is said."""
JITTER_MM, JITTER_SHARE = 0.1, 0.01
"""Positions rounded to 0.1 mm by the scanner, or off by 1 % of the spacing, are taken for regular, with a warning."""
MOST_JITTER_SHARE = 0.2
GAP_SHARE = 0.15
"""A gap is whole slices that are missing if it is a multiple of the spacing within this share of it."""
LARGEST_TILT_DEGREES = 40.0
"""No gantry tilts further than 30 degrees; more shear than this is no tilt but a wrong header."""


@dataclass(frozen=True)
class Stack:
    """Planes put in order on a regular grid.

    `order` says which of the given planes is slice 0, 1 and so on; k runs along the normal (row x column). `shifts` is
    (slices, 2): how far, in voxels (j, i), the first voxel of a slice lies from that of the grid; None where every
    slice lies on the grid. `warnings` are sentences for a person.
    """

    order: tuple[int, ...]
    geometry: Geometry
    shifts: Array | None = None
    warnings: tuple[str, ...] = ()


def jitter_mm(spacing_mm: float) -> float:
    """Return how far a slice may lie from its place on the grid, for a spacing between slices."""
    return min(max(JITTER_MM, JITTER_SHARE * spacing_mm), MOST_JITTER_SHARE * spacing_mm)


def stack(frames: Sequence[Frame], shape: tuple[int, int], frame_of_reference: str | None) -> Stack:
    """Put planes of one orientation, spacing and shape (rows, columns) in order on a grid.

    Raises UntrustedGeometry with the reason, NotMadeFor for a single slice of unknown thickness.
    """
    if len(frames) == 1:
        return _single(frames[0], shape, frame_of_reference)
    axes = axes_of(frames[0])
    order = np.argsort(along_normal_mm(frames), kind="stable")
    positions = positions_mm(frames)[order]
    offsets = (positions - positions[0]) @ axes.T
    step = _regular_step(offsets[:, 0], float((positions @ axes[0])[0]))
    sideways, tilt = _sideways(offsets, step)
    spacing = frames[0].spacing_mm or (1.0, 1.0)
    shifts = None if tilt is None else sideways / np.array(spacing)
    rows, columns = shape
    origin = positions[0] + axes[0] * step.start
    if shifts is not None:
        start = np.floor(shifts.min(axis=0) + 1e-6)
        shifts = shifts - start
        rows, columns = (int(n) for n in np.array(shape) + np.ceil(shifts.max(axis=0) - 1e-6).astype(int))
        origin = origin + (start * spacing) @ axes[1:]
    affine = np.eye(4)
    affine[:3, :3] = axes.T * np.array([step.spacing, *spacing])
    affine[:3, 3] = origin
    geometry = Geometry.from_affine(affine, (len(frames), rows, columns), frame_of_reference)
    warnings = [sentence for sentence in (step.warning, tilt) if sentence]
    return Stack(tuple(int(index) for index in order), geometry, shifts, tuple(warnings))


def _single(frame: Frame, shape: tuple[int, int], frame_of_reference: str | None) -> Stack:
    """Return the grid of one slice, whose thickness stands for the spacing."""
    thickness = frame.thickness_mm
    if thickness is None or not math.isfinite(thickness) or not 0 < thickness < 1e3:
        raise NotMadeFor("it is a single slice of unknown thickness, which is no volume")
    affine = np.eye(4)
    affine[:3, :3] = axes_of(frame).T * np.array([thickness, *(frame.spacing_mm or (1.0, 1.0))])
    affine[:3, 3] = frame.position_mm or (0.0, 0.0, 0.0)
    warning = f"It is a single slice; its thickness of {thickness:g} mm was taken for the spacing."
    return Stack((0,), Geometry.from_affine(affine, (1, *shape), frame_of_reference), warnings=(warning,))


@dataclass(frozen=True)
class _Step:
    """The regular step along the normal: where slice 0 lies relative to the first position, spacing, and a remark."""

    start: float
    spacing: float
    warning: str = ""


def _regular_step(along: Array, first_mm: float) -> _Step:
    """Return the step of ascending positions along the normal, or raise the reason why there is none."""
    gaps = np.diff(along)
    _refuse_duplicates(gaps, along + first_mm)
    usual = float(median_low(gaps.tolist()))
    number = np.arange(len(along), dtype=np.float64)
    if gaps.max() - gaps.min() <= 2 * EXACT_MM:
        spacing, start = float(along[-1] / number[-1]), 0.0
    else:
        spacing, start = (float(value) for value in np.polyfit(number, along, 1))
    off = float(np.abs(along - (start + spacing * number)).max())
    if off <= EXACT_MM:
        return _Step(start, spacing)
    if off > jitter_mm(spacing):
        raise _irregular(gaps, along + first_mm, usual)
    remark = f"The slices lie up to {off:.2f} mm beside the regular spacing of {spacing:.3f} mm, which was used."
    return _Step(start, spacing, remark)


def _refuse_duplicates(gaps: Array, along: Array) -> None:
    """Refuse two slices at one place."""
    same = np.flatnonzero(gaps <= SAME_PLACE_MM)
    if same.size:
        number = len(set(same) | set(same + 1))
        raise UntrustedGeometry(
            f"{number} of {len(along)} slices lie at the place of another (the first at {along[same[0]]:.2f} mm along "
            "the slice normal), and no b-value, echo, phase or acquisition tells them apart"
        )


def _irregular(gaps: Array, along: Array, usual: float) -> UntrustedGeometry:
    """Return the reason why gaps are not regular: slices that are missing, or a spacing that varies."""
    whole = np.rint(gaps / usual)
    is_multiple = np.abs(gaps - whole * usual) <= GAP_SHARE * usual
    wide = np.flatnonzero(whole >= 2)
    if is_multiple.all() and 0 < wide.size * 2 <= len(gaps) + 1:
        number = int((whole[wide] - 1).sum())
        missing = "1 slice" if number == 1 else f"{number} slices"
        gap = wide[0]
        more = f" and {wide.size - 1} further gaps" if wide.size > 1 else ""
        return UntrustedGeometry(
            f"{missing} missing: between {along[gap]:.2f} mm and {along[gap + 1]:.2f} mm along the slice normal "
            f"(slices {gap + 1} and {gap + 2} of {len(along)}){more}, where slices are {usual:g} mm apart",
            remedy="Export the series again, complete.",
        )
    return UntrustedGeometry(
        f"the spacing between slices is not regular: from {gaps.min():.2f} mm to {gaps.max():.2f} mm (the largest gap "
        f"after {along[int(gaps.argmax())]:.2f} mm along the slice normal)",
        remedy="Use a reconstruction with equal spacing.",
    )


def _sideways(offsets: Array, step: _Step) -> tuple[Array, str | None]:
    """Return how far each slice lies beside the normal (slices, 2) in mm, and a remark where that is a tilt.

    Raises UntrustedGeometry where the slices are displaced without a rule.
    """
    number = np.arange(len(offsets), dtype=np.float64)
    sideways = offsets[:, 1:]
    drift = np.abs(sideways).max()
    if drift <= jitter_mm(step.spacing):
        return sideways, None
    slope = (number @ sideways) / (number @ number)
    rest = float(np.linalg.norm(sideways - np.outer(number, slope), axis=1).max())
    degrees = math.degrees(math.atan2(float(np.linalg.norm(slope)), step.spacing))
    if rest > jitter_mm(step.spacing):
        raise UntrustedGeometry(f"slices are displaced sideways without a rule, by up to {drift:.1f} mm")
    if degrees > LARGEST_TILT_DEGREES:
        raise UntrustedGeometry(f"the slices are sheared by {degrees:.0f} degrees, which no gantry does")
    return np.outer(number, slope), (
        f"The slices are sheared by {degrees:.1f} degrees (a tilted gantry): each was moved in its plane onto an "
        "upright grid, with linear interpolation."
    )
