"""Which segment of a label is which segment of a model."""

from dataclasses import dataclass

from annotate_server.domain.errors import InvalidLabelmap
from annotate_server.domain.labelmap import Labelmap, Segment


@dataclass(frozen=True)
class Matching:
    """The model's segments that a label speaks about, each with its index there, and the label's other ones.

    The index is None where the label could have held the segment and has no voxel of it: it is then known to be empty.
    """

    pairs: tuple[tuple[Segment, int | None], ...]
    ignored: tuple[str, ...]


def match_segments(truth: Labelmap, segments: tuple[Segment, ...]) -> Matching:
    """Match a label's segments to a model's, by name where the label has names, else by index.

    Names are compared without regard to case and surrounding blanks. A label without names ("Segment 3" for index 3, as
    a NIfTI file gives it) says of every index whether it is there; one with names says nothing about a segment that it
    does not list, which is therefore left out of the case. Raises InvalidLabelmap where nothing matches.
    """
    if all(_is_unnamed(segment) for segment in truth.segments):
        listed = {segment.index for segment in truth.segments}
        known = {segment.index for segment in segments}
        pairs = tuple((segment, segment.index if segment.index in listed else None) for segment in segments)
        ignored = tuple(segment.name for segment in truth.segments if segment.index not in known)
    else:
        by_name = {_key(segment): segment.index for segment in truth.segments}
        names = {_key(segment) for segment in segments}
        pairs = tuple((segment, by_name[_key(segment)]) for segment in segments if _key(segment) in by_name)
        ignored = tuple(segment.name for segment in truth.segments if _key(segment) not in names)
    if truth.segments and all(index is None for _, index in pairs):
        raise InvalidLabelmap(
            f"the label holds {_listing(truth.segments)} and the model {_listing(segments)}: none of them match",
            remedy="Name the label's segments as the model does, or give them its indices.",
        )
    return Matching(pairs, ignored)


def _is_unnamed(segment: Segment) -> bool:
    return segment.name == f"Segment {segment.index}"


def _key(segment: Segment) -> str:
    return segment.name.strip().casefold()


def _listing(segments: tuple[Segment, ...]) -> str:
    return ", ".join(f"{segment.name!r} ({segment.index})" for segment in segments) or "nothing"
