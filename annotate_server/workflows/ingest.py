"""Ingest: what lies in the studies, or was uploaded, becomes cases. A renamed file is the same case."""

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from annotate_server.domain.archive import ArchivedFiles
from annotate_server.domain.case import Case, Format, StoredVolume, case_id
from annotate_server.domain.compute import Compute, VolumePlace
from annotate_server.domain.errors import (
    AnnotateError,
    NotFound,
    NotMadeFor,
    Problem,
    StateError,
    TryLater,
    UnsupportedInput,
    error_of,
)
from annotate_server.domain.ports import StudySource
from annotate_server.domain.store_ports import CaseStore, Identities
from annotate_server.domain.stored import KnownCase, VolumeFacts
from annotate_server.domain.volume import Acquisition
from annotate_server.workflows.fingerprint import fingerprint_of

log = logging.getLogger(__name__)

OpenSource = Callable[[Path], AbstractContextManager[StudySource]]


@dataclass
class Census:
    """What a scan found: the cases by id, and the problem of everything that could be none, by key."""

    cases: dict[str, Case] = field(default_factory=dict)
    refused: dict[str, Problem] = field(default_factory=dict)
    facts: dict[str, VolumeFacts] = field(default_factory=dict)
    unusable: list["Refused"] = field(default_factory=list)


@dataclass(frozen=True)
class Refused:
    """Something among the studies that can be no case, and why; `reason` names no file."""

    stored: StoredVolume
    kind: str
    reason: str

    @property
    def name(self) -> str:
        """Return what people may know it by: no folder of DICOM files, whose names are often those of patients."""
        if self.stored.format is Format.DICOM:
            return self.stored.description or "A DICOM series"
        return self.stored.key


@dataclass
class Ingest:
    """Takes volumes in. `open_source` gives what lies below a folder; `refused` is what the newest scan could not use.

    `taken` are told of the cases of every scan, whole, and of every upload (True). Files of volumes in `archived` need
    not be here.
    """

    cases: CaseStore
    identities: Identities
    compute: Compute
    open_source: OpenSource
    archived: ArchivedFiles | None = None
    taken: list[Callable[[Iterable[Case], bool], None]] = field(default_factory=list)
    refused: tuple[Refused, ...] = field(default=(), init=False)

    def scan(self, folder: Path) -> Census:
        """Bring the cases up to date with what lies below a folder; those that are gone are marked as missing."""
        census = self._census(folder)
        self._keep(census, is_uploaded=False)
        self.cases.keep_only(census.cases)
        self.refused = tuple(census.unusable)
        log.info("%d cases, %d not usable", len(census.cases), len(census.refused), extra={"action": "scan"})
        return census

    def upload(self, folder: Path) -> tuple[KnownCase, ...]:
        """Take in what was uploaded into a folder, which stays; returns the cases found in it.

        A case that is there already stays as it is. Raises the problem of the first volume where none can be used,
        UnsupportedInput where there is none at all, StateError for a known series with other voxels.
        """
        census = self._census(folder)
        if not census.cases:
            for problem in census.refused.values():
                raise error_of(problem)
            raise UnsupportedInput(
                "no volume was found in it", remedy="DICOM (one .zip), NIfTI, MetaImage and NRRD are read."
            )
        found = tuple(census.cases)
        for identity in found:
            if self._is_settled(census.cases[identity]):
                del census.cases[identity]
        self._keep(census, is_uploaded=True)
        return tuple(self.cases.get(identity) for identity in found)

    def _is_settled(self, case: Case) -> bool:
        """Say whether a case is on the server with its files, so that an upload of the same changes nothing.

        Raises StateError where the upload holds other voxels: what was drawn belongs to those that are there.
        """
        try:
            known = self.cases.get(case.id)
        except NotFound:
            return False
        there = known.case.reference
        is_elsewhere = self.archived is not None and self.archived.has(there)
        are_there = not known.is_missing and (is_elsewhere or all(path.exists() for path in there.files))
        if known.facts is None:
            return are_there and not known.is_uploaded
        stored = case.reference
        if stored.series_uid and self.compute.facts(VolumePlace(stored)).digest != known.facts.digest:
            raise StateError(
                "this series is on the server already, with other slices or voxels",
                source=stored.key,
                remedy="Upload it as it was, or as a series of its own with another SeriesInstanceUID.",
            )
        return are_there

    def _census(self, folder: Path) -> Census:
        census = Census()
        with self.open_source(folder) as source:
            for stored in source.scan():
                try:
                    self._take(stored, census)
                except TryLater:
                    raise
                except AnnotateError as error:
                    census.refused[stored.key] = error.problem()
                    census.unusable.append(Refused(stored, error.type, _reason(stored, error)))
        return census

    def _take(self, stored: StoredVolume, census: Census) -> None:
        if stored.problem is not None:
            raise error_of(stored.problem)
        if Acquisition(image_type=stored.image_type).is_localizer:
            raise NotMadeFor("it is a localizer, on which nothing is drawn", source=stored.key)
        digest = "" if stored.format is Format.DICOM and stored.series_uid else self._digest(stored, census)
        identity = case_id(stored, digest)
        role = str(stored.modality or "volume")
        census.cases.setdefault(identity, Case(identity, stored.patient, {role: stored}))
        if digest and digest in census.facts:
            census.facts[identity] = census.facts.pop(digest)

    def _digest(self, stored: StoredVolume, census: Census) -> str:
        """Return the digest of a volume's voxels: remembered while name, size and time of the file stay."""
        fingerprint = fingerprint_of(stored)
        known = self.identities.digest(fingerprint)
        if known is None:
            facts = self.compute.facts(VolumePlace(stored))
            census.facts[facts.digest] = facts
            known = facts.digest
            self.identities.remember(fingerprint, known)
        return known

    def _keep(self, census: Census, *, is_uploaded: bool) -> None:
        self.cases.put(census.cases.values(), is_uploaded=is_uploaded)
        self.cases.learn_all({key: facts for key, facts in census.facts.items() if key in census.cases})
        for tell in self.taken:
            tell(census.cases.values(), is_uploaded)


def _reason(stored: StoredVolume, error: AnnotateError) -> str:
    """Return why something cannot be used, and what to do, without the name of a file."""
    detail = error.detail.removeprefix(f"{stored.key}: ")
    return str(AnnotateError(detail, remedy=error.remedy))
