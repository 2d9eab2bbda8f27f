"""The studies as DICOMweb serves them: found by their identifiers, opened, and a few of them kept open."""

import gzip
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from annotate_server.domain.case import Case, Format, StoredVolume
from annotate_server.domain.dicom_uids import is_uid, series_uid, slice_uid, study_uid
from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.store_ports import CaseStore
from annotate_server.domain.stored import KnownCase
from annotate_server.imaging.dicom_instances import Look, PartSlices
from annotate_server.imaging.made_series import head_of
from annotate_server.workflows.dicom_file_series import Descriptions, DicomParser, file_series, files_tag
from annotate_server.workflows.dicom_payload import Payload
from annotate_server.workflows.dicom_shelf import Shelf, ShelvedSeries
from annotate_server.workflows.dicom_volume_series import VolumeSource

Json = dict[str, Any]

_HEAD_TAGS = (
    "00080020 00080030 00080050 00080090 00081010 00080070 00080080 00081090 00081030 00100010 00100020 00100021 "
    "00100030 00100040 00101010 00101020 00101030 0020000D 00200010 00080021 00080031 00080060 0008103E 00180015 "
    "00180024 00181030 00200011 0020000E 00200052 00400244 00400245"
)
HEAD_TAGS = frozenset(_HEAD_TAGS.split())
"""What is known of a series without opening it: what studies and series are searched by, and listed with."""
_MOST_OPEN = 12
_FRESH_S = 20.0
"""For so long the files of an open series are not looked at again; each is whenever it is read."""


class ServedSeries(Protocol):
    """A series that is open: the same from files and from a volume. Frames count from 0."""

    @property
    def tag(self) -> str:
        """Return a word that changes with anything that is served."""
        ...

    @property
    def uids(self) -> tuple[str, ...]:
        """Return the instances in order."""
        ...

    def metadata(self) -> bytes:
        """Return the attributes of all instances as a gzipped JSON list."""
        ...

    def attributes(self, uid: str) -> Mapping[str, Any]:
        """Return the attributes of an instance; raises NotFound."""
        ...

    def frame_count(self, uid: str) -> int:
        """Return how many frames an instance has; raises NotFound."""
        ...

    def syntax(self, uid: str) -> str:
        """Return the transfer syntax of an instance's frames as they are stored; raises NotFound."""
        ...

    def file_syntax(self, uid: str) -> str:
        """Return the transfer syntax of an instance's file; raises NotFound."""
        ...

    def frames(self, uid: str, numbers: Sequence[int], *, is_as_stored: bool) -> Iterator[Payload]:
        """Yield frames, as they are stored or as plain little endian."""
        ...

    def file(self, uid: str, *, is_as_stored: bool) -> Payload:
        """Return an instance as a file."""
        ...

    def picture(self, uid: str, frame: int, look: Look) -> bytes:
        """Return a frame as a picture."""
        ...


@dataclass(frozen=True)
class ShownSlice:
    """Slice k of a case: the frame (from 1, as DICOMweb counts) of an instance.

    `shift_ji` says how far, in voxels, its first voxel lies from that of the case's grid: not 0 for a tilted gantry.
    """

    sop_instance_uid: str
    frame: int
    k: int
    shift_ji: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class ShownAs:
    """How a viewer finds a case."""

    study_uid: str
    series_uid: str
    slices: tuple[ShownSlice, ...] = ()


def _nothing_elsewhere(stored: StoredVolume) -> PartSlices | None:
    """Return that the files of a volume are here."""
    return None


@dataclass
class DicomServing:
    """Studies, series and instances by their identifiers; thread-safe.

    `slices_elsewhere` knows the slices of volumes whose files need not be here.
    """

    cases: CaseStore
    shelf: Shelf
    volumes: VolumeSource
    parser: DicomParser
    descriptions: Descriptions
    clock: Callable[[], float] = time.monotonic
    slices_elsewhere: Callable[[StoredVolume], PartSlices | None] = _nothing_elsewhere
    _open: OrderedDict[tuple[str, str], tuple[float, ServedSeries]] = field(default_factory=OrderedDict, init=False)
    _heads: dict[str, str] = field(default_factory=dict, init=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)
    _opening: threading.Lock = field(default_factory=threading.Lock, init=False)

    def series(self, study: str, series: str) -> ServedSeries:
        """Return a series, opened where it is not; raises NotFound and the errors of reading it."""
        shelved = self.shelf.series(study, series)
        kept = self._kept(study, series)
        if kept is None:
            with self._opening:  # OHIF asks for the same series many times at once
                kept = self._kept(study, series) or self._opened(shelved)
        return kept

    def study(self, study: str) -> Iterator[ServedSeries]:
        """Yield the series of a study; raises NotFound at once where there is none."""
        every = self.shelf.study(study)
        return (self.series(study, each.series) for each in every)

    def take(self, cases: Iterable[Case], is_uploaded: bool) -> None:
        """Take in what a scan or an upload brought."""
        brought = tuple(cases)
        self.shelf.take(brought, is_uploaded=is_uploaded)
        if is_uploaded:
            self.forget(case.id for case in brought)

    def forget(self, case_ids: Iterable[str]) -> None:
        """Open cases anew when they are asked for next: something about them has changed."""
        with self._turn:
            self._open.clear()
            for case_id in case_ids:
                self._heads.pop(f"case {case_id}", None)

    def shown_as(self, known: KnownCase) -> ShownAs:
        """Return where a viewer finds a case and its slices; raises the errors of reading it."""
        case = known.case
        uids = study_uid(case), series_uid(case)
        if case.reference.format is not Format.DICOM:
            count = known.facts.geometry.shape[0] if known.facts is not None else 0
            return ShownAs(*uids, tuple(ShownSlice(slice_uid(case, k), 1, k) for k in range(count)))
        key = f"slices 2 {case.reference.part} {files_tag(case.reference.files)}"
        kept = self.descriptions.get(key)
        if kept is not None:
            slices, shifts = json.loads(kept)
        else:
            found = self.slices_elsewhere(case.reference) or self.parser.slices(case.reference)
            slices, shifts = found.slices, found.shifts or [(0.0, 0.0)] * len(found.slices)
            self.descriptions.put(key, json.dumps([slices, shifts]).encode())
        if not all(is_uid(uid) for uid, _ in slices):
            return ShownAs(*uids)
        placed = enumerate(zip(slices, shifts, strict=True))
        return ShownAs(*uids, tuple(ShownSlice(uid, frame + 1, k, (j, i)) for k, ((uid, frame), (j, i)) in placed))

    def heads(self, every: Iterable[ShelvedSeries]) -> Iterator[tuple[ShelvedSeries, Json]]:
        """Yield for each series what is known of it without opening it, the number of its instances included."""
        listed = list(every)
        keys = [self._head_key(each) for each in listed]
        self._learn([(each, key) for each, key in zip(listed, keys, strict=True) if key not in self._heads])
        for each, key in zip(listed, keys, strict=True):
            text = self._heads.get(key)
            if text is not None:
                yield each, cast("Json", json.loads(text))

    def _head_key(self, shelved: ShelvedSeries) -> str:
        if shelved.first is None:
            return f"case {shelved.cases[0].case_id}"
        return f"head 1 {shelved.study} {shelved.series} {self._count(shelved)} {files_tag((shelved.first,))}"

    def _count(self, shelved: ShelvedSeries) -> int:
        return len(self._files(shelved)) if len(shelved.cases) > 1 else shelved.cases[0].files

    def _files(self, shelved: ShelvedSeries) -> tuple[Path, ...]:
        """Return the files of all volumes of a series; one file may hold several."""
        known = (self.cases.get(each.case_id) for each in shelved.cases)
        return tuple(dict.fromkeys(path for each in known for path in each.case.reference.files))

    def _learn(self, unknown: Sequence[tuple[ShelvedSeries, str]]) -> None:
        """Find out the heads of series."""
        to_read: dict[Path, tuple[ShelvedSeries, str]] = {}
        for shelved, key in unknown:
            if shelved.first is None:
                self._heads[key] = self._head_of_volume(shelved)
            elif (kept := self.descriptions.get(key)) is not None:
                self._heads[key] = kept.decode()
            else:
                to_read[shelved.first] = (shelved, key)
        for path, described in self.parser.describe(list(to_read)):
            shelved, key = to_read[path]
            found = {} if described is None else json.loads(described.attributes)
            text = json.dumps(self._head_of_file(shelved, found), separators=(",", ":"))
            self._heads[key] = text
            if described is not None:
                self.descriptions.put(key, text.encode())

    def _head_of_volume(self, shelved: ShelvedSeries) -> str:
        known = self.cases.get(shelved.cases[0].case_id)
        count = known.facts.geometry.shape[0] if known.facts is not None else None
        number = {"00201209": {"vr": "IS", "Value": [count]}} if count else {}
        return json.dumps({**head_of(known), **number}, separators=(",", ":"))

    def _head_of_file(self, shelved: ShelvedSeries, attributes: Json) -> Json:
        return {
            **{tag: value for tag, value in attributes.items() if tag in HEAD_TAGS},
            "0020000D": {"vr": "UI", "Value": [shelved.study]},
            "0020000E": {"vr": "UI", "Value": [shelved.series]},
            "00201209": {"vr": "IS", "Value": [self._count(shelved)]},
        }

    def _kept(self, study: str, series: str) -> ServedSeries | None:
        with self._turn:
            until, found = self._open.get((study, series), (0.0, None))
            if found is None or self.clock() > until:
                return None
            self._open.move_to_end((study, series))
            return found

    def _opened(self, shelved: ShelvedSeries) -> ServedSeries:
        found: ServedSeries
        if shelved.first is None:
            found = self.volumes.series(self.cases.get(shelved.cases[0].case_id))
        else:
            uids = shelved.study, shelved.series
            found = file_series(uids, self._files(shelved), self.parser, self.descriptions)
        with self._turn:
            self._open[shelved.study, shelved.series] = (self.clock() + _FRESH_S, found)
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        return found


def slices_or_none(serving: DicomServing, known: KnownCase) -> ShownAs:
    """Return where a viewer finds a case, without slices where its files cannot be looked into."""
    try:
        return serving.shown_as(known)
    except AnnotateError:
        return ShownAs(study_uid(known.case), series_uid(known.case))


def joined_metadata(every: Sequence[ServedSeries]) -> bytes:
    """Return the attributes of all instances of several series as a gzipped JSON list."""
    if len(every) == 1:
        return every[0].metadata()
    inner = [gzip.decompress(series.metadata())[1:-1] for series in every]
    return gzip.compress(b"[" + b",".join(inner) + b"]", 3, mtime=0)


def one_metadata(series: ServedSeries, uid: str) -> bytes:
    """Return the attributes of one instance as a gzipped JSON list."""
    return gzip.compress(json.dumps([series.attributes(uid)], separators=(",", ":")).encode(), 3, mtime=0)
