"""What the values of a labelmap mean, where a list beside the file says so, as MONAI Label keeps it."""

from collections.abc import Sequence

from annotate_server.domain.errors import InvalidLabelmap, InvalidRequest

LONGEST_NAME = 256
_MOST_SEGMENTS = 65535
Named = tuple[str, int]
"""The name of a segment and its number in the list."""


def listed_segments(entries: object) -> tuple[Named, ...]:
    """Return the segments of a `label_info`: a list of `{"name", "idx"}`, `background` under 0 left out.

    Raises InvalidRequest for what is no such list, or gives two segments one name or number.
    """
    if not isinstance(entries, list) or len(entries) > _MOST_SEGMENTS:
        raise InvalidRequest("label_info is no list")
    found, names = [], set[str]()
    for rank, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not _name(entry.get("name")):
            raise InvalidRequest("label_info holds an entry without a name")
        name, index = _name(entry["name"]), entry.get("idx", entry.get("id", rank))
        if index == 0 and name.lower() == "background":
            continue
        if not isinstance(index, int) or isinstance(index, bool) or not 1 <= index <= _MOST_SEGMENTS:
            raise InvalidRequest(f"label_info gives {name!r} no number from 1 to {_MOST_SEGMENTS}")
        if name in names:  # one name would then mean two sets of voxels
            raise InvalidRequest(f"label_info names {name!r} twice")
        names.add(name)
        found.append((name, index))
    if len({index for _, index in found}) < len(found):
        raise InvalidRequest("label_info gives two segments one number")
    return tuple(found)


def listed_names(names: object) -> tuple[Named, ...]:
    """Return the segments of `label_names`: an object of names and numbers, or a list in the order of its values.

    Raises InvalidRequest as `listed_segments` does.
    """
    if isinstance(names, dict):
        return listed_segments([{"name": name, "idx": number} for name, number in names.items()])
    if isinstance(names, list):
        drawn = [name for name in names if _name(name).lower() != "background"]
        return listed_segments([{"name": name} for name in drawn])
    raise InvalidRequest("label_names is no object and no list")


def names_by_rank_or_number(listed: Sequence[Named], values: Sequence[int]) -> tuple[tuple[int, str], ...]:
    """Return every value that a file of labels can hold and its name; `values` are those that occur.

    Slicer exports its segments as 1 to N in their order, whatever `idx` in `label_info` says: with a segment
    `background`, which it leaves out, the two disagree. Other clients mean `idx`. Where the values that occur fit
    only one of both, that one is taken; InvalidLabelmap where they fit neither, or both and these differ.
    """
    by_rank = tuple((rank, name) for rank, (name, _) in enumerate(listed, 1))
    by_index = tuple((index, name) for name, index in listed)
    is_as_slicer_counts = sorted(index for _, index in listed) == [index for _, index in listed]
    readings = (by_rank, by_index) if is_as_slicer_counts else (by_index,)
    fitting = [pairs for pairs in readings if set(values) <= {value for value, _ in pairs}]
    if not fitting:
        return names_by_number(listed, values)
    if len(fitting) == 2 and any(dict(by_rank)[v] != dict(by_index)[v] for v in values):
        raise InvalidLabelmap(
            "label_info numbers the segments otherwise than 1 to N, and the values fit both",
            remedy="Remove the segment `background`, or send a .seg.nrrd.",
        )
    return fitting[0]


def names_by_number(listed: Sequence[Named], values: Sequence[int]) -> tuple[tuple[int, str], ...]:
    """Return every value and its name where the numbers of the list are the values; InvalidLabelmap for others."""
    missing = sorted(set(values) - {index for _, index in listed})[:10]
    if missing:
        raise InvalidLabelmap(f"the label holds the values {missing}, which label_info does not name")
    return tuple((index, name) for name, index in listed)


def _name(value: object) -> str:
    """Return a name as a header can hold it: on one line, and of characters that can be written."""
    if not isinstance(value, str):
        return ""
    return "".join(letter if letter.isprintable() else " " for letter in value).strip()[:LONGEST_NAME]
