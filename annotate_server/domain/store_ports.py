"""What the server keeps, as protocols: every method that changes something returns once it is on the disk.

Each change is one transaction together with its row of the audit trail; `person` is who did it. The stores may be used
from several threads.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from annotate_server.domain.annotation import Label, LabelState, Sending, SendingState, Session
from annotate_server.domain.case import Case
from annotate_server.domain.case_changes import CaseChanges
from annotate_server.domain.errors import Problem
from annotate_server.domain.geometry import Shape
from annotate_server.domain.job import EVERY_KIND, Again, Job, JobKinds, JobState, Priority, begun_twice
from annotate_server.domain.labelmap import LabelVoxels
from annotate_server.domain.person import Person, Role
from annotate_server.domain.project import CaseStatus, Project, WorkItem
from annotate_server.domain.stored import KnownCase, StoredPrediction, VolumeFacts
from annotate_server.domain.volume import Modality


class Blobs(Protocol):
    """Bytes by their SHA-256: written once, never changed."""

    def add_bytes(self, content: bytes) -> str:
        """Keep bytes and return their digest; they are on the disk, folder entry included, when this returns."""
        ...

    def adding(self) -> "AbstractContextManager[AddedBlob]":
        """Give a path to write a file at; on a clean exit it is kept under its digest, which is then in `.sha256`."""
        ...

    def read(self, sha256: str) -> bytes:
        """Return the bytes; StorageFailed where they are gone or no longer have their digest."""
        ...

    def path(self, sha256: str) -> Path:
        """Return where the blob lies."""
        ...


class AddedBlob(Protocol):
    """A blob in the making."""

    path: Path
    sha256: str


class DraftFiles(Protocol):
    """The drafts of open sessions, each a file of raw voxels that workers may map."""

    def path(self, session_id: str) -> Path:
        """Return where a session's draft lies."""
        ...

    def make(self, session_id: str, shape: Shape, dtype: str) -> LabelVoxels:
        """Return an empty draft (k, j, i), mapped for writing; NoSpace where the disk is full."""
        ...

    def remove(self, session_id: str) -> None:
        """Remove a draft."""
        ...


@dataclass(frozen=True)
class CaseFilter:
    """Which cases: those that agree with everything that is not None."""

    study_uid: str | None = None
    series_uid: str | None = None
    modality: Modality | None = None
    digest: str | None = None
    """That of the voxels and their grid; of a DICOM series only once it was read."""


@dataclass(frozen=True)
class CasePage:
    """A part of a list of cases, and how long the whole list is."""

    cases: tuple[KnownCase, ...]
    total: int


class CaseStore(Protocol):
    """The cases that the server knows."""

    @property
    def changed(self) -> CaseChanges:
        """Return which cases came, went, were called otherwise or read for the first time."""
        ...

    def put(self, cases: Iterable[Case], *, is_uploaded: bool = False) -> None:
        """Add cases, or bring the files of known ones up to date; facts and declared modality stay."""
        ...

    def get(self, case_id: str) -> KnownCase:
        """Return a case; raises NotFound."""
        ...

    def all(self) -> tuple[KnownCase, ...]:
        """Return every case, oldest first, then by key: with ten thousand cases this takes seconds."""
        ...

    def those(self, case_ids: Collection[str]) -> tuple[KnownCase, ...]:
        """Return the cases of these ids, oldest first, then by key; an id that is none is left out."""
        ...

    def page(self, chosen: CaseFilter, limit: int, offset: int = 0) -> CasePage:
        """Return a part of the cases that were chosen, oldest first, and how many there are."""
        ...

    def page_ids(self, chosen: CaseFilter, limit: int, offset: int = 0) -> tuple[tuple[str, ...], int]:
        """Return the ids of such a part alone, and how many there are."""
        ...

    def learn(self, case_id: str, facts: VolumeFacts) -> None:
        """Remember what reading the voxels told."""
        ...

    def learn_all(self, facts: Mapping[str, VolumeFacts]) -> None:
        """Remember what reading the voxels of many cases told, by their ids; all of it, or none."""
        ...

    def declare(self, case_id: str, modality: Modality, person: Person) -> None:
        """Remember the modality of a case whose file names none."""
        ...

    def keep_only(self, present: Iterable[str]) -> None:
        """Mark every case that is neither among `present` nor uploaded as missing, the others as there."""
        ...


class Identities(Protocol):
    """Digests of voxels by the fingerprint of their files: what is forgotten is only read again."""

    def digest(self, fingerprint: str) -> str | None:
        """Return the digest of the voxels of files with this fingerprint."""
        ...

    def remember(self, fingerprint: str, digest: str) -> None:
        """Keep a digest."""
        ...


class ProjectStore(Protocol):
    """Projects, and where each case stands in them."""

    def add(self, project: Project, person: Person) -> None:
        """Add a project; StateError where the id is taken."""
        ...

    def change(self, project: Project, person: Person) -> None:
        """Replace a project's description; raises NotFound."""
        ...

    def get(self, project_id: str) -> Project:
        """Return a project; raises NotFound."""
        ...

    def all(self) -> tuple[Project, ...]:
        """Return every project, sorted by id."""
        ...

    def items(self, project_id: str, now: datetime) -> tuple[WorkItem, ...]:
        """Return where every case of the project stands, oldest case first.

        A session is live while `now` is before the end of its lease.
        """
        ...

    def item(self, project_id: str, case_id: str, now: datetime) -> WorkItem:
        """Return where one case stands; raises NotFound."""
        ...

    def mark(self, item: WorkItem, status: CaseStatus, reason: str, person: Person) -> None:
        """Put a case aside as unusable, or back (status OPEN)."""
        ...


class SessionStore(Protocol):
    """Annotation sessions with their event log."""

    def open(self, session: Session, person: Person) -> None:
        """Add a session; raises CaseTaken where a live one is open on the same case of the same project.

        A session there whose lease has run out is marked as expired in the same transaction.
        """
        ...

    def get(self, session_id: str) -> Session:
        """Return a session with its interactions; raises NotFound. One whose lease ran out is still OPEN here."""
        ...

    def of_person(self, person: str) -> tuple[Session, ...]:
        """Return the sessions of a person that were not submitted, newest first, without their interactions."""
        ...

    def record(self, session: Session, person: Person) -> None:
        """Keep the newest interaction, `session.interactions[-1]`, and give up the events from its number on.

        Raises StaleRevision where the stored revision is not `session.revision - 1`.
        """
        ...

    def move(self, session: Session, person: Person) -> None:
        """Keep how many interactions are in force, the revision, the segments and the locks (undo, redo, lock)."""
        ...

    def renew(self, session_id: str, lease_until: datetime, active_s: float) -> None:
        """Keep the end of the lease and the seconds of activity; no row in the audit trail."""
        ...

    def end(self, session: Session, person: Person) -> None:
        """Keep that a session was left or has expired."""
        ...

    def resume(self, session: Session, person: Person) -> None:
        """Keep that a session is open again; CaseTaken where another live one is open on the case."""
        ...

    def keep_snapshot(self, session_id: str, number: int, sha256: str) -> None:
        """Keep the blob of the whole draft after the first `number` interactions."""
        ...

    def snapshot(self, session_id: str, number: int) -> tuple[int, str] | None:
        """Return the newest snapshot that still holds after at most `number` interactions, as (number, blob)."""
        ...


class LabelStore(Protocol):
    """Accepted labels: append-only."""

    @property
    def changed(self) -> CaseChanges:
        """Return which cases got a label or a verdict."""
        ...

    def accept(self, label: Label, session: Session | None, person: Person) -> None:
        """Keep a label and, where given, end its session, in one transaction with the case's new standing."""
        ...

    def get(self, label_id: str) -> Label:
        """Return a label; raises NotFound."""
        ...

    def of_case(self, project_id: str, case_id: str) -> tuple[Label, ...]:
        """Return the labels of a case in a project, oldest first."""
        ...

    def of_state(self, project_id: str, state: LabelState) -> tuple[Label, ...]:
        """Return the newest label of every case of a project where it is in this state, oldest first."""
        ...

    def of_every_project(self, case_id: str | None = None) -> tuple[Label, ...]:
        """Return the labels of a case in all projects, or those of all cases, oldest first."""
        ...

    def of_cases(self, case_ids: Collection[str]) -> tuple[Label, ...]:
        """Return the labels of these cases in all projects, oldest first."""
        ...

    def labelled(self) -> int:
        """Return how many cases have a label in some project."""
        ...

    def review(self, label: Label, person: Person) -> None:
        """Keep a verdict; StateError where the stored label was reviewed meanwhile."""
        ...


class SendingStore(Protocol):
    """Which labels go back to the archive: a label of a project that wants it is pending from its approval on."""

    def due(self, now: datetime, limit: int = 20) -> tuple[str, ...]:
        """Return the labels that are to be sent now, those that have waited longest first."""
        ...

    def keep(self, label_id: str, sending: Sending) -> None:
        """Keep how far a label is."""
        ...

    def counts(self) -> Mapping[SendingState, int]:
        """Return how many labels are how far."""
        ...


class PredictionStore(Protocol):
    """Whole drafts, made at any time."""

    @property
    def changed(self) -> CaseChanges:
        """Return which cases got a prediction."""
        ...

    def add(self, prediction: StoredPrediction) -> None:
        """Keep a prediction."""
        ...

    def get(self, prediction_id: str) -> StoredPrediction:
        """Return a prediction; raises NotFound."""
        ...

    def newest(self, case_id: str, models: Sequence[str] = ()) -> StoredPrediction | None:
        """Return the newest prediction for a case, of one of `models` where any are given."""
        ...

    def of_case(self, case_id: str) -> tuple[StoredPrediction, ...]:
        """Return every prediction for a case, oldest first."""
        ...

    def newest_of(self, case_ids: Collection[str]) -> tuple[StoredPrediction, ...]:
        """Return the newest prediction of each of these cases that has one."""
        ...

    def newest_of_all(self) -> tuple[StoredPrediction, ...]:
        """Return the newest prediction of every case that has one."""
        ...


class JobQueue(Protocol):
    """Long work that outlives the process that was asked for it."""

    def add(self, job: Job) -> None:
        """Keep a queued job."""
        ...

    def get(self, job_id: str) -> Job:
        """Return a job; raises NotFound."""
        ...

    def all(self, state: JobState | None = None, limit: int = 200, kind: str | None = None) -> tuple[Job, ...]:
        """Return jobs, newest first: of any kind, or of one."""
        ...

    def same(self, job: Job) -> Job | None:
        """Return a job with the same kind and order that has not ended, if there is one."""
        ...

    def claim(self, kinds: JobKinds = EVERY_KIND) -> Job | None:
        """Return the next job as running: highest priority, then the person who was served longest ago, then age."""
        ...

    def advance(self, job_id: str, progress: float, message: str) -> None:
        """Keep how far a running job is."""
        ...

    def finish(self, job_id: str, result: Mapping[str, str]) -> Job:
        """Keep that a running job succeeded, and return it."""
        ...

    def fail(self, job_id: str, problem: Problem) -> Job:
        """Keep that a running job failed, and return it."""
        ...

    def cancel(self, job_id: str) -> Job:
        """Keep that a queued or running job was cancelled, and return it; StateError where it has ended."""
        ...

    def put_back(self, job_id: str, *, counts: bool = True) -> Job:
        """Put a running job back into the queue and return it; where not `counts`, this attempt is forgotten."""
        ...

    def has_waiting(self, priority: Priority, kinds: JobKinds = EVERY_KIND) -> bool:
        """Say whether a job of at least this priority is queued."""
        ...

    def recover(
        self, problem: Problem, again: Callable[[Job], Again] = begun_twice, kinds: JobKinds = EVERY_KIND
    ) -> None:
        """Put running jobs back into the queue after a crash; those that are not begun again fail with `problem`."""
        ...


@dataclass(frozen=True)
class User:
    """Somebody who may sign in."""

    name: str
    role: Role
    made_at: datetime


class UserStore(Protocol):
    """Who may sign in, by token; only digests of tokens are kept."""

    def add(self, name: str, role: Role) -> str:
        """Add a person, or give a known one a new role and token, and return the token: it is shown only once."""
        ...

    def remove(self, name: str) -> None:
        """Let nobody sign in by this name; raises NotFound."""
        ...

    def all(self) -> tuple[User, ...]:
        """Return everybody, sorted by name."""
        ...

    def by_token(self, token: str) -> Person | None:
        """Return whose token this is; compared in constant time."""
        ...
