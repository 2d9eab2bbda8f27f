"""The volumes below a folder: DICOM by content, NIfTI, MetaImage and NRRD beside them. Fulfils `ports.StudySource`.

What is there but cannot be drawn on is listed with its problem: of the type `not-made-for` where nobody would want to
(a report, a segmentation, a localizer, a screenshot; a batch skips it), else with what is wrong with it. A DICOMDIR,
hidden files and files that are obviously something else are left out.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.errors import UnreadableFile
from annotate_server.imaging.isolation import Isolated
from annotate_server.stores.file_patients import FilePatients
from annotate_server.stores.folder_census import Census
from annotate_server.stores.folder_walk import ClosedFolder, Signature, walk
from annotate_server.stores.scan_index import Copies, IndexDamaged, IndexUnusable, ScanIndex
from annotate_server.stores.volume_keys import keyed

log = logging.getLogger(__name__)


class FolderStudies:
    """The volumes below `root`, a folder or one file.

    Headers are read in the process of `isolated`. With `index`, a SQLite file, what was found is remembered, and a
    later scan looks only into files that are new or changed (size, time or inode) and their series.
    """

    def __init__(self, root: Path, isolated: Isolated, index: Path | None = None) -> None:
        """Do nothing yet."""
        self._root = root
        self._isolated = isolated
        self._index = index

    def scan(self) -> Iterator[StoredVolume]:
        """Yield what is there, headers only, unusable ones with their problem, sorted by key.

        Raises UnreadableFile where there is nothing at the root.
        """
        root = self._root.resolve()
        folder = root if root.is_dir() else root.parent
        signatures, closed = {}, []
        for entry in walk(root):
            if isinstance(entry, ClosedFolder):
                closed.append(entry)
            else:
                signatures[entry.name] = entry.signature
        patients = FilePatients(folder)
        for stored in keyed(self._series(root, folder, signatures), folder):
            yield stored if stored.format is Format.DICOM else _with_patient(stored, folder, patients)
        yield from (_unopened(entry, folder) for entry in closed)

    def _series(self, root: Path, folder: Path, found: Mapping[str, Signature]) -> list[tuple[str, Copies]]:
        """Return what the series hold, from the index as far as that still holds."""
        try:
            return self._brought_up_to_date(self._index, root, folder, found)
        except IndexDamaged:
            log.warning("the index of the scan was damaged or outdated and is made again", extra={"action": "scan"})
            _remove(self._index)
        except IndexUnusable as error:
            log.warning("the scan is not remembered: %s", error, extra={"action": "scan"})
            return self._brought_up_to_date(None, root, folder, found)
        return self._brought_up_to_date(self._index, root, folder, found)

    def _brought_up_to_date(
        self, path: Path | None, root: Path, folder: Path, found: Mapping[str, Signature]
    ) -> list[tuple[str, Copies]]:
        with closing(ScanIndex(path, root)) as index:
            for change in Census(folder, self._isolated, index.files()).changes(found):
                index.apply(change)
            return list(index.series())


def _remove(index: Path | None) -> None:
    """Remove the files of an index."""
    if index is not None:
        for suffix in ("", "-wal", "-shm"):
            index.with_name(index.name + suffix).unlink(missing_ok=True)


def _with_patient(stored: StoredVolume, folder: Path, patients: FilePatients) -> StoredVolume:
    return replace(stored, patient=patients.of(stored.files[0].relative_to(folder).as_posix()))


def _unopened(entry: ClosedFolder, folder: Path) -> StoredVolume:
    """Return an entry for what could not be looked into: it may be full of volumes."""
    problem = UnreadableFile(f"it cannot be looked into ({entry.reason})", source=entry.name).problem()
    patient = PatientKey("", entry.name, known=False)
    return StoredVolume(entry.name, Format.DICOM, (folder / entry.name,), patient, problem=problem)
