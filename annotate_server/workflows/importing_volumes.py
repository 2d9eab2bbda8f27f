"""Volumes of another program's folder become cases: copied into the workspace, or left where they lie."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from annotate_server.domain.case import Case, Format, StoredVolume, case_id
from annotate_server.domain.errors import (
    NotFound,
    NotMadeFor,
    StateError,
    UnreadableFile,
    UnsupportedInput,
    error_of,
)
from annotate_server.domain.person import Person
from annotate_server.domain.ports import VolumeReader
from annotate_server.domain.store_ports import CaseStore, Identities
from annotate_server.domain.stored import KnownCase, VolumeFacts
from annotate_server.domain.volume import Acquisition, Modality
from annotate_server.imaging.foreign_datastore import ForeignVolume
from annotate_server.imaging.whole_file import PART_PREFIX, whole_file
from annotate_server.workflows.answer import facts_of
from annotate_server.workflows.fingerprint import fingerprint_of

_HALVES = (".mhd", ".nhdr", ".hdr", ".img")
"""Files whose voxels, or whose header, are in another file."""


@dataclass(frozen=True)
class TakenVolume:
    """A volume that is a case: `is_new` says that it was none before."""

    case_id: str
    facts: VolumeFacts
    modality: Modality | None
    is_new: bool


@dataclass(frozen=True)
class Taking:
    """How volumes are taken: `modality` is that of files that name none."""

    modality: Modality | None = None
    is_in_place: bool = False
    is_tried_only: bool = False


@dataclass(frozen=True)
class VolumeIntake:
    """Takes volumes in. `scan` lists what lies at a path; copies go below `folder`, which a backup includes."""

    cases: CaseStore
    identities: Identities
    reader: VolumeReader
    scan: Callable[[Path], Iterable[StoredVolume]]
    folder: Path

    def take(self, foreign: ForeignVolume, taking: Taking, person: Person) -> TakenVolume:
        """Make a volume a case, unless it is one with its files there.

        Raises an InputError where it cannot be read, NotMadeFor for a localizer, StateError where its series is a case
        with other voxels, NoSpace.
        """
        stored = self._found(foreign)
        fingerprint = fingerprint_of(stored)
        digest, facts = self.identities.digest(fingerprint), None
        if digest is None:
            facts = facts_of(self.reader.read(stored))
            digest = facts.digest
            self.identities.remember(fingerprint, digest)
        identity = case_id(stored, digest)
        known = self._known(identity, digest)
        facts = facts or (known.facts if known else None) or facts_of(self.reader.read(stored))
        is_there = known is not None and self._is_kept(known, stored, taking)
        modality = stored.modality or (known.declared if known else None) or taking.modality
        if not taking.is_tried_only:
            if not is_there:
                placed = stored if taking.is_in_place else self._copied(foreign, stored, identity)
                case = Case(identity, stored.patient, {str(stored.modality or "volume"): placed})
                self.cases.put([case], is_uploaded=not taking.is_in_place)
            if known is None or known.facts is None:
                self.cases.learn(identity, facts)
            if modality is not None and stored.modality is None and (known is None or known.declared is None):
                self.cases.declare(identity, modality, person)
        return TakenVolume(identity, facts, modality, is_new=not is_there)

    def _found(self, foreign: ForeignVolume) -> StoredVolume:
        """Return the one volume at a path."""
        found = tuple(self.scan(foreign.path))
        if len(found) != 1:
            what = f"it holds {len(found)} volumes" if found else "no volume was found in it"
            raise UnsupportedInput(what, remedy="DICOM, NIfTI, MetaImage and NRRD are read, one volume each.")
        (stored,) = found
        if stored.problem is not None:
            raise error_of(stored.problem)
        if Acquisition(image_type=stored.image_type).is_localizer:
            raise NotMadeFor("it is a localizer, on which nothing is drawn")
        return stored

    def _known(self, identity: str, digest: str) -> KnownCase | None:
        try:
            known = self.cases.get(identity)
        except NotFound:
            return None
        if known.facts is not None and known.facts.digest != digest:
            raise StateError("its series is in the workspace already, with other slices or voxels")
        return known

    def _is_kept(self, known: KnownCase, stored: StoredVolume, taking: Taking) -> bool:
        """Say whether a case has its files, and, where copies are wanted, not only those that are to be copied."""
        files = known.case.reference.files
        return all(path.exists() for path in files) and (taking.is_in_place or files != stored.files)

    def _copied(self, foreign: ForeignVolume, stored: StoredVolume, identity: str) -> StoredVolume:
        """Return a volume whose files are the workspace's own; they are on the disk, and called by number."""
        if any(path.suffix.lower() in _HALVES for path in stored.files):
            raise UnsupportedInput(
                "its voxels are in a file beside it",
                remedy="Save it as one file (.nii.gz, .nrrd, .mha), or leave all volumes where they lie: --in-place.",
            )
        for left in (self.folder / identity).glob(f"{PART_PREFIX}*"):
            left.unlink(missing_ok=True)  # of an import that was killed
        before = fingerprint_of(stored)
        copies = tuple(
            self.folder / identity / f"{number:05}{_suffix(path)}" for number, path in enumerate(stored.files)
        )
        for path, copy in zip(stored.files, copies, strict=True):
            with whole_file(copy) as temporary:
                shutil.copyfile(path, temporary)
        if fingerprint_of(stored) != before:
            raise UnreadableFile("it changed while it was copied", remedy="Stop the other server, and import again.")
        is_named = stored.format is Format.DICOM
        return replace(stored, files=copies, description=stored.description if is_named else foreign.name)


def _suffix(path: Path) -> str:
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()
