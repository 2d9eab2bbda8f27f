"""Keys: what a volume of a folder is called by people and in manifests."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from annotate_server.domain.case import StoredVolume
from annotate_server.imaging.dicom_listing import with_key
from annotate_server.stores.scan_index import Copies


def keyed(series: Iterable[tuple[str, Copies]], folder: Path) -> Iterator[StoredVolume]:
    """Yield the volumes of a scan with their keys, sorted by these.

    A key is the path, relative to `folder`, of the file or of the folder that holds the series; where several series
    share a folder, `~` and the end of the series' UID follow. A part of a series adds `#` and its name.
    """
    copies = [(_place(copy, folder), key, copy) for key, found in series for copy in found]
    shared = Counter(place for place, _, _ in copies)
    names: dict[str, list[tuple[str, tuple[StoredVolume, ...]]]] = defaultdict(list)
    for place, key, copy in copies:
        name = place if shared[place] == 1 else f"{place}~{_short(copy[0].series_uid or key)}"
        names[name].append((key, copy))
    for name in sorted(names):
        for number, (_, copy) in enumerate(sorted(names[name], key=lambda pair: pair[0]), 1):
            for stored in copy:
                yield with_key(stored, name if number == 1 else f"{name}-{number}")


def _place(copy: tuple[StoredVolume, ...], folder: Path) -> str:
    """Return the path of what holds a series: its one file, or the folder that its files have in common."""
    files = sorted({path for stored in copy for path in stored.files})
    path = files[0] if len(files) == 1 else Path(os.path.commonpath([files[0].parent, files[-1].parent]))
    relative = path.relative_to(folder)
    name = relative.as_posix() if relative.parts else folder.name
    # A name that is no UTF-8 could not be printed.
    return os.fsencode(name).decode("utf-8", "replace")


def _short(uid: str) -> str:
    """Return the end of a UID, or of a digest of what stands for one: files are not trusted with what they call it."""
    tail = "".join(c for c in uid[-12:] if c.isdigit())[-8:]
    return tail if len(tail) >= 4 and uid.replace(".", "").isdigit() else hashlib.sha256(uid.encode()).hexdigest()[:8]
