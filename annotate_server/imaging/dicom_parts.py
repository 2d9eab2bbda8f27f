"""From the files of one series to the volumes in it: slices sorted into parts, each judged by itself.

A series may hold several volumes: two orientations (a localizer), two matrix sizes, several b-values, echoes, phases.
Orientation and size always separate; anything else only where two slices lie at one place and it tells them apart, so
that an acquisition number that merely counts slices splits nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from annotate_server.domain.errors import AnnotateError, NotMadeFor, UntrustedGeometry
from annotate_server.domain.volume import Acquisition
from annotate_server.imaging.dicom_frames import Frame
from annotate_server.imaging.dicom_geometry import Stack, stack
from annotate_server.imaging.dicom_header import DicomHeader
from annotate_server.imaging.dicom_kind import damage, holds_no_volume
from annotate_server.imaging.dicom_planes import SAME_PLACE_MM, along_normal_mm, axes_of, plane_problem

SAME_DIRECTION = 2e-3
"""Directions this near to each other (0.1 degrees) are one orientation: headers are rounded."""


@dataclass(frozen=True)
class Slice:
    """One plane and the file that it is in."""

    header: DicomHeader
    frame: Frame


@dataclass(frozen=True)
class Part:
    """One volume of a series: its slices in order with their grid, or the problem why they are none.

    `name` is empty where the series is one volume, else what tells it from the others, as `b=800`.
    """

    name: str
    slices: tuple[Slice, ...]
    stack: Stack | None = None
    problem: AnnotateError | None = None

    @property
    def header(self) -> DicomHeader:
        """Return the header of the first file: what holds for all of them."""
        return self.slices[0].header


def parts_of(headers: Sequence[DicomHeader]) -> tuple[Part, ...]:
    """Return the volumes of the files of one series, always in the same order."""
    ordered = sorted(headers, key=lambda header: (bool(header.defect), header.instance, str(header.path)))
    others = [header for header in ordered if holds_no_volume(header)]
    images = [header for header in ordered if not holds_no_volume(header)]
    slices = _without_copies([Slice(header, frame) for header in images for frame in header.frames or (Frame(),)])
    return (*_volumes(slices), *_others(others, is_alone=not slices))


def _volumes(slices: Sequence[Slice]) -> list[Part]:
    """Return the parts of the images of a series; one damaged slice spoils them all, for it may belong to any."""
    if not slices:
        return []
    problem = next((found for s in slices if (found := damage(s.header) or plane_problem(s.frame))), None)
    if problem is not None:
        return [_judged(Part("", tuple(slices), None, problem))]
    return [_judged(_stacked(name, group)) for name, group in _groups(slices)]


def _others(headers: Sequence[DicomHeader], *, is_alone: bool) -> list[Part]:
    """Return a part for each reason why objects are no volume."""
    reasons: dict[str, list[DicomHeader]] = defaultdict(list)
    for header in headers:
        reasons[str(holds_no_volume(header))].append(header)
    parts = []
    for number, group in enumerate(reasons.values(), 1):
        name = "" if is_alone and len(reasons) == 1 else f"other {number}"
        planes = tuple(Slice(header, (header.frames or (Frame(),))[0]) for header in group)
        parts.append(Part(name, planes, None, holds_no_volume(group[0])))
    return parts


def _stacked(name: str, slices: Sequence[Slice]) -> Part:
    """Return slices of one orientation and size as a part."""
    header = slices[0].header
    try:
        grid = stack([s.frame for s in slices], (header.rows, header.columns), header.frame_of_reference or None)
    except (UntrustedGeometry, NotMadeFor) as error:
        return Part(name, tuple(slices), None, error)
    return Part(name, tuple(slices[index] for index in grid.order), grid)


def _judged(part: Part) -> Part:
    """Return a part whose problem, for a localizer, is that it is one: nobody misses a volume there."""
    words = {word.upper() for s in part.slices for word in s.frame.image_type}
    if part.problem is None or not Acquisition(image_type=tuple(words)).is_localizer:
        return part
    return Part(part.name, part.slices, None, NotMadeFor("it is a localizer, whose images form no volume"))


def _without_copies(slices: Sequence[Slice]) -> list[Slice]:
    """Return the slices without second files of one instance."""
    seen: set[Hashable] = set()
    kept = []
    for s in slices:
        instance = s.header.sop_instance or str(s.header.path)
        key = (instance, s.frame.number, s.frame.position_mm)
        if key not in seen:
            seen.add(key)
            kept.append(s)
    return kept


Named = tuple[str, list[Slice]]


def _groups(slices: Sequence[Slice]) -> list[Named]:
    """Return the slices of each volume with its name."""
    groups: list[Named] = []
    for form, formed in _by_form(slices):
        for plane, oriented in _by_orientation(formed):
            for size, same in _by_size(oriented):
                groups += [(_joined(form, plane, size, name), group) for name, group in _told_apart(same)]
    return _unique(groups)


def _unique(groups: Sequence[Named]) -> list[Named]:
    """Return the groups with no name twice."""
    seen = Counter[str]()
    result = []
    for name, group in groups:
        seen[name] += 1
        result.append((name if seen[name] == 1 else f"{name} ({seen[name]})", group))
    return result


def _joined(*names: str) -> str:
    return ", ".join(name for name in names if name)


def _by_form(slices: Sequence[Slice]) -> list[Named]:
    """Return single-frame and multi-frame files apart: some exports hold the same images in both forms."""
    single = [s for s in slices if len(s.header.frames) <= 1]
    multiple = [s for s in slices if len(s.header.frames) > 1]
    if single and multiple:
        return [("single-frame", single), ("multi-frame", multiple)]
    return [("", list(slices))]


def _by_orientation(slices: Sequence[Slice]) -> list[Named]:
    """Return the slices by orientation and frame of reference; several are named by the anatomical plane."""
    groups: list[list[Slice]] = []
    for s in slices:
        for group in groups:
            if _same_orientation(group[0], s):
                group.append(s)
                break
        else:
            groups.append([s])
    names = [_plane_name(group[0].frame) for group in groups]
    if len(groups) == 1:
        return [("", groups[0])]
    total, seen = Counter(names), Counter[str]()
    result = []
    for name, group in zip(names, groups, strict=True):
        seen[name] += 1
        result.append((name if total[name] == 1 else f"{name} {seen[name]} of {total[name]}", group))
    return result


def _same_orientation(a: Slice, b: Slice) -> bool:
    if a.header.frame_of_reference != b.header.frame_of_reference:
        return False
    return float(np.abs(np.subtract(a.frame.orientation or (), b.frame.orientation or ())).max()) <= SAME_DIRECTION


def _plane_name(frame: Frame) -> str:
    """Return the anatomical plane that a slice is nearest to."""
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(axes_of(frame)[0])))]


def _by_size(slices: Sequence[Slice]) -> list[Named]:
    """Return the slices by matrix and voxel size, named by these where there are several."""
    groups: dict[tuple[int, int, float, float], list[Slice]] = defaultdict(list)
    for s in slices:
        j, i = s.frame.spacing_mm or (1.0, 1.0)
        groups[s.header.rows, s.header.columns, float(f"{j:.4g}"), float(f"{i:.4g}")].append(s)
    if len(groups) == 1:
        return [("", list(slices))]
    return [(f"{rows}x{columns} at {j:g}x{i:g} mm", group) for (rows, columns, j, i), group in groups.items()]


Name = Callable[[int, Sequence[Hashable]], str]


@dataclass(frozen=True)
class _Trait:
    """Something that tells slices at one place apart; `name` names the n-th (from 0) of all its values."""

    value: Callable[[Frame], Hashable]
    name: Name


def _counted(noun: str) -> Name:
    """Return a name by number, from 1: values themselves are of no use to a reader."""
    return lambda number, _: f"{noun} {number + 1}"


def _b_value(number: int, values: Sequence[Hashable]) -> str:
    value = values[number]
    return f"b={value:g}" if isinstance(value, float) else "no b-value"


def _own_words(number: int, values: Sequence[Hashable]) -> str:
    """Return the words of an image type that the others do not all have; files are not trusted with punctuation."""
    every = [value for value in values if isinstance(value, tuple)]
    own = every[number] if len(every) == len(values) else ()
    kept = [word for word in own if not all(word in other for other in every)] or own
    return "/".join("".join(c for c in word if c.isalnum() or c in "_-+") for word in kept) or f"type {number + 1}"


_TRAITS = (
    _Trait(lambda frame: frame.b_value, _b_value),
    _Trait(lambda frame: frame.echo_ms, _counted("echo")),
    _Trait(lambda frame: frame.image_type, _own_words),
    _Trait(lambda frame: frame.stack, _counted("stack")),
    _Trait(lambda frame: frame.temporal, _counted("time")),
    _Trait(lambda frame: frame.acquisition, _counted("acquisition")),
    _Trait(lambda frame: frame.gradient, _counted("direction")),
)

_TIMES = (
    _Trait(lambda frame: frame.trigger_ms, _counted("phase")),
    _Trait(lambda frame: frame.time, _counted("time")),
)
"""Times differ from slice to slice as well: only their rank at each place names a volume."""


def _told_apart(slices: list[Slice]) -> list[Named]:
    """Return slices of one plane by what tells those at one place apart; as they are where nothing does."""
    places = _places(slices)
    most = max(Counter(places).values())
    if most == 1:
        return [("", slices)]
    for trait in _TRAITS:
        values = [trait.value(s.frame) for s in slices]
        # A trait with more values than slices at any place counts slices, not volumes.
        if 1 < len(set(values)) <= most and _varies_at_a_place(places, values):
            return _split(slices, values, trait.name)
    for trait in _TIMES:
        ranks = _ranks(places, [trait.value(s.frame) for s in slices])
        if ranks is not None:
            return _split(slices, ranks, trait.name)
    return [("", slices)]


def _split(slices: Sequence[Slice], values: Sequence[Hashable], name: Name) -> list[Named]:
    """Return the slices by value, each again told apart where it still must be."""
    ordered = sorted(set(values), key=lambda value: (value is not None, value))
    groups = []
    for number, value in enumerate(ordered):
        own = [s for s, mine in zip(slices, values, strict=True) if mine == value]
        groups += [(_joined(name(number, ordered), rest), group) for rest, group in _told_apart(own)]
    return groups


def _places(slices: Sequence[Slice]) -> list[int]:
    """Return for each slice the number of its place along the normal."""
    along = along_normal_mm([s.frame for s in slices])
    order = np.argsort(along, kind="stable")
    numbers = np.concatenate([[0], np.cumsum(np.diff(along[order]) > SAME_PLACE_MM)])
    places = np.empty(len(slices), dtype=np.int64)
    places[order] = numbers
    return [int(place) for place in places]


def _varies_at_a_place(places: Sequence[int], values: Sequence[Hashable]) -> bool:
    at: dict[int, set[Hashable]] = defaultdict(set)
    for place, value in zip(places, values, strict=True):
        at[place].add(value)
    return any(len(found) > 1 for found in at.values())


def _ranks(places: Sequence[int], values: Sequence[Hashable]) -> list[int] | None:
    """Return the rank of each slice's time at its place; None unless every place has the same number of times."""
    most = max(Counter(places).values())
    at: dict[int, list[Any]] = defaultdict(list)
    for place, value in zip(places, values, strict=True):
        at[place].append(value)
    if any(value in (None, "") for value in values) or {len(set(found)) for found in at.values()} != {most}:
        return None
    ordered = {place: sorted(found) for place, found in at.items()}
    return [ordered[place].index(value) for place, value in zip(places, values, strict=True)]
