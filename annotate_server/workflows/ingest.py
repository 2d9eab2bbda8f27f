"""Ingest: what lies in the studies, or was uploaded, becomes cases. A renamed file is the same case."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from annotate_server.domain.case import Case, Format, StoredVolume, case_id
from annotate_server.domain.compute import Compute, VolumePlace
from annotate_server.domain.errors import (
    AnnotateError,
    NotMadeFor,
    Problem,
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


@dataclass
class Ingest:
    """Takes volumes in. `open_source` gives what lies below a folder."""

    cases: CaseStore
    identities: Identities
    compute: Compute
    open_source: OpenSource

    def scan(self, folder: Path) -> Census:
        """Bring the cases up to date with what lies below a folder; those that are gone are marked as missing."""
        census = self._census(folder)
        self._keep(census, is_uploaded=False)
        self.cases.keep_only(census.cases)
        log.info("%d cases, %d not usable", len(census.cases), len(census.refused), extra={"action": "scan"})
        return census

    def upload(self, folder: Path) -> tuple[KnownCase, ...]:
        """Take in what was uploaded into a folder, which stays; returns the cases found in it.

        Raises the problem of the first volume where none can be used, UnsupportedInput where there is none at all.
        """
        census = self._census(folder)
        if not census.cases:
            for problem in census.refused.values():
                raise error_of(problem)
            raise UnsupportedInput(
                "no volume was found in it", remedy="DICOM (one .zip), NIfTI, MetaImage and NRRD are read."
            )
        self._keep(census, is_uploaded=True)
        return tuple(self.cases.get(identity) for identity in census.cases)

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
        for identity, facts in census.facts.items():
            if identity in census.cases:
                self.cases.learn(identity, facts)
