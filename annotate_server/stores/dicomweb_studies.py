"""The volumes of a DICOM archive: found by QIDO-RS, judged by their metadata, fetched when they are first needed.

Fulfils `ports.StudySource`, `archive.ArchivedFiles` and `archive.InstanceArchive`. Nothing that the archive sends is
looked into in this process but lists of identifiers.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.dicom_uids import is_uid
from annotate_server.domain.errors import (
    AnnotateError,
    ArchiveRefused,
    InputError,
    NoSpace,
    TooLarge,
    TryLater,
    UnreadableFile,
)
from annotate_server.imaging.dicom_header import DicomHeader
from annotate_server.imaging.dicom_instances import MetadataPlace, PartSlices
from annotate_server.imaging.dicom_listing import with_key
from annotate_server.imaging.dicom_metadata import instance_file
from annotate_server.imaging.isolation import Isolated, allowance_s
from annotate_server.imaging.related_parts import DICOM, RELATED, PartFiles, parameters
from annotate_server.imaging.whole_file import PART_PREFIX, refused_by_disk
from annotate_server.stores.archive_folder import ArchiveFolder
from annotate_server.stores.dicomweb_answers import FoundSeries, failure_of, searched
from annotate_server.stores.dicomweb_line import JSON_TYPE, ArchiveLine, bounded
from annotate_server.stores.folder_walk import Signature
from annotate_server.stores.scan_index import Change, Copies, IndexDamaged, IndexUnusable, KnownFile, ScanIndex

log = logging.getLogger(__name__)

_MOST_METADATA_BYTES = 512 << 20
_NOBODY = PatientKey("", "", known=False)


@dataclass
class ArchiveStudies:
    """The CT and MR series of an archive; what is known of them lies below `folder`.

    A scan looks into the metadata of series that are new or have grown, for `look_s` at most: `has_more` says whether
    another scan would find more, so that the first cases of a large archive are there soon.
    """

    line: ArchiveLine
    folder: Path
    files: ArchiveFolder
    isolated: Isolated
    look_s: float = 20.0
    clock: Callable[[], float] = time.monotonic
    has_more: bool = field(default=False, init=False)

    def scan(self) -> Iterator[StoredVolume]:
        """Yield what is there, headers only, unusable ones with their problem, sorted by series.

        Raises ArchiveUnreachable, ArchiveTooSlow or ArchiveRefused where the archive cannot be searched.
        """
        found = {each.series: each for each in searched(self.line)}
        known, problems = self._brought_up_to_date(found)
        for series, volumes in sorted({**problems, **known}.items()):
            yield from (with_key(stored, series) for stored in volumes)

    def has(self, stored: StoredVolume) -> bool:
        """Say whether a volume comes from this archive."""
        return stored.format is Format.DICOM and all(file.is_relative_to(self.files.folder) for file in stored.files)

    @contextmanager
    def held(self, stored: StoredVolume) -> Iterator[None]:
        """Bring the files of a volume here, unless it comes from elsewhere, and keep them for as long as the block."""
        if not self.has(stored):
            yield
            return
        with self.files.held(stored.files[0].parent.name) as folder:
            with self.files.turn(folder.name):
                if not all(file.exists() for file in stored.files):
                    self._fetch(stored, folder)
            yield

    def slices(self, stored: StoredVolume) -> PartSlices:
        """Return which frame of which instance is slice k of a volume, without fetching it."""
        with self._metadata(stored.study_uid or "", stored.series_uid or "") as path:
            place = MetadataPlace(path, stored.files[0].parent, stored.part)
            answer = self.isolated.call("archive slices", place, allowance_s=allowance_s((path,)), source=stored.key)
        return cast("PartSlices", answer)

    def store(self, file: Path) -> None:
        """Send a DICOM file; returns when the archive says that it has it."""
        response = self.line.posted("/studies", file, secrets.token_hex(16))
        reason = failure_of(response.content)
        if response.status_code in (200, 202) and reason is None:
            return
        said = f"the reason {reason}" if reason else f"the status {response.status_code}"
        raise ArchiveRefused(f"the archive did not keep the label ({said})", remedy="Its log says why.")

    def _brought_up_to_date(
        self, found: Mapping[str, FoundSeries]
    ) -> tuple[dict[str, tuple[StoredVolume, ...]], dict[str, tuple[StoredVolume, ...]]]:
        """Return what the series hold as far as that is known, and those that the archive would not describe."""
        path = self.folder / "index.sqlite"
        try:
            return self._looked(path, found)
        except IndexDamaged:
            log.warning("the index of the archive was damaged and is made again", extra={"action": "scan"})
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        except IndexUnusable as error:
            log.warning("the scan is not remembered: %s", error, extra={"action": "scan"})
            return self._looked(None, found)
        return self._looked(path, found)

    def _looked(
        self, path: Path | None, found: Mapping[str, FoundSeries]
    ) -> tuple[dict[str, tuple[StoredVolume, ...]], dict[str, tuple[StoredVolume, ...]]]:
        problems: dict[str, tuple[StoredVolume, ...]] = {}
        until = self.clock() + self.look_s
        with closing(ScanIndex(path, self.files.folder)) as index:
            known = index.files()
            gone = [series for series in known if series not in found]
            if gone:
                index.apply(Change(gone=gone, series=dict.fromkeys(gone, ())))
            fresh = [each for each in found.values() if known.get(each.series) != _known(each)]
            for number, each in enumerate(fresh):
                self.has_more = number > 0 and self.clock() > until
                if self.has_more:
                    break
                try:
                    copies: Copies = (self._volumes(each),)
                except InputError as error:
                    copies = ((self._unusable(each, error),),)
                except TryLater:
                    raise
                except AnnotateError as error:  # the archive's own trouble may be over with the next scan
                    problems[each.series] = (self._unusable(each, error),)
                    continue
                index.apply(Change(files={each.series: _known(each)}, series={each.series: copies}))
            else:
                self.has_more = False
            return {series: volumes for series, copies in index.series() for volumes in copies}, problems

    def _volumes(self, found: FoundSeries) -> tuple[StoredVolume, ...]:
        """Return the volumes of a series from its metadata."""
        with self._metadata(found.study, found.series) as path:
            place = MetadataPlace(path, self._folder_of(found.series))
            allowed = allowance_s((path,))
            answer = self.isolated.call("archive volumes", place, allowance_s=allowed, source=found.series)
        volumes = cast("tuple[StoredVolume, ...]", answer)
        if any((each.study_uid, each.series_uid) != (found.study, found.series) for each in volumes):
            raise UnreadableFile("its metadata is that of another series", source=found.series)
        return volumes

    @contextmanager
    def _metadata(self, study: str, series: str) -> Iterator[Path]:
        """Give the metadata of a series as a file, gone after the block."""
        if not (is_uid(study) and is_uid(series)):
            raise UnreadableFile("the series has no identifiers")
        with TemporaryDirectory(dir=self.folder, prefix=PART_PREFIX) as scratch:
            path = Path(scratch) / "metadata.json"
            place = f"/studies/{study}/series/{series}/metadata"
            answered = self.line.answered("GET", place, {"Accept": JSON_TYPE})
            with answered as response, refused_by_disk(path), path.open("xb") as file:
                for chunk in bounded(response.iter_bytes(), _MOST_METADATA_BYTES):
                    file.write(chunk)
            yield path

    def _fetch(self, stored: StoredVolume, folder: Path) -> None:
        """Bring the files of a series here."""
        if not (is_uid(stored.study_uid) and is_uid(stored.series_uid)):
            raise ArchiveRefused("the series has no identifiers to ask for it by", source=stored.key)
        with self.files.made(folder.name) as part:
            received = self._received(f"/studies/{stored.study_uid}/series/{stored.series_uid}", part)
            count = self._named(received, stored, part)
            missing = sum(not (part / file.name).exists() for file in stored.files)
            if missing:
                raise ArchiveRefused(
                    f"it sent {count} instances, and {missing} of the volume's {len(stored.files)} are not among them",
                    source=stored.key,
                    remedy="The next look at the archive takes note of what it has.",
                )
        log.info("a series was fetched (%d instances)", count, extra={"action": "fetch"})

    def _received(self, path: str, part: Path) -> list[Path]:
        """Return the instances of an answer as files in a folder."""
        wanted = {"Accept": f'{RELATED}; type="{DICOM}"; transfer-syntax=*'}
        with self.line.answered("GET", path, wanted) as response:
            kind, words = parameters(response.headers.get("content-type", ""))
            boundary = words.get("boundary", "")
            if kind != RELATED or not 1 <= len(boundary) <= 70 or not boundary.isascii():
                raise ArchiveRefused("it did not answer with DICOM files in parts")
            parts = PartFiles(part, boundary, is_synced=True)
            try:
                for chunk in bounded(response.iter_bytes(), self.files.most_bytes):
                    parts.write(chunk)
                parts.finish()
            except TooLarge as error:
                raise NoSpace(
                    "the series is larger than the room for instances of the archive",
                    remedy="Raise ANNOTATE_ARCHIVE_CACHE_BYTES.",
                ) from error
            except UnreadableFile as error:
                raise ArchiveRefused(f"what it sent cannot be used: {error.detail}") from error
            finally:
                parts.close()
            return parts.files

    def _named(self, received: list[Path], stored: StoredVolume, part: Path) -> int:
        """Name files after the instances that they hold, and return how many belong to the series."""
        count = 0
        for outcome in self.isolated.each("dicom header", received, source=lambda path: path.name):
            header = outcome.answer
            if isinstance(header, DicomHeader) and header.series == stored.series_uid:
                outcome.item.replace(instance_file(part, header.sop_instance))
                count += 1
            else:
                outcome.item.unlink()
        return count

    def _folder_of(self, series: str) -> Path:
        return self.files.folder / hashlib.sha256(series.encode()).hexdigest()[:32]

    def _unusable(self, found: FoundSeries, error: AnnotateError) -> StoredVolume:
        return StoredVolume(
            "",
            Format.DICOM,
            (self._folder_of(found.series) / "none",),
            _NOBODY,
            found.modality,
            study_uid=found.study,
            series_uid=found.series,
            problem=type(error)(error.detail, remedy=error.remedy).problem(),
        )


def _known(found: FoundSeries) -> KnownFile:
    """Return what a series is remembered by: it is looked into again when it has another number of instances."""
    return KnownFile(Signature(found.instances, 0, 0), found.series)


def archive_studies(line: ArchiveLine, workspace: Path, most_bytes: int, isolated: Isolated) -> ArchiveStudies:
    """Return the studies of an archive; what is kept of it lies in a folder of the workspace of its own."""
    folder = workspace / "archive" / hashlib.sha256(line.root.encode()).hexdigest()[:16]
    return ArchiveStudies(line, folder, ArchiveFolder(folder / "series", most_bytes), isolated)
