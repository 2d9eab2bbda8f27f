"""What a walk changes in what is known of a folder: new and changed files are looked into, and nothing else is."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from annotate_server.imaging.dicom_header import DicomHeader
from annotate_server.imaging.dicom_listing import unnamed_volumes
from annotate_server.imaging.isolation import Isolated
from annotate_server.stores.file_look import Look, look_into
from annotate_server.stores.folder_walk import Signature
from annotate_server.stores.scan_index import Change, Copies, KnownFile

BATCH = 20_000
"""Files that are looked into before what was found is remembered.

An interrupted scan goes on from there, and no more headers than these (2 kB each) are held in memory.
"""


@dataclass
class Census:
    """What is known of the files below `folder`; `known` is kept up to date while changes are found."""

    folder: Path
    isolated: Isolated
    known: dict[str, KnownFile]
    _members: dict[str, set[str]] = field(init=False)

    def __post_init__(self) -> None:
        """Sort what is known by series."""
        self._members = defaultdict(set)
        for name, file in self.known.items():
            self._members[file.series].add(name)

    def changes(self, found: Mapping[str, Signature]) -> Iterator[Change]:
        """Yield what a walk that found these files changes, in parts that can be remembered one by one."""
        gone = [name for name in self.known if name not in found]
        if gone:
            yield self._change({}, gone)
        fresh = [name for name in found if name not in self.known or self.known[name].signature != found[name]]
        for start in range(0, len(fresh), BATCH):
            yield self._change({name: found[name] for name in fresh[start : start + BATCH]}, ())

    def _change(self, fresh: Mapping[str, Signature], gone: Sequence[str]) -> Change:
        """Return what new and vanished files change, and take it in."""
        touched = {self._forget(name) for name in (*fresh, *gone)}
        look = look_into(list(fresh), self.folder, self.isolated)
        touched |= look.headers.keys()
        # A series is judged as a whole: the files of it that did not change are read again.
        known = {name: self.known[name].signature for key in touched - {""} for name in self._members[key]}
        again = look_into(list(known), self.folder, self.isolated)
        signatures = {**fresh, **known}
        files = {
            name: KnownFile(signatures[name], key) for found in (look, again) for name, key in found.series.items()
        }
        for name, file in files.items():
            self._forget(name)
            self.known[name] = file
            self._members[file.series].add(name)
        return Change(files, gone, _series(touched - {""}, look, again))

    def _forget(self, name: str) -> str:
        """Forget a file and return the series that it was in; empty for a new one."""
        file = self.known.pop(name, None)
        if file is None:
            return ""
        self._members[file.series].discard(name)
        return file.series


def _series(touched: set[str], look: Look, again: Look) -> dict[str, Copies]:
    """Return what the touched series hold now; one without files holds nothing."""
    series: dict[str, Copies] = {key: _copies([*look.headers[key], *again.headers[key]]) for key in touched}
    for found in (look, again):
        series |= {key: ((stored,),) for key, stored in found.single.items()}
    return series


def _copies(headers: Sequence[DicomHeader]) -> Copies:
    """Return the volumes of a series, folder by folder where the same instance lies in more than one folder."""
    folders: dict[str, set[Path]] = defaultdict(set)
    for header in headers:
        if header.sop_instance:
            folders[header.sop_instance].add(header.path.parent)
    if all(len(places) == 1 for places in folders.values()):
        return (unnamed_volumes(headers),) if headers else ()
    apart: dict[Path, list[DicomHeader]] = defaultdict(list)
    for header in sorted(headers, key=lambda header: str(header.path)):
        apart[header.path.parent].append(header)
    return tuple(unnamed_volumes(copy) for copy in apart.values())
