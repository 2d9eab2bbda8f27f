"""Classical helpers: an order of a person, carried out on a draft, answered as a model answers a prompt.

**What an answer means.** `Prediction.box` is the smallest box that holds every voxel whose membership of the active
segment changes, empty where none does. In it `labels` has the active segment's index where the segment is afterwards
and 0 everywhere else. Voxels of other segments are never taken, and locked ones never change. Only `combine` may move
voxels of the other segment that it names: `segments` then holds both, the box holds every voxel that changes in
either, and `labels` has the other's index where the other is afterwards.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from annotate_server.domain.errors import InvalidLabelmap, InvalidRequest, LockedSegment
from annotate_server.domain.geometry import NOWHERE, Box
from annotate_server.domain.helper import Combination, HelperKind, HelperOrder, IslandRule
from annotate_server.domain.labelmap import Labelmap, Segment, labelmap_dtype
from annotate_server.domain.model import Prediction
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume
from annotate_server.imaging.editing.combining import combined
from annotate_server.imaging.editing.geodesic import filled_from, reach_of
from annotate_server.imaging.editing.holes import holes_by_slice, holes_in
from annotate_server.imaging.editing.interpolation import drawn_slices, gaps, in_plane_mm, interpolated
from annotate_server.imaging.editing.islands import island_at, islands_of, largest_part
from annotate_server.imaging.editing.margins import grown, shrunk
from annotate_server.imaging.editing.occupied import box_of_value
from annotate_server.imaging.editing.region_growing import connected_to, usual_range
from annotate_server.imaging.editing.smoothing import REACH_SIGMAS, smoothed
from annotate_server.imaging.editing.threshold import within_range
from annotate_server.workflows.helper_desk import Change, Desk, named

_WIDEST_SMOOTHING_MM = 15.0
"""A Gaussian as wide as the structures that are smoothed leaves little of them, and takes many seconds to say so."""
_FARTHEST_MM = 100.0
"""How far a fill or a margin may reach: a search of this radius through voxels of 0.8 mm takes seconds."""


def carry_out(
    order: HelperOrder,
    volume: Volume,
    draft: Labelmap,
    active: Segment,
    control: Control,
    *,
    locked: frozenset[int] = frozenset(),
) -> Prediction:
    """Carry out an order about the active segment; the module says how to read the answer.

    Nothing that comes in is written to. Raises InvalidRequest for an order that makes no sense here, LockedSegment
    where it would change a segment of an index in `locked`, InvalidLabelmap for a draft on another grid, Cancelled.
    """
    desk = Desk(order, volume, draft, active, control)
    _check(desk, locked)
    control.check()
    control.report(0.0, _SENTENCES[order.kind])
    if order.kind is HelperKind.COMBINE:
        return _combine(desk, locked)
    change = _KINDS[order.kind](desk)
    control.check()
    control.report(1.0, "Done")
    return _prediction(desk, change)


def warm_up() -> None:
    """Carry out what has compiled loops on next to nothing, so that the first person who asks does not wait."""
    seed, around = (1, 1, 1), (1.0, 1.0, 1.0)
    for kind in (np.uint16, np.uint8):
        labels = np.zeros((3, 3, 3), kind)
        labels.flags.writeable = False
        box_of_value(labels, 1)
    everywhere = labels == 0
    box_of_value(everywhere, 1)
    connected_to(everywhere, seed)
    filled_from(labels, everywhere, seed, around, 2.0)


def _check(desk: Desk, locked: frozenset[int]) -> None:
    """Refuse what no helper can work on."""
    if desk.active.index in locked:
        raise LockedSegment(f"the segment {desk.active.name!r} is locked", remedy="Unlock it first.")
    if not desk.draft.geometry.matches(desk.geometry):
        raise InvalidLabelmap("the draft lies on another grid than its volume")
    named(desk.draft, desk.active.index)
    for name in ("low", "high", "distance_mm", "volume_ml"):
        value = getattr(desk.order, name)
        if value is not None and not math.isfinite(value):
            raise InvalidRequest(f"{name} is not a finite number")
    if desk.order.seed_mm is not None and not np.isfinite(desk.order.seed_mm).all():
        raise InvalidRequest("seed_mm has a coordinate that is not a finite number")


def _threshold(desk: Desk) -> Change:
    """Make the segment what lies in the range and belongs to nobody else."""
    low, high = _ends(desk.order)
    within = desk.order.within
    if within is not None and within != desk.active.index:
        other = named(desk.draft, within).name
        raise InvalidRequest(
            f"a threshold within {other!r} would take its voxels",
            remedy=f"Make {other!r} the active segment, or combine the two.",
        )
    box = desk.whole if within is None else desk.extent()
    found = within_range(desk.volume.voxels[box.slices], low, high)
    desk.control.check()
    found &= desk.allowed(box) if within is None else desk.present(box)
    return Change(box, found)


def _ends(order: HelperOrder) -> tuple[float, float]:
    low, high = order.low, order.high
    if low is None or high is None:
        raise InvalidRequest(f"{order.kind} needs both low and high, or neither")
    return low, high


def _region_growing(desk: Desk) -> Change:
    """Add what hangs together with the seed within the range."""
    seed, order = desk.free_seed(), desk.order
    usual = order.low is None and order.high is None
    low, high = usual_range(desk.volume.voxels, seed, desk.spacing_mm) if usual else _ends(order)
    own = float(desk.volume.voxels[seed])
    if not low <= own <= high:
        raise InvalidRequest(f"the seed's own intensity ({own:g}) lies outside {low:g} to {high:g}")
    candidates = within_range(desk.volume.voxels, low, high)
    desk.control.check()
    candidates &= desk.allowed(desk.whole)
    desk.control.report(0.4, "Growing from the seed")
    found = connected_to(candidates, seed)
    box = box_of_value(found, 1) or NOWHERE
    notes = (f"Grown within {low:.4g} to {high:.4g}.",) if usual else ()
    return Change(box, found[box.slices] | desk.present(box), notes)


def _geodesic_fill(desk: Desk) -> Change:
    """Add what is near the seed, edges making the way long."""
    seed, distance = desk.free_seed(), desk.distance_mm(_FARTHEST_MM)
    box = reach_of(seed, distance, desk.spacing_mm, desk.geometry.shape)
    k, j, i = (place - first for place, first in zip(seed, box.start, strict=True))
    voxels = desk.volume.voxels[box.slices]
    found = filled_from(voxels, desk.allowed(box), (k, j, i), desk.spacing_mm, distance)
    return Change(box, found | desk.present(box))


def _smooth(desk: Desk) -> Change:
    """Smooth the segment's border where no other segment adjoins."""
    sigma = desk.distance_mm(_WIDEST_SMOOTHING_MM)
    box = desk.around(REACH_SIGMAS * sigma)
    others = ~desk.allowed(box)
    return Change(box, smoothed(desk.present(box), others, desk.spacing_mm, sigma))


def _fill_holes(desk: Desk) -> Change:
    """Add what the segment encloses."""
    box, order = desk.extent(), desk.order
    present = desk.present(box)
    holes = holes_by_slice(present, order.axis) if order.by_slice else holes_in(present)
    return Change(box, present | (holes & desk.allowed(box)))


def _islands(desk: Desk) -> Change:
    """Keep only the parts that the rule names."""
    box, order = desk.extent(), desk.order
    present = desk.present(box)
    match order.rule:
        case IslandRule.LARGEST:
            return Change(box, largest_part(present))
        case IslandRule.MINIMUM_SIZE:
            if order.volume_ml is None or order.volume_ml <= 0.0:
                raise InvalidRequest("islands by minimum-size needs a volume_ml above 0")
            # A part of exactly the volume stays, whatever the rounding of the division.
            return Change(box, islands_of(present, order.volume_ml / desk.geometry.voxel_ml - 1e-6))
        case IslandRule.AT_SEED:
            seed = desk.seed()
            if desk.draft.voxels[seed] != desk.active.index:
                raise InvalidRequest(f"the seed does not lie in {desk.active.name!r}")
            k, j, i = (place - first for place, first in zip(seed, box.start, strict=True))
            return Change(box, island_at(present, (k, j, i)))


def _interpolate(desk: Desk) -> Change:
    """Fill the slices between drawn ones."""
    box, axis = desk.extent(), desk.order.axis
    result = desk.present(box)
    drawn = drawn_slices(result, axis)
    if len(drawn) < 2:
        raise InvalidRequest(
            f"the segment {desk.active.name!r} is drawn on one slice across this axis",
            remedy="Draw it on two slices or more.",
        )
    empty = list(gaps(drawn))
    planes, pixel_mm = np.moveaxis(result, axis, 0), in_plane_mm(desk.spacing_mm, axis)
    for number, (before, after) in enumerate(empty):
        desk.control.check()
        desk.control.report(number / len(empty), f"Filling gap {number + 1} of {len(empty)}")
        between = interpolated(planes[before], planes[after], after - before - 1, pixel_mm)
        for level, area in enumerate(between, before + 1):
            planes[level] = area
    notes = () if empty else ("There is no empty slice between the drawn ones.",)
    return Change(box, result & desk.allowed(box), notes)


def _margin(desk: Desk) -> Change:
    """Grow the segment into what nobody owns, or shrink it."""
    margin = desk.order.distance_mm or 0.0
    if abs(margin) > _FARTHEST_MM:
        raise InvalidRequest(f"distance_mm is {margin:g}; a margin has at most {_FARTHEST_MM:g} mm")
    box = desk.around(abs(margin))
    present = desk.present(box)
    if margin > 0.0:
        return Change(box, present | (grown(present, desk.spacing_mm, margin) & desk.allowed(box)))
    return Change(box, shrunk(present, desk.spacing_mm, -margin) if margin else present)


def _combine(desk: Desk, locked: frozenset[int]) -> Prediction:
    """Combine the active segment with another one, whose voxels may move."""
    combination, other = desk.order.combination, named(desk.draft, desk.order.other or 0)
    if other.index == desk.active.index:
        raise InvalidRequest("a segment cannot be combined with itself")
    moves = combination in (Combination.UNION, Combination.COPY)
    if moves and other.index in locked:
        raise LockedSegment(f"{combination} would take the voxels of {other.name!r}, which is locked")
    boxes = [box_of_value(desk.draft.voxels, segment.index) for segment in (desk.active, other)]
    if boxes[1] is None:
        raise InvalidRequest(f"the segment {other.name!r} is empty")
    box = boxes[1].union(boxes[0]) if boxes[0] else boxes[1]
    owners = desk.draft.voxels[box.slices]
    before = (owners == desk.active.index, owners == other.index)
    after = combined(*before, combination)
    changed = (before[0] != after[0]) | (before[1] != after[1])
    inner = box_of_value(changed, 1) or NOWHERE
    segments = (desk.active, other)
    labels = np.zeros(inner.shape, labelmap_dtype(segments))
    for segment, place in zip(segments, after, strict=True):
        labels[place[inner.slices]] = segment.index
    desk.control.report(1.0, "Done")
    notes = () if moves else (f"{desk.active.name!r} and {other.name!r} share no voxel: segments of a layer never do.",)
    return Prediction(_at(inner, box), labels, segments, notes=notes)


def _prediction(desk: Desk, change: Change) -> Prediction:
    """Return the answer: the smallest box of what changes, and the segment in it."""
    inner = box_of_value(change.segment != desk.present(change.box), 1) or NOWHERE
    labels = np.zeros(inner.shape, labelmap_dtype((desk.active,)))
    labels[change.segment[inner.slices]] = desk.active.index
    return Prediction(_at(inner, change.box), labels, (desk.active,), notes=change.notes)


def _at(inner: Box, outer: Box) -> Box:
    """Return a box that counts from the start of another one in the whole grid; the empty one stays as it is."""
    if inner.is_empty:
        return NOWHERE
    a, b, c = outer.start
    (k, j, i), (l, m, n) = inner.start, inner.stop
    return Box((a + k, b + j, c + i), (a + l, b + m, c + n))


_KINDS: Mapping[HelperKind, Callable[[Desk], Change]] = {
    HelperKind.THRESHOLD: _threshold,
    HelperKind.REGION_GROWING: _region_growing,
    HelperKind.GEODESIC_FILL: _geodesic_fill,
    HelperKind.SMOOTH: _smooth,
    HelperKind.FILL_HOLES: _fill_holes,
    HelperKind.ISLANDS: _islands,
    HelperKind.INTERPOLATE: _interpolate,
    HelperKind.MARGIN: _margin,
}

_SENTENCES: Mapping[HelperKind, str] = {
    HelperKind.THRESHOLD: "Looking at intensities",
    HelperKind.REGION_GROWING: "Looking at intensities",
    HelperKind.GEODESIC_FILL: "Filling up to edges",
    HelperKind.SMOOTH: "Smoothing",
    HelperKind.FILL_HOLES: "Filling holes",
    HelperKind.ISLANDS: "Sorting islands",
    HelperKind.INTERPOLATE: "Interpolating slices",
    HelperKind.MARGIN: "Measuring distances",
    HelperKind.COMBINE: "Combining segments",
}
