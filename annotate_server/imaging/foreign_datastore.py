"""What lies in the datastore of a MONAI Label server: volumes, labels by tag, and what its index says of them.

The layout is that of `LocalDatastore` (MONAI Label 0.3 to 0.8.5: `datastore_v2.json`; before: `datastore.json`), which
is also the cache that it keeps of a DICOM archive. The folder is only read. Nothing of the index is believed: what it
names is compared with the names that the folders list, and no path is made of it.
"""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from annotate_server.domain.dicom_uids import is_uid
from annotate_server.domain.errors import UnreadableFile
from annotate_server.imaging.foreign_index import ForeignIndex, Told, read_index

ORIGINAL, FINAL = "original", "final"
_LABELS = "labels"
_OLD_LABEL = "label_"
_VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")


@dataclass(frozen=True)
class ForeignLabel:
    """A file of labels: `made_at` is when it was saved there, or else when the file was written."""

    tag: str
    path: Path
    told: Told
    made_at: datetime

    @property
    def is_by_a_model(self) -> bool:
        """Say whether nobody vouches for it: a model's answer is saved without a person and without `label_info`."""
        told = self.told
        return self.tag == ORIGINAL or (told.has_params and not told.author and told.label_info is None)


@dataclass(frozen=True)
class ForeignVolume:
    """A volume, a file or a folder of DICOM, under the name that it has there; its labels oldest first."""

    name: str
    path: Path
    labels: tuple[ForeignLabel, ...] = ()


@dataclass(frozen=True)
class Unplaced:
    """Something that cannot be brought in, and why: a volume, or its label of a tag."""

    name: str
    reason: str
    tag: str = ""


@dataclass(frozen=True)
class ForeignDatastore:
    """A datastore as it lies in its folder; `notes` are sentences about what its index does not say."""

    volumes: tuple[ForeignVolume, ...]
    unplaced: tuple[Unplaced, ...] = ()
    notes: tuple[str, ...] = ()


def read_foreign_datastore(folder: Path) -> ForeignDatastore:
    """Return what lies in a datastore, volumes sorted by name; no volume and no label is opened.

    Raises UnreadableFile where there is no such folder, or nothing in it that a datastore has.
    """
    if not folder.is_dir():
        raise UnreadableFile("there is no such folder", source=str(folder))
    index, notes = read_index(folder)
    found = _Listing(index)
    found.take_volumes(_below(folder, index.volumes_folder) or folder)
    labels = _below(folder, index.labels_folder) or _below(folder, _LABELS)
    if labels is not None:
        found.take_labels(labels)
    if not found.volumes:
        raise UnreadableFile(
            "there is no volume in it",
            source=str(folder),
            remedy="Name the folder that the MONAI Label server was started on with --studies.",
        )
    volumes = tuple(
        ForeignVolume(shown(name), path, tuple(sorted(found.labels.get(name, ()), key=_age)))
        for name, path in sorted(found.volumes.items())
    )
    return ForeignDatastore(volumes, (*found.unplaced, *found.absent()), notes)


@dataclass
class _Listing:
    """The folders listed, and compared with the index."""

    index: ForeignIndex
    volumes: dict[str, Path] = field(default_factory=dict)
    labels: dict[str, list[ForeignLabel]] = field(default_factory=dict)
    unplaced: list[Unplaced] = field(default_factory=list)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def take_volumes(self, folder: Path) -> None:
        """Take in the files of a folder that the index names or whose names promise a volume, and series of DICOM."""
        series = {}
        for entry in _listed(folder):
            name = comparable(entry.name)
            known = self.index.volumes.get(name)
            if entry.is_dir():
                if is_uid(name) and "." in name:
                    series[name] = Path(entry.path)
            elif known is not None or (_is_volume(name) and not entry.name.startswith(".")):
                self._add_volume(known or _stem(name), Path(entry.path))
        # In the cache of an archive a series lies beside the file that was made of it: the series is the original.
        self.volumes.update(series)

    def _add_volume(self, name: str, path: Path) -> None:
        if name in self.volumes:
            self.unplaced.append(Unplaced(shown(name), f"{shown(path.name)} has the name of another volume"))
        else:
            self.volumes[name] = path

    def take_labels(self, folder: Path) -> None:
        """Take in the files in the folders of the tags, and those of the old layout beside them."""
        for entry in _listed(folder):
            if entry.is_file():
                self._take_old(Path(entry.path))
                continue
            tag = comparable(entry.name)
            for file in _listed(Path(entry.path)):
                if file.is_file() and not file.name.startswith("."):
                    name = comparable(file.name)
                    known = self.index.labels.get((tag, name))
                    self._add_label(tag, Path(file.path), known or (self._volume_of(name), Told()))

    def _take_old(self, path: Path) -> None:
        """Take in a label of the layout before tags had folders: `label_<tag>_<volume>`."""
        name = comparable(path.name)
        known = self.index.old_labels.get(name)
        if known is not None:
            volume, tag, told = known
            self._add_label(tag, path, (volume, told))
        elif name.startswith(_OLD_LABEL):
            tag, _, rest = name.removeprefix(_OLD_LABEL).partition("_")
            self._add_label(tag, path, (self._volume_of(rest), Told()))

    def _add_label(self, tag: str, path: Path, known: tuple[str, Told]) -> None:
        volume, told = known
        self._seen.add((tag, comparable(path.name)))
        if volume not in self.volumes:
            self.unplaced.append(Unplaced(shown(path.name), "there is no volume of its name", shown(tag)))
            return
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        label = ForeignLabel(shown(tag), path, told, told.made_at or written)
        self.labels.setdefault(volume, []).append(label)

    def _volume_of(self, name: str) -> str:
        """Return the volume that a file of labels belongs to by its name: the longest that it begins with."""
        parts = name.split(".")
        stems = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
        return next((stem for stem in stems if stem in self.volumes), _stem(name))

    def absent(self) -> Iterator[Unplaced]:
        """Yield what the index names and no folder lists."""
        for name in dict.fromkeys(self.index.volumes.values()):
            if name not in self.volumes:
                yield Unplaced(shown(name), "the index names it, and there is no such file")
        named = [(tag, file, volume) for (tag, file), (volume, _) in self.index.labels.items()]
        named += [(tag, file, volume) for file, (volume, tag, _) in self.index.old_labels.items()]
        for tag, file, volume in named:
            if volume in self.volumes and (tag, file) not in self._seen:
                yield Unplaced(shown(volume), "the index names this label, and there is no such file", shown(tag))


def comparable(name: str) -> str:
    """Return a name such that two systems that write the same letters otherwise agree."""
    return unicodedata.normalize("NFC", name)


def shown(name: str) -> str:
    """Return a name as a line of a terminal or a database can hold it."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)[:200]


def _listed(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise UnreadableFile(f"it cannot be looked into ({error.strerror})", source=str(folder)) from error


def _below(folder: Path, words: str) -> Path | None:
    """Return the folder that some words name, each step of it as listed; None where there is none, or it is outside."""
    steps = words.replace("\\", "/").split("/")
    if words and not steps[0]:
        return None
    for word in steps:
        if word not in ("", "."):
            step = next((e for e in _listed(folder) if e.name == word and e.is_dir() and not e.is_symlink()), None)
            if step is None:
                return None
            folder = Path(step.path)
    return folder


def _is_volume(name: str) -> bool:
    lower = name.lower()
    return lower.endswith(_VOLUME_SUFFIXES) and not lower.endswith(".seg.nrrd")


def _stem(name: str) -> str:
    suffix = next((each for each in _VOLUME_SUFFIXES if name.lower().endswith(each)), "")
    return name[: len(name) - len(suffix)]


def _age(label: ForeignLabel) -> tuple[datetime, bool, str]:
    return label.made_at, label.tag == FINAL, label.tag
