"""Which studies and series there are: a slim index over the cases, so that no request reads them all."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from annotate_server.domain.case import Case, Format
from annotate_server.domain.dicom_uids import series_uid, study_uid
from annotate_server.domain.errors import NotFound
from annotate_server.domain.store_ports import CaseStore


@dataclass(frozen=True, slots=True)
class Shelved:
    """A case in the index; `first` is its first file where it is DICOM, `files` how many there are."""

    case_id: str
    study: str
    series: str
    first: Path | None
    files: int
    is_uploaded: bool


@dataclass(frozen=True, slots=True)
class ShelvedSeries:
    """The cases of one series: several where it holds several volumes."""

    study: str
    series: str
    cases: tuple[Shelved, ...]

    @property
    def first(self) -> Path | None:
        """Return the first file; None for a volume that is no DICOM."""
        return self.cases[0].first


@dataclass
class Shelf:
    """The index, filled from the store when it is first asked, and kept up by who takes cases in; thread-safe."""

    cases: CaseStore
    _by_id: dict[str, Shelved] | None = field(default=None, init=False)
    _studies: Mapping[str, Mapping[str, ShelvedSeries]] | None = field(default=None, init=False)
    _turn: threading.RLock = field(default_factory=threading.RLock, init=False)

    def take(self, cases: Iterable[Case], *, is_uploaded: bool) -> None:
        """Take in what a scan found (the whole of it: what else was scanned before is gone), or what was uploaded."""
        with self._turn:
            if self._by_id is None:
                return
            kept = self._by_id if is_uploaded else {k: v for k, v in self._by_id.items() if v.is_uploaded}
            self._by_id = kept | {case.id: _shelved(case, is_uploaded=is_uploaded) for case in cases}
            self._studies = None

    def studies(self) -> tuple[tuple[ShelvedSeries, ...], ...]:
        """Return the series of every study."""
        return tuple(tuple(series.values()) for series in self._index().values())

    def study(self, study: str) -> tuple[ShelvedSeries, ...]:
        """Return the series of a study; raises NotFound."""
        found = self._index().get(study)
        if found is None:
            raise NotFound("there is no such study here")
        return tuple(found.values())

    def series(self, study: str, series: str) -> ShelvedSeries:
        """Return a series of a study; raises NotFound."""
        found = self._index().get(study, {}).get(series)
        if found is None:
            raise NotFound("there is no such series here")
        return found

    def case_ids(self, study: str) -> tuple[str, ...]:
        """Return the cases of a study; none where there is no such study."""
        found = self._index().get(study, {})
        return tuple(case.case_id for series in found.values() for case in series.cases)

    def _index(self) -> Mapping[str, Mapping[str, ShelvedSeries]]:
        with self._turn:
            if self._by_id is None:
                known = (each for each in self.cases.all() if not each.is_missing)
                self._by_id = {each.id: _shelved(each.case, is_uploaded=each.is_uploaded) for each in known}
            if self._studies is None:
                self._studies = _by_study(self._by_id.values())
            return self._studies


def _shelved(case: Case, *, is_uploaded: bool) -> Shelved:
    reference = case.reference
    first = reference.files[0] if reference.format is Format.DICOM else None
    return Shelved(case.id, study_uid(case), series_uid(case), first, len(reference.files), is_uploaded)


def _by_study(cases: Iterable[Shelved]) -> Mapping[str, Mapping[str, ShelvedSeries]]:
    grouped: dict[str, dict[str, list[Shelved]]] = {}
    for each in cases:
        grouped.setdefault(each.study, {}).setdefault(each.series, []).append(each)
    return {
        study: {uid: ShelvedSeries(study, uid, tuple(members)) for uid, members in series.items()}
        for study, series in grouped.items()
    }
