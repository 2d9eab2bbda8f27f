"""How an answer or an edit comes into a draft: pure functions on one box of it.

Locks are enforced here and nowhere else, whatever a model, a helper or a viewer sent: `kept_locked` for answers, which
lose what they may not have, and `check_edit` for edits, which are refused as a whole.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import InvalidLabelmap, LockedSegment
from annotate_server.domain.labelmap import LabelVoxels, Segment, present_indices

_MOST_SEGMENTS = 65535


def after_prompt(before: LabelVoxels, answer: LabelVoxels, active: int, locked: frozenset[int]) -> LabelVoxels:
    """Return a box of the draft after an answer about one segment; both (k, j, i), of one shape.

    In the answer, `active` is where the segment is now. Other segments are never overwritten: they are the segment's
    negatives.
    """
    after = before.copy()
    is_now, was = answer == active, before == active
    after[was & ~is_now] = 0
    after[is_now & (before == 0)] = active
    return kept_locked(before, after, locked)


def after_combination(
    before: LabelVoxels, answer: LabelVoxels, indices: Iterable[int], locked: frozenset[int]
) -> LabelVoxels:
    """Return a box of the draft after an answer that speaks about several segments: these are as it says."""
    after = before.copy()
    named = _is_one_of(before, indices)
    after[named] = 0
    given = (answer != 0) & ((before == 0) | named)
    after[given] = answer[given]
    return kept_locked(before, after, locked)


def after_draft(
    before: LabelVoxels, drafted: LabelVoxels, indices: Mapping[int, int], locked: frozenset[int]
) -> LabelVoxels:
    """Return a box of the draft after a model's whole draft of it.

    `indices` maps the model's indices to the session's. The model's segments are drawn anew, unless locked; segments
    that are not the model's stay, and so does what a person drew as such where the model would have something else.
    """
    table = np.zeros(int(np.iinfo(drafted.dtype).max) + 1, before.dtype)
    for theirs, ours in indices.items():
        table[theirs] = ours
    named = _is_one_of(before, set(indices.values()) - locked)
    after = before.copy()
    after[named] = 0
    translated = table[drafted]
    given = (translated != 0) & (after == 0)
    after[given] = translated[given]
    return kept_locked(before, after, locked)


def kept_locked(before: LabelVoxels, after: LabelVoxels, locked: frozenset[int]) -> LabelVoxels:
    """Return `after`, in place, with every voxel as it was that was or would become part of a locked segment."""
    if locked:
        kept = _is_one_of(before, locked) | _is_one_of(after, locked)
        np.copyto(after, before, where=kept)
    return after


def check_edit(before: LabelVoxels, after: LabelVoxels, segments: tuple[Segment, ...], locked: frozenset[int]) -> None:
    """Refuse an edit that names a segment that is not there, or touches a locked one.

    Raises InvalidLabelmap or LockedSegment; nothing is changed by either.
    """
    names = {segment.index: segment.name for segment in segments}
    unknown = present_indices(after) - set(names)
    if unknown:
        raise InvalidLabelmap(f"the edit holds {sorted(unknown)}, for which there is no segment")
    if not locked:
        return
    changed = before != after
    touched = locked & (present_indices(before * changed) | present_indices(after * changed))
    if touched:
        listing = ", ".join(sorted(names.get(index, str(index)) for index in touched))
        raise LockedSegment(f"the edit touches {listing}, which is locked", remedy="Unlock it first.")


def _is_one_of(voxels: LabelVoxels, indices: Iterable[int]) -> NDArray[np.bool_]:
    """Say for each voxel whether it has one of some indices: by a table, which is faster than comparing."""
    table = np.zeros(int(np.iinfo(voxels.dtype).max) + 1, np.bool_)
    table[list(indices)] = True
    found: NDArray[np.bool_] = table[voxels]
    return found


def matched(ours: tuple[Segment, ...], theirs: Iterable[Segment]) -> tuple[Mapping[int, int], tuple[Segment, ...]]:
    """Return which segment of a model is which of the session, by index, and the session's segments with new ones.

    By code (and side) where both have one, else by name without regard to case; never by position. A segment that the
    session lacks is added: under the model's index where that is free, else under the next free one.
    """
    segments, indices = list(ours), dict[int, int]()
    for segment in theirs:
        taken = set(indices.values())
        found = _same(segment, [other for other in segments if other.index not in taken])
        if found is None:
            found = replace(segment, index=_free_index(segment.index, segments), name=_free_name(segment, segments))
            segments.append(found)
        indices[segment.index] = found.index
    return indices, tuple(segments)


def free_index(segments: Iterable[Segment]) -> int:
    """Return the lowest index that no segment has."""
    return _free_index(1, list(segments))


def _same(segment: Segment, among: list[Segment]) -> Segment | None:
    """Return the segment that means the same; of several with its code, the one with its name."""
    name = segment.name.strip().casefold()
    coded = [other for other in among if segment.kind is not None and _code(other) == _code(segment)]
    named = [other for other in among if other.name.strip().casefold() == name and not _contradict(other, segment)]
    both = [other for other in coded if other in named]
    return next(iter((*both, *coded, *named)), None)


def _contradict(one: Segment, other: Segment) -> bool:
    """Say whether both are coded, and differently: they are then not the same, whatever they are called."""
    return one.kind is not None and other.kind is not None and _code(one) != _code(other)


def _code(segment: Segment) -> tuple[str, str, str] | None:
    """Return what a segment is, and on which side."""
    if segment.kind is None:
        return None
    return segment.kind.value, segment.kind.scheme, segment.laterality.value if segment.laterality else ""


def _free_index(wanted: int, among: list[Segment]) -> int:
    taken = {segment.index for segment in among}
    if wanted not in taken:
        return wanted
    free = next((index for index in range(1, _MOST_SEGMENTS + 1) if index not in taken), None)
    if free is None:
        raise InvalidLabelmap(f"a labelmap has at most {_MOST_SEGMENTS} segments")
    return free


def _free_name(segment: Segment, among: list[Segment]) -> str:
    taken = {other.name for other in among}
    name, number = segment.name, 2
    while name in taken:
        name, number = f"{segment.name} {number}", number + 1
    return name
