"""DICOM instances that were sent to be kept: each is answered for by itself (PS3.18 section 10.5)."""

import filecmp
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path

import numpy as np

from annotate_server.domain.dicom_uids import is_uid
from annotate_server.domain.errors import AnnotateError, NotFound, NotMadeFor, TryLater, UnsupportedInput
from annotate_server.domain.stored import KnownCase
from annotate_server.imaging.dicom_instances import DescribedInstance
from annotate_server.workflows.dicom_file_series import FileSeries
from annotate_server.workflows.dicom_serving import DicomServing
from annotate_server.workflows.ingest import Ingest

_STUDY, _SERIES, _SYNTAX = "0020000D", "0020000E", "00083002"


class Refusal(IntEnum):
    """Why an instance was not kept (0008,1197): PS3.18 table I.2-2, PS3.4 table B.2-1, PS3.7 annex C."""

    PROCESSING = 0x0110
    DUPLICATE = 0x0111
    CLASS_NOT_SUPPORTED = 0x0122
    OTHER_STUDY = 0xA900
    NOT_UNDERSTOOD = 0xC000


@dataclass(frozen=True)
class Sent:
    """An instance that was sent, as far as it could be read, and why it was not kept (None: it was)."""

    sop_class: str = ""
    sop_instance: str = ""
    study: str = ""
    series: str = ""
    refusal: Refusal | None = None


@dataclass
class DicomStoring:
    """Takes instances in. A series may come in several requests until somebody has opened it."""

    ingest: Ingest
    serving: DicomServing
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)

    def store(self, files: Sequence[Path], study: str | None, settle: Callable[[], Path]) -> tuple[Sent, ...]:
        """Return what became of each file; `study` is the only one that they may belong to, where one is named.

        The files lie in one folder that nobody knows yet; `settle` gives it its name. What is not kept is removed.
        """
        with self._turn:
            sent = {path: self._looked_at(found, study) for path, found in self.serving.parser.describe(files)}
            sent = self._told_apart(sent)
            for path, each in sent.items():
                if each.refusal is None:
                    sent[path] = self._placed(path, each)
            for path, each in sent.items():
                if each.refusal is not None:
                    path.unlink(missing_ok=True)
            if any(path.exists() for path in sent):
                sent = self._taken_in(sent, settle())
            return tuple(sent.values())

    def _looked_at(self, found: DescribedInstance | None, study: str | None) -> Sent:
        """Return an instance with what is wrong with it by itself."""
        if found is None:
            return Sent(refusal=Refusal.NOT_UNDERSTOOD)
        attributes = json.loads(found.attributes)
        uids = (_word(attributes, _STUDY), _word(attributes, _SERIES))
        instance = found.instance
        if not all(map(is_uid, (instance.sop_class, instance.sop_instance, *uids))):
            return Sent(refusal=Refusal.NOT_UNDERSTOOD)
        refusal = Refusal.OTHER_STUDY if study is not None and uids[0] != study else None
        return Sent(instance.sop_class, instance.sop_instance, *uids, refusal=refusal)

    def _told_apart(self, sent: Mapping[Path, Sent]) -> dict[Path, Sent]:
        """Return the same with what was sent more than once: another file under the same name is refused."""
        first: dict[tuple[str, str], Path] = {}
        result = dict(sent)
        for path, each in sent.items():
            if each.refusal is None:
                earlier = first.setdefault((each.series, each.sop_instance), path)
                if earlier != path and not self._are_same(earlier, path):
                    result[path] = replace(each, refusal=Refusal.DUPLICATE)
        return result

    def _placed(self, path: Path, sent: Sent) -> Sent:
        """Return an instance with what speaks against it in the series that is there; one that is there is dropped."""
        try:
            shelved = self.serving.shelf.series(sent.study, sent.series)
        except NotFound:
            return sent
        if self._has(sent):
            kept = self._file_of(sent)
            is_same = kept is not None and self._are_same(kept, path)
            path.unlink()
            return sent if is_same else replace(sent, refusal=Refusal.DUPLICATE)
        known = [self.serving.cases.get(each.case_id) for each in shelved.cases]
        if not all(each.is_uploaded and each.facts is None for each in known):
            return replace(sent, refusal=Refusal.PROCESSING)
        self._bring(known, path.parent)
        return sent

    def _has(self, sent: Sent) -> bool:
        try:
            return sent.sop_instance in self.serving.series(sent.study, sent.series).uids
        except AnnotateError:
            return False

    def _file_of(self, sent: Sent) -> Path | None:
        """Return where an instance lies that is here."""
        found = self.serving.series(sent.study, sent.series)
        instances = found.instances if isinstance(found, FileSeries) else ()
        return next((each.path for each in instances if each.sop_instance == sent.sop_instance), None)

    def _are_same(self, one: Path, other: Path) -> bool:
        """Say whether two files hold the same instance: the same bytes, or the same attributes and voxels."""
        if filecmp.cmp(one, other, shallow=False):
            return True
        parser = self.serving.parser
        described = [found for _, found in parser.describe((one, other)) if found is not None]
        if len(described) != 2 or len({_without_syntax(each.attributes) for each in described}) != 1:
            return False
        try:
            first, second = (
                parser.decoded(each.instance.path, tuple(range(each.instance.frames))) for each in described
            )
        except AnnotateError:
            return False
        return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))

    def _bring(self, known: Sequence[KnownCase], folder: Path) -> None:
        """Put what is there of a series beside what was sent: both are one volume. Links cost no space."""
        for case in known:
            for file in case.case.reference.files:
                linked = folder / f"{file.parent.name}-{file.name}"
                if not linked.exists():
                    os.link(file, linked)

    def _taken_in(self, sent: Mapping[Path, Sent], folder: Path) -> dict[Path, Sent]:
        """Return what became of files that are now in `folder`: kept is what is in a case."""
        refusal, kept = Refusal.PROCESSING, frozenset[str]()
        try:
            known = self.ingest.upload(folder)
            kept = frozenset(file.name for each in known for file in each.case.reference.files)
        except TryLater:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        except (NotMadeFor, UnsupportedInput):
            refusal = Refusal.CLASS_NOT_SUPPORTED
        except AnnotateError:
            pass  # the refusal of each file says so
        for left in folder.iterdir():
            if left.name not in kept:
                left.unlink()
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
        return {
            path: each
            if each.refusal is not None or path.name in kept or self._has(each)
            else replace(each, refusal=refusal)
            for path, each in sent.items()
        }


def _without_syntax(attributes: str) -> str:
    """Return attributes as text without how the voxels are encoded, which an archive may change on the way."""
    return json.dumps({tag: value for tag, value in json.loads(attributes).items() if tag != _SYNTAX})


def _word(attributes: Mapping[str, Mapping[str, Sequence[str]]], tag: str) -> str:
    values = attributes.get(tag, {}).get("Value", [])
    return str(values[0]) if values else ""
