"""From the files of one series to the volumes in it: slices sorted into parts, each judged by itself.

A series may hold several volumes: two orientations (a localizer), two matrix sizes, several b-values, echoes, phases.
Orientation and size always separate (`dicom_slices`); anything else only where two slices lie at one place and it tells
them apart (`dicom_traits`).
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from annotate_server.domain.errors import AnnotateError, NotMadeFor, UntrustedGeometry
from annotate_server.domain.volume import Acquisition
from annotate_server.imaging.dicom_frames import Frame
from annotate_server.imaging.dicom_geometry import Stack, stack
from annotate_server.imaging.dicom_header import DicomHeader
from annotate_server.imaging.dicom_kind import damage, holds_no_volume
from annotate_server.imaging.dicom_planes import plane_problem
from annotate_server.imaging.dicom_slices import Named, Slice, by_form, by_orientation, by_size
from annotate_server.imaging.dicom_traits import joined, told_apart


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


def _groups(slices: Sequence[Slice]) -> list[Named]:
    """Return the slices of each volume with its name, none twice."""
    groups = [
        (joined(form, plane, size, name), group)
        for form, formed in by_form(slices)
        for plane, oriented in by_orientation(formed)
        for size, same in by_size(oriented)
        for name, group in told_apart(same)
    ]
    seen = Counter[str]()
    result = []
    for name, group in groups:
        seen[name] += 1
        result.append((name if seen[name] == 1 else f"{name} ({seen[name]})", group))
    return result
