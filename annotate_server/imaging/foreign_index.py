"""The index of a MONAI Label datastore, `datastore_v2.json` or the older `datastore.json`, as far as it makes sense.

Whatever has not the form that it should have is left out as if it were not there: the files tell what there is.
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NEW, OLD = "datastore_v2.json", "datastore.json"
_MOST_BYTES = 256 << 20
"""A hundred times what 5,000 volumes with all their labels take."""
_LONGEST = 256
_LAST_S = 4102444800
"""The year 2100, in seconds."""
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """What an index says of a label; empty or None for what it does not say.

    `label_info` and `label_names` are what the values mean, as they stand there. `status`, `reviewer`, `comment` and
    `level` are what the reviewer module of 3D Slicer keeps.
    """

    made_at: datetime | None = None
    author: str = ""
    model: str = ""
    label_info: object = None
    label_names: object = None
    has_params: bool = False
    status: str = ""
    reviewer: str = ""
    comment: str = ""
    level: str = ""
    edited_at: datetime | None = None


@dataclass
class ForeignIndex:
    """Names of files, and what they are: volumes by file, labels by tag and file, those of the old layout by file."""

    volumes_folder: str = ""
    labels_folder: str = "labels"
    volumes: dict[str, str] = field(default_factory=dict)
    labels: dict[tuple[str, str], tuple[str, Told]] = field(default_factory=dict)
    old_labels: dict[str, tuple[str, str, Told]] = field(default_factory=dict)


def read_index(folder: Path) -> tuple[ForeignIndex, tuple[str, ...]]:
    """Return the index of a datastore and what has to be said of it: an empty one where it cannot be read."""
    path = next((folder / name for name in (NEW, OLD) if (folder / name).is_file()), None)
    if path is None:
        return ForeignIndex(), (f"There is no {NEW}: {_WITHOUT}",)
    try:
        if path.stat().st_size > _MOST_BYTES:
            return ForeignIndex(), (f"{path.name} has more than {_MOST_BYTES >> 20} MB and is not read: {_WITHOUT}",)
        content = json.loads(path.read_bytes() or b"null")
    except (OSError, ValueError, RecursionError):
        content = None
    objects = content.get("objects") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(objects, dict | list):
        return ForeignIndex(), (f"{path.name} is empty or damaged: {_WITHOUT}",)
    index = ForeignIndex(text_of(content.get("images_dir")), text_of(content.get("labels_dir")) or "labels")
    if isinstance(objects, dict):
        _take_new(index, objects)
    else:
        _take_old(index, objects)
    return index, ()


def text_of(value: object) -> str:
    """Return a text on one line and not too long; nothing for what is none."""
    if not isinstance(value, str):
        return ""
    return "".join(letter if letter.isprintable() else " " for letter in value).strip()[:_LONGEST]


def _take_new(index: ForeignIndex, objects: Mapping[str, object]) -> None:
    """Take in `{id: {image: {ext, info}, labels: {tag: {ext, info}}}}`."""
    for name, entry in objects.items():
        words = _object(entry)
        volume = _file(name)
        if "image" in words:
            index.volumes[_file(name, _object(words["image"]).get("ext"))] = volume
        for tag, label in _object(words.get("labels")).items():
            found = _object(label)
            index.labels[_file(tag), _file(name, found.get("ext"))] = (volume, _told(_object(found.get("info"))))


def _take_old(index: ForeignIndex, objects: list[object]) -> None:
    """Take in `[{image: {id}, labels: [{id, tag, info}]}]`, in which an id is the name of a file."""
    for entry in objects:
        words = _object(entry)
        name = _file(_object(words.get("image")).get("id"))
        if not name:
            continue
        index.volumes[name] = name
        for label in _listed(words.get("labels")):
            found = _object(label)
            file, tag = _file(found.get("id")), _file(found.get("tag"))
            index.old_labels[file] = (name, tag, _told(_object(found.get("info"))))


def _told(info: Json) -> Told:
    params, meta = info.get("params"), _object(info.get("segmentationMeta"))
    return Told(
        made_at=_moment(info.get("ts")),
        author=text_of(info.get("client_id")),
        model=text_of(info.get("model")),
        label_info=info.get("label_info") or None,
        label_names=_object(params).get("label_names") or None,
        has_params=isinstance(params, dict),
        status=text_of(meta.get("status")).lower(),
        reviewer=text_of(meta.get("approvedBy")),
        comment=text_of(meta.get("comment")),
        level=text_of(meta.get("level")),
        edited_at=_moment(meta.get("editTime")),
    )


def _moment(value: object) -> datetime | None:
    """Return a moment that is written in seconds since 1970."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LAST_S:
        return None
    return datetime.fromtimestamp(value, UTC)


def _file(name: object, suffix: object = "") -> str:
    """Return the name of a file, to be compared with names that are listed."""
    words = f"{name}{suffix}" if isinstance(name, str) and isinstance(suffix, str) else ""
    return unicodedata.normalize("NFC", words)


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _listed(value: object) -> Iterator[object]:
    yield from value if isinstance(value, list) else ()


_WITHOUT = (
    "volumes and labels are taken as the folders list them, without their authors, verdicts and the names of their "
    "values (--labels names them)."
)
